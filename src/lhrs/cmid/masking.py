"""Which cells of an image are hidden from the student, and what is put in their place."""

import math
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def sample_mask(rng: np.random.Generator, grid: int, ratio: float) -> np.ndarray:
    """Return a bool mask `(grid, grid)` with ceil(ratio * cells) cells hidden, uniformly drawn."""
    mask = np.zeros(grid * grid, bool)
    mask[rng.permutation(mask.size)[: math.ceil(ratio * mask.size)]] = True
    return mask.reshape(grid, grid)


def to_pixels(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Enlarge masks `(B, g, g)` to float `(B, 1, H, W)`."""
    return F.interpolate(mask[:, None].float(), tuple(size), mode="nearest")


def fill_with_mean(pixels: Tensor, mask: Tensor) -> Tensor:
    """Return images whose hidden pixels have the image's own mean color.

    Args:
        pixels: `(B, C, H, W)`.
        mask: `(B, 1, H, W)`, 1 where hidden.
    """
    return pixels.lerp(pixels.mean((2, 3), keepdim=True), mask.to(pixels.dtype))
