"""Bands as a network reads them: the file's own numbers, window by window, from one file or from one file a band."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.quiet import ignored

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""
_PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm"}
_EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}


@dataclass(frozen=True)
class Stack:
    """An image of any band count.

    Pixels are those of the file with most of them; the others, which must cover the same ground, are resampled to it.
    Pictures of eight bits are read as red, green and blue.

    Args:
        files: one, or several whose bands follow each other.
        bands: which of them all, 1-based; None is all.
    """

    files: tuple[Path, ...]
    bands: tuple[int, ...] | None = None

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return max((image_shape(file) for file in self.files), key=lambda shape: shape[0] * shape[1])

    def read(self, box: Box | None = None) -> np.ndarray:
        """Return `(bands, rows, columns)` of a window, or of all.

        Raises:
            DataError: a file cannot be read, or has no such band.
        """
        left, top, width, height = box or (0, 0, *self.shape[::-1])
        parts = [
            _read(file, (left, top, width, height), self.shape, None)
            if whole is None
            else whole[:, top : top + height, left : left + width]
            for file, whole in zip(self.files, self._decoded, strict=True)
        ]
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.bands is None:
            return found
        if max(self.bands) > len(found):
            raise DataError(f"{self.files[0]} has {len(found)} bands, there is no band {max(self.bands)}.")
        return found[[band - 1 for band in self.bands]]

    @cached_property
    def _decoded(self) -> list[np.ndarray | None]:
        """Pictures, which can only be decoded whole; None for what is read window by window."""
        found = [_picture(file) if file.suffix.lower() in _PICTURES else None for file in self.files]
        return [x if x is not None and x.shape[1:] == self.shape else None for x in found]

    def known(self, box: Box | None = None) -> np.ndarray:
        """Return bool `(rows, columns)`, False where any band says that it has no data."""
        box = box or (0, 0, *self.shape[::-1])
        known = np.ones((box[3], box[2]), bool)
        for file in self.files:
            if file.suffix.lower() not in _PICTURES:
                known &= _read(file, box, self.shape, known.shape).astype(bool).all(0)
        return known

    @cached_property
    def georeference(self) -> Georeference | None:
        """Where the pixels lie; None if the files do not say."""
        from lhrs.imagery.raster import locate, opened

        for file in self.files:
            if image_shape(file) == self.shape:
                with opened(file) as dataset:
                    return locate(dataset)[0]
        return None


def image_shape(file: Path) -> tuple[int, int]:
    """Return rows and columns of an image of any kind without reading its pixels.

    Raises:
        DataError: it is none.
    """
    from PIL import Image

    try:
        with ignored(Image.DecompressionBombWarning), Image.open(file) as image:
            return image.height, image.width
    except (OSError, Image.DecompressionBombError):
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        try:
            with ignored(NotGeoreferencedWarning), rasterio.open(file) as dataset:
                return dataset.height, dataset.width
        except RasterioError as error:
            raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error


def _read(file: Path, box: Box, grid: tuple[int, int], mask: tuple[int, ...] | None) -> np.ndarray:
    """Read a window given in pixels of a `grid`; where `mask` is a shape, what is known instead of the numbers."""
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    from lhrs.imagery.raster import opened, read_mask, reason
    from lhrs.imagery.rendering import data_mask

    with opened(file) as dataset:
        own = (dataset.height, dataset.width)
        left, top, width, height = box
        down, across = own[0] / grid[0], own[1] / grid[1]
        window = Window(left * across, top * down, width * across, height * down)
        shape = (dataset.count, height, width)
        try:
            if mask is not None:
                bands = list(range(1, dataset.count + 1))
                there = read_mask(dataset, bands, shape, window)
                if dataset.dtypes[0].startswith("float"):
                    there = there & data_mask(dataset.read(window=window, out_shape=shape))
                return there
            same = (down, across) == (1, 1)
            return dataset.read(
                window=window, out_shape=shape, resampling=Resampling.nearest if same else Resampling.bilinear
            )
        except RasterioError as error:
            raise DataError(f"{file}: the file is damaged, its pixels cannot be read ({reason(error)}).") from error


def _picture(file: Path) -> np.ndarray | None:
    """Return uint8 `(3, rows, columns)`; None if it has more than eight bits, which Pillow would cut off."""
    from PIL import Image

    try:
        with ignored(Image.DecompressionBombWarning), Image.open(file) as image:
            return np.array(image.convert("RGB")).transpose(2, 0, 1) if image.mode in _EIGHT_BITS else None
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
