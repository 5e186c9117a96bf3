"""Bands as a network reads them: the file's own numbers, window by window, from one file or from one file a band."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.quiet import ignored

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.windows import Window

Box = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm"}
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's modes of pictures that lose nothing as eight bits of red, green and blue."""


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
            _read(file, (left, top, width, height), self.shape)
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
        return [
            _picture(file) if is_picture else None for file, is_picture in zip(self.files, self._pictures, strict=True)
        ]

    @cached_property
    def _pictures(self) -> list[bool]:
        return [_is_picture(file) and image_shape(file) == self.shape for file in self.files]

    def known(self, box: Box | None = None) -> np.ndarray:
        """Return bool `(rows, columns)`, False where no band has data.

        An alpha band tells where there is data, unless it is one of those read: GDAL takes the fourth band of many
        files, such as infrared, for alpha.
        """
        return np.asarray(self._valid(box)[0].any(0))

    def gaps(self, box: Box | None = None) -> np.ndarray:
        """Return bool `(bands, rows, columns)`, True where a number means nothing.

        That is every pixel that is not known, and of the others what a band alone leaves out; where only some bands
        have a declared nodata of 0, they are dark.
        """
        valid, is_zero = self._valid(box)
        return np.asarray(~valid & ~(valid.any(0) & is_zero[:, None, None]))

    def _valid(self, box: Box | None) -> tuple[np.ndarray, np.ndarray]:
        """Return where each band has data, and of which bands nodata is declared as 0."""
        box = box or (0, 0, *self.shape[::-1])
        parts, zeros, first = [], [], 0
        for file, is_picture in zip(self.files, self._pictures, strict=True):
            if is_picture:
                valid, zero = np.ones((3, box[3], box[2]), bool), [False] * 3
            else:
                valid, zero = _read_valid(file, box, self.shape, partial(self._reads, first))
            parts.append(valid)
            zeros += zero
            first += len(valid)
        which = slice(None) if self.bands is None else [band - 1 for band in self.bands]
        return np.concatenate(parts)[which], np.array(zeros)[which]

    def _reads(self, first: int, band: int) -> bool:
        return self.bands is None or first + band in self.bands

    @cached_property
    def alpha(self) -> int | None:
        """The number, 1-based, of a last band that is alpha by its colour; None if it is none."""
        from rasterio.enums import ColorInterp

        from lhrs.imagery.raster import opened

        if len(self.files) != 1 or self._pictures[0]:
            return None
        with opened(self.files[0]) as dataset:
            return dataset.count if dataset.colorinterp[-1] == ColorInterp.alpha else None

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


def _read(file: Path, box: Box, grid: tuple[int, int]) -> np.ndarray:
    """Read a window given in pixels of a `grid`."""
    from rasterio.enums import Resampling

    with _window(file, box, grid) as (dataset, window):
        same = (dataset.height, dataset.width) == grid
        return dataset.read(
            window=window, out_shape=(dataset.count, box[3], box[2]),
            resampling=Resampling.nearest if same else Resampling.bilinear,
        )  # fmt: skip


def _read_valid(
    file: Path, box: Box, grid: tuple[int, int], reads: Callable[[int], bool]
) -> tuple[np.ndarray, list[bool]]:
    """Return where each band has data in a window given in pixels of a `grid`, and whether its nodata is 0.

    Args:
        file: to look into.
        box: the window.
        grid: rows and columns.
        reads: tells whether a band of the file, 1-based, is looked at as a band.
    """
    from rasterio.enums import ColorInterp, MaskFlags

    from lhrs.imagery.raster import read_mask
    from lhrs.imagery.rendering import data_mask

    with _window(file, box, grid) as (dataset, window):
        shape, bands = (dataset.count, box[3], box[2]), list(range(1, dataset.count + 1))
        alpha_is_band = any(
            kind == ColorInterp.alpha and reads(n) for n, kind in enumerate(dataset.colorinterp, start=1)
        )
        if alpha_is_band and MaskFlags.nodata not in dataset.mask_flag_enums[0]:
            valid = np.ones(shape, bool)
        elif alpha_is_band:
            valid = dataset.read_masks(bands, out_shape=shape, window=window) > 0
        else:
            valid = read_mask(dataset, bands, shape, window)
        if dataset.dtypes[0].startswith("float"):
            valid = valid & data_mask(dataset.read(window=window, out_shape=shape))
        return valid, [value == 0 for value in dataset.nodatavals]


@contextmanager
def _window(file: Path, box: Box, grid: tuple[int, int]) -> "Iterator[tuple[DatasetReader, Window]]":
    """Open a file, and give the window that is `box` in pixels of a `grid` over the same ground."""
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    from lhrs.imagery.raster import opened, reason

    with opened(file) as dataset:
        left, top, width, height = box
        down, across = dataset.height / grid[0], dataset.width / grid[1]
        try:
            yield dataset, Window(left * across, top * down, width * across, height * down)
        except RasterioError as error:
            raise DataError(f"{file}: the file is damaged, its pixels cannot be read ({reason(error)}).") from error


def _is_picture(file: Path) -> bool:
    """Tell whether Pillow reads all bits of a file, from its header."""
    from PIL import Image

    if file.suffix.lower() not in PICTURES:
        return False
    with _told(file), ignored(Image.DecompressionBombWarning), Image.open(file) as image:
        return image.mode in EIGHT_BITS


def _picture(file: Path) -> np.ndarray:
    """Return uint8 `(3, rows, columns)`."""
    from PIL import Image

    with _told(file), ignored(Image.DecompressionBombWarning), Image.open(file) as image:
        return np.array(image.convert("RGB")).transpose(2, 0, 1)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    """Say in one line why Pillow cannot read a file."""
    from PIL import Image

    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{file} does not exist.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
