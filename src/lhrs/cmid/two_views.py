"""Two views of each window, their masks and matching patches: the input of one step of CMID."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as tv

from lhrs.cmid.geometry import match_patches
from lhrs.cmid.masking import sample_mask
from lhrs.data.augment import Crop, apply_color_jitter, identity_jitter, sample_color_jitter, sample_crop
from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.data.unlabeled import UnlabeledWindows
from lhrs.imagery.normalization import Normalization

_IMAGES_AT_ONCE = 2
_CROPS = 7_919
"""Offset of the seed, so that views and windows use different random numbers."""


class TwoViewDataset(Dataset):
    """Two crops of each window.

    Args:
        windows: the images.
        size: side of a view in pixels.
        grid: patches per side of the backbone's last feature map.
        mask_grid: patches per side of the mask.
        mask_ratio: fraction of them that is hidden.
        scale: smallest and largest fraction of a window's area.
        d4: rotate and flip in all eight ways, not only horizontally.
        color_jitter: strength of the color jitter of the second view.
        noise_std: largest standard deviation, in raw values, of noise that is added to each view before it is resized.
            Noise makes features invariant to the compression of images.
        seed: of all randomness.
        fill_values: per band, the raw values of pixels that are not finite; None is 0.
    """

    def __init__(
        self,
        windows: UnlabeledWindows,
        size: int,
        grid: int,
        mask_grid: int = 7,
        mask_ratio: float = 0.6,
        scale: tuple[float, float] = (0.3, 1.0),
        d4: bool = True,
        color_jitter: float = 1.0,
        seed: int = 0,
        noise_std: float = 0.0,
        fill_values: np.ndarray | None = None,
    ) -> None:
        self.windows, self.size, self.grid = windows, size, grid
        self.mask_grid, self.mask_ratio = mask_grid, mask_ratio
        self.fill_values = fill_values
        self.scale, self.d4, self.color_jitter, self.seed, self.noise_std = scale, d4, color_jitter, seed, noise_std

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return `views (2, C, S, S)` of raw values, `masks (2, m, m)`, `centers (2, g * g, 2)`, `color_jitter`.

        Centers are in pixels of a view that would show the whole window.
        """
        window = self.windows[key]
        source = torch.from_numpy(_fill(window, self.fill_values))
        rng = sample_rng(self.seed + _CROPS, key)
        height, width = source.shape[1:]
        crops = [sample_crop(rng, height, width, self.scale, all_eight=self.d4) for _ in range(2)]
        masks = np.stack([sample_mask(rng, self.mask_grid, self.mask_ratio) for _ in range(2)])
        scale = self.size / max(height, width)
        centers = np.stack([crop.centers(self.grid).reshape(-1, 2) for crop in crops]) * scale
        jitter = np.stack([identity_jitter(), sample_color_jitter(rng, self.color_jitter)])
        sources = [_add_noise(rng, source, self.noise_std) if self.noise_std else source for _ in crops]
        return {
            "views": torch.stack([resize(part, crop, self.size) for part, crop in zip(sources, crops, strict=True)]),
            "masks": torch.from_numpy(masks),
            "centers": torch.from_numpy(centers.astype(np.float32)),
            "color_jitter": torch.from_numpy(jitter),
        }


def resize(source: Tensor, crop: Crop, size: int) -> Tensor:
    """Return a crop of `(C, H, W)` as `(C, size, size)`, bilinear with antialiasing."""
    return tv.resize(crop.apply(source), [size, size], antialias=True)


def _add_noise(rng: np.random.Generator, source: Tensor, max_std: float) -> Tensor:
    noise = torch.from_numpy(rng.standard_normal(source.shape, np.float32)).mul_(rng.uniform(0, max_std)).add_(source)
    return noise.round_().clamp_(0, 255).to(torch.uint8) if source.dtype == torch.uint8 else noise


def _fill(window: np.ndarray, fill_values: np.ndarray | None) -> np.ndarray:
    """Return uint8 as it is, other values as float32 with those that are not finite replaced."""
    if window.dtype == np.uint8:
        return window
    values = window.astype(np.float32)
    if np.isfinite(values).all():
        return values
    fill = np.zeros(len(values), np.float32) if fill_values is None else fill_values
    return np.where(np.isfinite(values), values, fill[:, None, None])


def collate(
    samples: Sequence[dict[str, Any]], num_matches: int = 20, max_match_distance: float = 16.0
) -> dict[str, Tensor]:
    """Return a batch: first views, then second views.

    Args:
        samples: of `TwoViewDataset`.
        num_matches: pairs of patches per view.
        max_match_distance: in pixels of a view, see `match_patches`.

    Returns:
        `views (2B, C, S, S)`, `color_jitter (2B, 9)`, `mask (2B, m, m)`, `pairs (2B, P, 2)`, `close (2B, P)`.
    """
    first, second = (torch.stack([s["centers"][n] for s in samples]) for n in (0, 1))
    num_patches = first.shape[0] * first.shape[1]
    matches = [match_patches(a, b, num_matches, max_match_distance) for a, b in ((first, second), (second, first))]
    # Patch indices count over both views: those of the first views come first.
    shift = torch.tensor([[0, num_patches], [num_patches, 0]])
    return {
        "views": torch.cat([torch.stack([s["views"][n] for s in samples]) for n in (0, 1)]),
        "color_jitter": torch.cat([torch.stack([s["color_jitter"][n] for s in samples]) for n in (0, 1)]),
        "mask": torch.cat([torch.stack([s["masks"][n] for s in samples]) for n in (0, 1)]),
        "pairs": torch.cat([pairs + shift[n] for n, (pairs, _) in enumerate(matches)]),
        "close": torch.cat([close for _, close in matches]),
    }


def resize_full_window(window: np.ndarray, size: int, fill_values: np.ndarray | None = None) -> Tensor:
    """Return all of a window as `(C, size, size)`."""
    source = torch.from_numpy(_fill(window, fill_values))
    return resize(source, Crop(0, 0, *source.shape[1:]), size)


def mean_std_tensors(normalization: Normalization) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation as float32 `(C,)`."""
    return torch.tensor(normalization.mean), torch.tensor(normalization.std)


def augment_and_normalize(
    views: Tensor, color_jitter: Tensor | None, max_value: float, mean: Tensor, std: Tensor
) -> Tensor:
    """Return views of raw values scaled to [0, 1], the second half with color jitter, standardized.

    Args:
        views: `(2B, C, S, S)` of `collate`, any type.
        color_jitter: of `collate`; None changes nothing.
        max_value: the raw value that means 1.
        mean: `(C,)` of [0, 1].
        std: `(C,)` of [0, 1].
    """
    pixels = views.float().div_(max_value)
    if views.dtype != torch.uint8:
        pixels.clamp_(0, 1)
    if color_jitter is not None:
        half = len(pixels) // 2
        # A few images at a time fit a CPU's cache; a GPU processes all at once.
        step = _IMAGES_AT_ONCE if pixels.device.type == "cpu" else half
        for start in range(half, len(pixels), step):
            pixels[start : start + step] = apply_color_jitter(
                pixels[start : start + step], color_jitter[start : start + step]
            )
    return pixels.sub_(mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))
