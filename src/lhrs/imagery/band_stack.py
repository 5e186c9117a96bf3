"""Raw band values for networks, read window by window from one file or from one file per band."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.base_reader import RasterReader, dark_is_valid, stack_bands
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.reader import open_source

PixelWindow = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


@dataclass(frozen=True)
class BandStack:
    """An image with any number of bands.

    Pixels are those of the file with most of them; the others, which must cover the same ground, are resampled to it.
    8-bit images are read as red, green and blue, upright.

    Args:
        files: one, or several whose bands follow each other.
        bands: which of them all, 1-based; None is all.
    """

    files: tuple[Path, ...]
    bands: tuple[int, ...] | None = None

    @cached_property
    def reader(self) -> RasterReader:
        """Of all bands of the files."""
        return stack_bands([open_source(file) for file in self.files])

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "bands": self.bands}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.reader.shape

    @property
    def alpha(self) -> int | None:
        """1-based index of the last band if it is declared as alpha, else None."""
        return self.reader.alpha if self.reader.alpha == self.reader.count else None

    @property
    def georeference(self) -> Georeference | None:
        """Where the pixels are located; None if the files do not state it."""
        return self.reader.georeference

    def read_valid(self, box: PixelWindow | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return raw values `(bands, rows, columns)` of a window, or of all, and bool, True where a value is valid.

        An alpha band marks valid pixels, unless the band itself is read. A pixel is valid if only some of its bands
        equal a declared nodata of 0: these are dark values.

        Raises:
            DataError: a file cannot be read, or has no such band.
        """
        chosen = self._chosen()
        values, valid = self.reader.read(box, None, chosen, "bilinear")
        return values, dark_is_valid(valid, self.reader.has_zero_nodata[[band - 1 for band in chosen]])

    def _chosen(self) -> list[int]:
        count = self.reader.count
        chosen = list(range(1, count + 1) if self.bands is None else self.bands)
        if max(chosen) > count:
            raise DataError(f"{self.files[0]} has {count} bands, there is no band {max(chosen)}.")
        return chosen

    def read(self, box: PixelWindow | None = None) -> np.ndarray:
        """Return raw values, see `read_valid`."""
        return self.read_valid(box)[0]

    def valid_mask(self, box: PixelWindow | None = None) -> np.ndarray:
        """Return bool `(rows, columns)`, False where no band has data."""
        return np.asarray(self.reader.read_mask(box, self._chosen()).any(0))


def image_shape(file: Path) -> tuple[int, int]:
    """Return rows and columns of an image of any kind, upright, without reading its pixels.

    Raises:
        DataError: the file is not an image.
    """
    return open_source(file).shape
