"""Where the cells of a view lie in its source, and which cells of two views show the same place.

A view is a crop box of the source, turned into one of the square's eight symmetries and scaled to S x S pixels. Its
cells' centres in source pixels follow from the box and the symmetry alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Crop:
    """A view's place in its source."""

    top: int
    left: int
    height: int
    width: int
    """Rows and columns of the source."""
    transpose: bool = False
    """Rows and columns change places, before the flips."""
    flip_x: bool = False
    flip_y: bool = False

    def centres(self, grid: int) -> np.ndarray:
        """Return `(grid, grid, 2)` float32: x and y in source pixels of each cell's centre (0 is the outer edge)."""
        at = (np.arange(grid, dtype=np.float32) + 0.5) / grid
        y, x = np.meshgrid(at[::-1] if self.flip_y else at, at[::-1] if self.flip_x else at, indexing="ij")
        if self.transpose:
            x, y = y, x
        return np.stack([self.left + x * self.width, self.top + y * self.height], -1)

    def cut(self, source: Tensor) -> Tensor:
        """Return the crop of `(C, H, W)`, turned but not scaled."""
        part = source[:, self.top : self.top + self.height, self.left : self.left + self.width]
        if self.transpose:
            part = part.transpose(1, 2)
        flips = [d for d, flipped in ((1, self.flip_y), (2, self.flip_x)) if flipped]
        return part.flip(flips) if flips else part


def draw_crop(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    symmetries: bool = True,
) -> Crop:
    """Draw a crop of a share of the area and an aspect ratio (as torchvision's RandomResizedCrop).

    Args:
        rng: where chance comes from.
        height: rows of the source.
        width: columns of the source.
        scale: least and largest share of the area.
        ratio: least and largest width / height, drawn on a log scale.
        symmetries: draw among all eight, as images from above have no upside; otherwise mirror left and right only.
    """
    box = (0, 0, height, width)
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = float(np.exp(rng.uniform(*np.log(ratio))))
        w, h = max(round((area * aspect) ** 0.5), 1), max(round((area / aspect) ** 0.5), 1)
        if w <= width and h <= height:
            box = (int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
            break
    turn, x, y = (bool(v) for v in rng.integers(2, size=3))
    return Crop(*box, transpose=turn and symmetries, flip_x=x, flip_y=y and symmetries)


def match_cells(one: Tensor, two: Tensor, count: int, farthest: float) -> tuple[Tensor, Tensor]:
    """Pair cells of one view with the nearest cells of another.

    Args:
        one: `(B, N, 2)` centres in source pixels, in units of your choice.
        two: `(B, M, 2)` of the other views of the same sources.
        count: pairs per image, the closest ones.
        farthest: pairs that are further apart are left out.

    Returns:
        `(B, count, 2)` long indices into the flattened `(B * N)` and `(B * M)` cells, and float `(B, count)` that is 1
        where a pair is close enough and 0 where it does not count.
    """
    distance, nearest = torch.cdist(one, two).min(-1)
    apart, cells = distance.topk(min(count, one.shape[1]), dim=1, largest=False)
    rows = torch.arange(len(one), device=one.device)[:, None]
    pairs = torch.stack([rows * one.shape[1] + cells, rows * two.shape[1] + nearest.gather(1, cells)], -1)
    return pairs, (apart <= farthest).float()
