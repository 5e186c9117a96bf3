"""Geometry of perception samples: crops, moved boxes and the targets of the object head.

Shapes: S side of the canvas in pixels, G = S / 4 its cells, O object classes. Boxes are xyxy.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

STRIDE = 4
"""Canvas pixels per cell of the dense targets."""
_INSIDE = 0.3
"""Fraction of a box that must be inside the canvas."""
_SMALLEST_PX = 3.0
"""Boxes of a smaller side on the canvas are neither objects nor background."""


def random_crop(
    image: np.ndarray, fraction: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return a random square part of `(H, W, 3)` and its left, top and side, a fraction of the shorter side."""
    length = max(8, round(min(image.shape[:2]) * float(rng.uniform(*fraction))))
    top, left = (int(rng.integers(size - length + 1)) for size in image.shape[:2])
    return image[top : top + length, left : left + length], (left, top, length)


def resize(crop: np.ndarray, side: int) -> Tensor:
    """Return float32 `(3, side, side)`, 0-255."""
    pixels = torch.from_numpy(np.array(crop)).permute(2, 0, 1).float()[None]
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=crop.shape[0] > side)[0].clamp(0, 255)


def nearest(part: np.ndarray, grid: int) -> np.ndarray:
    """Return `(grid, grid)` values at the cells' centers."""
    at = ((np.arange(grid) + 0.5) * len(part) / grid).astype(int)
    return part[np.ix_(at, at)]


def move_boxes(
    boxes: np.ndarray, kinds: np.ndarray, corner: tuple[int, int], length: int, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes in pixels of the canvas, clipped, their classes, and which are too small or mostly outside."""
    if not len(boxes):
        return boxes, kinds, np.zeros(0, bool)
    moved = (boxes - np.array([*corner, *corner], np.float32)) * (side / length)
    clipped = moved.clip(0, side)
    size, inside = moved[:, 2:] - moved[:, :2], clipped[:, 2:] - clipped[:, :2]
    touches = (inside > 0).all(1)
    vague = (inside.prod(1) < _INSIDE * size.prod(1)) | (inside.min(1) < _SMALLEST_PX)
    return clipped[touches], kinds[touches], vague[touches]


def object_targets(
    boxes: np.ndarray, kinds: np.ndarray, vague: np.ndarray, grid: int, num_kinds: int, nominal: set[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the targets of the object head.

    Args:
        boxes: `(N, 4)` in pixels of the canvas.
        kinds: `(N,)` object classes.
        vague: `(N,)` boxes that are neither object nor background.
        grid: cells of a side.
        num_kinds: number of object classes.
        nominal: classes whose boxes have a nominal size.

    Returns:
        Center maps `(O, G, G)` that are 1 at the cell of a center; log distances to the sides `(4, G, G)` at the
        cells in the middle half of a box, NaN elsewhere; and cells without a loss `(G, G)`.
    """
    heat = np.zeros((num_kinds, grid, grid), np.float32)
    extent = np.full((4, grid, grid), np.nan, np.float32)
    ignore = np.zeros((grid, grid), np.float32)
    at = np.arange(grid) + 0.5
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for n in np.argsort(-area):  # small boxes last, so that they win a shared cell
        x1, y1, x2, y2 = boxes[n] / STRIDE
        if vague[n]:
            ignore[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = 1
            continue
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        spread_x, spread_y = max((x2 - x1) / 8, 0.45), max((y2 - y1) / 8, 0.45)
        gauss = np.exp(-((at - x) ** 2)[None] / (2 * spread_x**2) - ((at - y) ** 2)[:, None] / (2 * spread_y**2))
        column, row = min(int(x), grid - 1), min(int(y), grid - 1)
        np.maximum(heat[kinds[n]], gauss, out=heat[kinds[n]])
        heat[kinds[n], row, column] = 1
        ignore[row, column] = 0
        if kinds[n] not in nominal:
            columns = _middle(x1, x2, column)
            rows = _middle(y1, y2, row)
            inside = np.zeros((4, rows.stop - rows.start, columns.stop - columns.start))
            inside[0], inside[2] = at[columns] - x1, x2 - at[columns]
            inside[1], inside[3] = (at[rows] - y1)[:, None], (y2 - at[rows])[:, None]
            extent[:, rows, columns] = np.log(np.maximum(inside, 0.1))
    return heat, extent, ignore


def _middle(low: float, high: float, center: int) -> slice:
    """Return the cells in the middle half of a side of a box, that of the center at least."""
    quarter = (high - low) / 4
    first, last = math.ceil(low + quarter - 0.5), math.floor(high - quarter - 0.5)
    return slice(min(first, center), max(last, center) + 1)


def turn_extents(extent: Tensor, d4: Any) -> Tensor:
    """Return left, top, right and bottom distances after a symmetry of the square."""
    left, top, right, bottom = extent
    if d4.transpose:
        left, top, right, bottom = top, left, bottom, right
    if d4.flip_x:
        left, right = right, left
    if d4.flip_y:
        top, bottom = bottom, top
    return torch.stack([left, top, right, bottom])
