"""Figures of a training step: views, masked images, reconstructions and matched patches."""

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
    """Write a figure: a row per image with both views, the masked first view, its reconstruction; lines join pairs.

    Args:
        module: its batch-norm statistics are not changed.
        pixels: `(2B, C, S, S)` normalized.
        batch: result of `lhrs.cmid.two_views.collate`.
        mean: `(C,)` of the normalization.
        std: `(C,)` of the normalization.
        path: PNG to write.
    """
    half, size = len(pixels) // 2, pixels.shape[-1]
    rows = min(_ROWS, half)
    columns = [pixels[:rows], pixels[half : half + rows]]
    if module.masked is not None:
        was_training = module.training
        module.eval()
        mask = batch["mask"][:rows]
        hidden = to_pixels(mask, pixels.shape[-2:])
        masked_views = fill_with_mean(pixels[:rows], hidden)
        reconstruction = module.masked.decoder(module.student(masked_views, mask)).float()
        columns += [masked_views, torch.where(hidden > 0, reconstruction, pixels[:rows])]
        module.train(was_training)
    canvas = torch.cat([_to_rgb(column.cpu(), mean, std) for column in columns], 2)
    figure = Image.fromarray(torch.cat(list(canvas), 0).numpy())
    pen, grid = ImageDraw.Draw(figure), module.student.grid
    for row in range(rows):
        close_pairs = [
            pair
            for pair, close in zip(batch["pairs"][row].tolist(), batch["close"][row].tolist(), strict=True)
            if close
        ]
        for n, (first, second) in enumerate(close_pairs[:_PAIRS]):
            ends = [_patch_center(patch % grid**2, grid, size) for patch in (first, second)]
            (x1, y1), (x2, y2) = ends
            color = tuple(
                int(c) for c in np.array([[255, 64, 64], [64, 255, 64], [96, 96, 255], [255, 255, 0], [255, 0, 255]])[n]
            )
            pen.line([x1, y1 + row * size, x2 + size, y2 + row * size], fill=color)
            pen.ellipse([x1 - 2, y1 + row * size - 2, x1 + 2, y1 + row * size + 2], outline=color)
            pen.ellipse([x2 + size - 2, y2 + row * size - 2, x2 + size + 2, y2 + row * size + 2], outline=color)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.save(path)


def _patch_center(patch: int, grid: int, size: int) -> tuple[float, float]:
    return (patch % grid + 0.5) / grid * size, (patch // grid + 0.5) / grid * size


def _to_rgb(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return uint8 `(B, H, W, 3)` of the first three bands."""
    shown = (pixels.float() * std.view(-1, 1, 1) + mean.view(-1, 1, 1))[:, :3]
    if shown.shape[1] < 3:
        shown = shown[:, :1].expand(-1, 3, -1, -1)
    return (shown.clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)
