"""Masking of image patches."""

import math
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def sample_mask(rng: np.random.Generator, grid: int, ratio: float) -> np.ndarray:
    """Return a bool mask `(grid, grid)` with ceil(ratio * patches) masked patches, sampled uniformly."""
    mask = np.zeros(grid * grid, bool)
    mask[rng.permutation(mask.size)[: math.ceil(ratio * mask.size)]] = True
    return mask.reshape(grid, grid)


def to_pixels(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Upsample masks `(B, g, g)` to float `(B, 1, H, W)`."""
    return F.interpolate(mask[:, None].float(), tuple(size), mode="nearest")


def fill_with_mean(pixels: Tensor, mask: Tensor) -> Tensor:
    """Return images whose masked pixels have the image's mean color.

    Args:
        pixels: `(B, C, H, W)`.
        mask: `(B, 1, H, W)`, 1 where masked.
    """
    return pixels.lerp(pixels.mean((2, 3), keepdim=True), mask.to(pixels.dtype))
