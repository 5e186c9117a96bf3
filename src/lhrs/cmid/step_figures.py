"""What a step looks like: views, what the student saw, what it painted, and which cells were paired."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lhrs.cmid.masking import fill_with_mean, to_pixels
from lhrs.cmid.model import CMID

_ROWS = 6
_PAIRS = 5


@torch.no_grad()
def draw_step(module: CMID, pixels: Tensor, batch: dict[str, Tensor], mean: Tensor, std: Tensor, path: Path) -> None:
    """Write a picture: a row per image with both views, the masked first view, its reconstruction; lines join pairs.

    Args:
        module: as it is now; its statistics stay.
        pixels: `(2B, C, S, S)` normalized.
        batch: of `lhrs.cmid.two_views.collate`.
        mean: `(C,)`.
        std: `(C,)`.
        path: PNG to write.
    """
    half, size = len(pixels) // 2, pixels.shape[-1]
    rows = min(_ROWS, half)
    columns = [pixels[:rows], pixels[half : half + rows]]
    if module.masked is not None:
        was = module.training
        module.eval()
        mask = batch["mask"][:rows]
        hidden = to_pixels(mask, pixels.shape[-2:])
        shown = fill_with_mean(pixels[:rows], hidden)
        painted = module.masked.reconstruct(module.student(shown, mask))
        columns += [shown, torch.where(hidden > 0, painted, pixels[:rows])]
        module.train(was)
    wide = torch.cat([_to_rgb(column.cpu(), mean, std) for column in columns], 2)
    picture = Image.fromarray(torch.cat(list(wide), 0).numpy())
    pen, grid = ImageDraw.Draw(picture), module.student.grid
    for row in range(rows):
        kept = [
            pair
            for pair, close in zip(batch["pairs"][row].tolist(), batch["close"][row].tolist(), strict=True)
            if close
        ]
        for n, (one, two) in enumerate(kept[:_PAIRS]):
            ends = [_centre(cell % grid**2, grid, size) for cell in (one, two)]
            (x1, y1), (x2, y2) = ends
            color = tuple(
                int(c) for c in np.array([[255, 64, 64], [64, 255, 64], [96, 96, 255], [255, 255, 0], [255, 0, 255]])[n]
            )
            pen.line([x1, y1 + row * size, x2 + size, y2 + row * size], fill=color)
            pen.ellipse([x1 - 2, y1 + row * size - 2, x1 + 2, y1 + row * size + 2], outline=color)
            pen.ellipse([x2 + size - 2, y2 + row * size - 2, x2 + size + 2, y2 + row * size + 2], outline=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def _centre(cell: int, grid: int, size: int) -> tuple[float, float]:
    return (cell % grid + 0.5) / grid * size, (cell // grid + 0.5) / grid * size


def _to_rgb(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return uint8 `(B, H, W, 3)` of the first three bands."""
    shown = (pixels.float() * std.view(-1, 1, 1) + mean.view(-1, 1, 1))[:, :3]
    if shown.shape[1] < 3:
        shown = shown[:, :1].expand(-1, 3, -1, -1)
    return (shown.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)
