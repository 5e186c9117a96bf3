"""Reader of 8-bit images (PNG, JPEG, WebP, GIF, BMP, AVIF) through Pillow: upright, RGB, with transparency."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from lhrs.errors import DataError
from lhrs.imagery import locations
from lhrs.imagery.base_reader import PixelWindow, RasterReader, Resampling
from lhrs.imagery.geo_image import Rendering
from lhrs.imagery.orientation import UPRIGHT
from lhrs.imagery.warning_filter import suppress_warnings

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_ORIENTATION = 0x0112
_SWAPPED = {5, 6, 7, 8}
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True)
class PillowReader(RasterReader):
    """Values are red, green and blue, or with `raw` the stored values."""

    raw: bool = False
    has_alpha: bool = False
    """Some pixels may be transparent."""

    def read_mask(self, window: PixelWindow | None = None, bands: Sequence[int] | None = None) -> np.ndarray:
        """Return bool `(B, H, W)`. The image is decoded only if it may be transparent."""
        left, top, width, height = window or (0, 0, self.width, self.height)
        inside = left >= 0 and top >= 0 and left + width <= self.width and top + height <= self.height
        if self.has_alpha or not inside:
            return super().read_mask(window, bands)
        return np.ones((self.count if bands is None else len(bands), round(height), round(width)), bool)

    def _read(
        self, window: PixelWindow, size: tuple[int, int], bands: list[int], resampling: Resampling
    ) -> tuple[np.ndarray, np.ndarray]:
        if window == (0, 0, self.width, self.height) and "_decoded" not in self.__dict__ and not self.raw:
            stack, image = self.__dict__.pop("_held", (None, None))
            if stack is None:
                stack = ExitStack()
                image = stack.enter_context(_opened(self.name))
            with stack:
                pixels = _decode(image, size)
        else:
            left, top, width, height = window
            x1, y1, x2, y2 = round(left), round(top), round(left + width), round(top + height)
            pixels = self._decoded[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
            pixels = self._resized(pixels, size) if pixels.shape[1::-1] != size else pixels.copy()
        if self.raw:
            values = pixels.transpose(2, 0, 1)[[band - 1 for band in bands]]
            return values, np.ones(values.shape, bool)
        valid = pixels[..., 3] > 0 if pixels.shape[2] == 4 else np.ones(pixels.shape[:2], bool)
        if bands == [1, 2, 3]:
            values = pixels[..., :3].transpose(2, 0, 1)  # a view, so that rendering does not copy pixels
        else:
            values = pixels.transpose(2, 0, 1)[[band - 1 for band in bands]]
        return values, np.broadcast_to(valid, values.shape)

    def _resized(self, pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if self.raw:
            rows = ((np.arange(size[1]) + 0.5) * pixels.shape[0] / size[1]).astype(int)
            columns = ((np.arange(size[0]) + 0.5) * pixels.shape[1] / size[0]).astype(int)
            return np.asarray(pixels[rows][:, columns])
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.array(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0))

    @cached_property
    def _decoded(self) -> np.ndarray:
        """All pixels `(H, W, C)`: these formats do not support windows."""
        with _opened(self.name) as image:
            return _decode_raw(image) if self.raw else _decode(image, (self.width, self.height))

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_decoded", "_held")}


def open_pillow(name: str, raw: bool, keep_open: bool = False) -> RasterReader:
    """Return the reader of an 8-bit image, from its header.

    With `keep_open` the file stays open until the first read. A PNG is then not decoded a second time for its EXIF.

    Raises:
        DataError: the image is damaged, or too large to be decoded.
    """
    with ExitStack() as stack:
        image = stack.enter_context(_opened(name))
        width, height = image.size
        if image.getexif().get(_ORIENTATION) in _SWAPPED:
            width, height = height, width
        if raw:
            count, dtype = len(image.getbands()), "uint8"
            colors = ("palette",) if image.mode in {"P", "1"} else ("undefined",) * count
        else:
            count, dtype, colors = 3, "uint8", ("red", "green", "blue")
        reader = PillowReader(
            (name,), width, height, count, dtype, (None,) * count, colors, (None,) * count, (1.0,) * count,
            (0.0,) * count, native=_native(image.mode), raw=raw,
            has_alpha=not raw and image.has_transparency_data,
        )  # fmt: skip
        if keep_open:
            reader.__dict__["_held"] = stack.pop_all(), image
        return reader


def exif_orientation(name: str) -> int:
    """Return the orientation that EXIF declares; 1 where there is none."""
    try:
        with _opened(name) as image:
            orientation = image.getexif().get(_ORIENTATION, UPRIGHT)
    except DataError:
        return UPRIGHT
    return orientation if orientation in range(1, 9) else UPRIGHT


def verify_checksums(name: str) -> None:
    """Raise DataError if a checksum of a PNG is wrong; decoding ignores checksums. Rasters are not checked."""
    if not locations.is_8bit_image(locations.read_head(name) or b""):
        return
    with _opened(name) as image:
        image.verify()


def _native(mode: str) -> Rendering:
    if mode in {"P", "PA"}:
        return Rendering([1, 1, 1], "color table", "single band")
    if mode in {"1", "L", "LA"}:
        return Rendering([1, 1, 1], "uint8 as is" if mode != "1" else "black and white", "single band")
    return Rendering([1, 2, 3], "CMYK converted to RGB" if mode == "CMYK" else "uint8 as is", "declared colors")


def _decode(image: "PillowImage", size: tuple[int, int]) -> np.ndarray:
    """Return uint8 `(H, W, 3)`, or 4 with alpha, of the whole upright image at `size` (width, height)."""
    turned = image.getexif().get(_ORIENTATION) in _SWAPPED
    image.draft(None, size[::-1] if turned else size)  # JPEG supports decoding at 1/2, 1/4 or 1/8 size
    upright = _turned(image)
    mode = "RGBA" if upright.has_transparency_data else "RGB"
    upright = upright if upright.mode == mode else upright.convert(mode)
    if upright.size != size:
        upright = upright.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.array(upright)


def _turned(image: "PillowImage") -> "PillowImage":
    """Return the upright image; the same object if it is already upright."""
    return ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, UPRIGHT) != UPRIGHT else image


def _decode_raw(image: "PillowImage") -> np.ndarray:
    """Return stored values `(H, W, C)` of the upright image: color table codes, 0 and 1 for 1-bit, alpha as a band."""
    upright = _turned(image)
    values = np.array(upright).astype(np.uint8) if upright.mode == "1" else np.array(upright)
    return values[..., None] if values.ndim == 2 else values


@contextmanager
def _opened(name: str) -> "Iterator[PillowImage]":
    """Open an image; raise a one-line DataError if Pillow cannot decode it."""
    try:
        with suppress_warnings(Image.DecompressionBombWarning):  # Pillow's warning starts at half of the rejected size
            image = Image.open(locations.open_binary(name) if name.startswith("/vsi") else name)
        with image:
            yield image
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(
            f"{name} has more than {limit} million pixels; convert it to a raster with overviews: "
            f"gdal_translate -of COG '{name}' image.tif"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # exceptions of Pillow for damaged files
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: the image is damaged or of an unknown kind ({reason}).") from error
