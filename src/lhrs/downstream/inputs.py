"""Network inputs from image files: raw values with the normalization of the model folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lhrs.downstream.labeled_dataset import LabeledDataset
from lhrs.imagery.band_stack import BandStack, PixelWindow
from lhrs.imagery.normalization import Normalization, Sample

_FIT_SIDE = 1024
_FIT_IMAGES = 256


@dataclass(frozen=True)
class ImageInput:
    """Reading and normalization of image files for a network.

    Args:
        normalization: normalization of raw values.
        interpolation: `bicubic` or `bilinear`, for resizing.
    """

    normalization: Normalization
    interpolation: str = "bicubic"

    def open(self, files: tuple[Path, ...]) -> BandStack:
        """Return the bands that are read; alpha is left out if the other bands are as many as are needed."""
        bands, needed = self.normalization.bands, len(self.normalization.mean)
        stack = BandStack(files, bands)
        if bands is None and stack.alpha == needed + 1:
            return BandStack(files, tuple(range(1, needed + 1)))
        return stack

    def read(self, stack: BandStack, window: PixelWindow | None = None) -> Tensor:
        """Return float32 `(C, H, W)`, about 0-1, with the mean where there is no data.

        Raises:
            DataError: the image cannot be read, or has another number of bands or another dtype.
        """
        values, valid = stack.read_valid(window)
        self.normalization.check(values, stack.files[0])
        return torch.from_numpy(self.normalization.scale(values, valid))

    def standardize(self, pixels: Tensor) -> Tensor:
        """Return the result of `read`, `(..., C, H, W)`, standardized to mean 0 and standard deviation 1."""
        mean, std = (pixels.new_tensor(x).view(-1, 1, 1) for x in (self.normalization.mean, self.normalization.std))
        return (pixels - mean) / std


def fit_normalization(labeled: LabeledDataset, bands: tuple[int, ...] | None, max_value: float | None) -> Normalization:
    """Return the normalization of at most 256 images, spread evenly over a split; of large images the center is used.

    Args:
        labeled: the split.
        bands: bands to use; None is all.
        max_value: see `Normalization.fit`.

    Raises:
        DataError: images cannot be read, differ in their bands, or have no data.
    """
    count = min(_FIT_IMAGES, len(labeled.items))
    chosen = np.linspace(0, len(labeled.items) - 1, count).round().astype(int)
    files = [files for n in chosen for files in labeled.items[n].images]
    return Normalization.fit((_middle(BandStack(stack_files, bands)) for stack_files in files), bands, max_value)


def _middle(stack: BandStack) -> Sample:
    high, wide = stack.shape
    top, left = max(0, (high - _FIT_SIDE) // 2), max(0, (wide - _FIT_SIDE) // 2)
    window = (left, top, min(_FIT_SIDE, wide), min(_FIT_SIDE, high))
    return *stack.read_valid(window), str(stack.files[0])
