"""Two views of each window, their masks and matching cells: what one step of CMID reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tv

from lhrs.cmid.augment import change_colour, draw_colour, no_colour, normalise
from lhrs.cmid.geometry import Crop, draw_crop, match_cells
from lhrs.cmid.masking import draw_mask
from lhrs.data.keyed import Key, sample_rng
from lhrs.data.windows import Windows
from lhrs.imagery.normalization import Normalization

_AT_ONCE = 2
_CROPS = 7_919
"""Keeps the draws of views apart from those of windows."""


class Views(Dataset):
    """Two crops of each window.

    Args:
        windows: the images.
        size: side of a view in pixels.
        grid: cells a side of the backbone's last map.
        mask_grid: cells a side of the mask.
        mask_ratio: share of them that is hidden.
        scale: least and largest share of a window's area.
        symmetries: turn and mirror in all eight ways, not only left and right.
        colour: strength of colour changes of the second view.
        noise: most that either view's part of the window is disturbed by before it is scaled, each by its own draw:
            standard deviation in the file's numbers. It drowns what compression leaves of fine detail and what it
            takes away, so that features of images compressed in different ways compare.
        seed: of all of it.
    """

    def __init__(
        self,
        windows: Windows,
        size: int,
        grid: int,
        mask_grid: int = 7,
        mask_ratio: float = 0.6,
        scale: tuple[float, float] = (0.3, 1.0),
        symmetries: bool = True,
        colour: float = 1.0,
        seed: int = 0,
        noise: float = 0.0,
    ) -> None:
        self.windows, self.size, self.grid = windows, size, grid
        self.mask_grid, self.mask_ratio = mask_grid, mask_ratio
        self.scale, self.symmetries, self.colour, self.seed, self.noise = scale, symmetries, colour, seed, noise

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Return `views (2, C, S, S)` in the file's numbers, `masks (2, m, m)`, `centres (2, g * g, 2)`, `colours`.

        Centres are in views' pixels: source pixels, scaled so that a whole window would be a view.
        """
        window = self.windows[key]
        source = torch.from_numpy(window if window.dtype == np.uint8 else _as_float(window))
        rng = sample_rng(self.seed + _CROPS, key)
        height, width = source.shape[1:]
        crops = [draw_crop(rng, height, width, self.scale, symmetries=self.symmetries) for _ in range(2)]
        masks = np.stack([draw_mask(rng, self.mask_grid, self.mask_ratio) for _ in range(2)])
        scale = self.size / max(height, width)
        centres = np.stack([crop.centres(self.grid).reshape(-1, 2) for crop in crops]) * scale
        colours = np.stack([no_colour(), draw_colour(rng, self.colour)])
        sources = [_disturb(rng, source, self.noise) if self.noise else source for _ in crops]
        return {
            "views": torch.stack([resize(part, crop, self.size) for part, crop in zip(sources, crops, strict=True)]),
            "masks": torch.from_numpy(masks),
            "centres": torch.from_numpy(centres.astype(np.float32)),
            "colours": torch.from_numpy(colours),
        }


def resize(source: Tensor, crop: Crop, size: int) -> Tensor:
    """Return a crop of `(C, H, W)` as `(C, size, size)`, bilinear with antialiasing."""
    return tv.resize(crop.cut(source), [size, size], antialias=True)


def _disturb(rng: np.random.Generator, source: Tensor, most: float) -> Tensor:
    noise = torch.from_numpy(rng.standard_normal(source.shape, np.float32)).mul_(rng.uniform(0, most)).add_(source)
    return noise.round_().clamp_(0, 255).to(torch.uint8) if source.dtype == torch.uint8 else noise


def _as_float(window: np.ndarray) -> np.ndarray:
    return np.nan_to_num(window.astype(np.float32))


def collate(samples: Sequence[dict[str, Any]], num_matches: int = 20, farthest: float = 16.0) -> dict[str, Tensor]:
    """Return a batch: first views, then second views.

    Args:
        samples: of `Views`.
        num_matches: pairs of cells per view.
        farthest: in pixels of a view, see `match_cells`.

    Returns:
        `views (2B, C, S, S)`, `colours (2B, 9)`, `mask (2B, m, m)`, `pairs (2B, P, 2)`, `close (2B, P)`.
    """
    one, two = (torch.stack([s["centres"][n] for s in samples]) for n in (0, 1))
    cells = one.shape[0] * one.shape[1]
    found = [match_cells(a, b, num_matches, farthest) for a, b in ((one, two), (two, one))]
    # Cells are counted over both views: the student's of the first come first, the teacher's of the second later.
    shift = torch.tensor([[0, cells], [cells, 0]])
    return {
        "views": torch.cat([torch.stack([s["views"][n] for s in samples]) for n in (0, 1)]),
        "colours": torch.cat([torch.stack([s["colours"][n] for s in samples]) for n in (0, 1)]),
        "mask": torch.cat([torch.stack([s["masks"][n] for s in samples]) for n in (0, 1)]),
        "pairs": torch.cat([pairs + shift[n] for n, (pairs, _) in enumerate(found)]),
        "close": torch.cat([close for _, close in found]),
    }


def whole(window: np.ndarray, size: int) -> Tensor:
    """Return all of a window as `(C, size, size)`."""
    source = torch.from_numpy(window if window.dtype == np.uint8 else _as_float(window))
    return resize(source, Crop(0, 0, *source.shape[1:]), size)


def mean_std_tensors(normalization: Normalization) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation as float32 `(C,)`."""
    return torch.tensor(normalization.mean), torch.tensor(normalization.std)


def finish(views: Tensor, colours: Tensor | None, scale: float, mean: Tensor, std: Tensor) -> Tensor:
    """Return normalised views: numbers of the file to [0, 1], colours of the second half changed, normalised.

    Args:
        views: `(2B, C, S, S)` of `collate`, any type.
        colours: its draws; None changes none.
        scale: the file's number that means 1.
        mean: `(C,)` of [0, 1].
        std: `(C,)` of [0, 1].
    """
    pixels = views.float().div_(scale)
    if views.dtype != torch.uint8:
        pixels.clamp_(0, 1)
    if colours is not None:
        half = len(pixels) // 2
        # A few images at a time stay in a CPU's cache; a GPU takes them all at once.
        step = _AT_ONCE if pixels.device.type == "cpu" else half
        for start in range(half, len(pixels), step):
            pixels[start : start + step] = change_colour(pixels[start : start + step], colours[start : start + step])
    return normalise(pixels, mean, std)
