"""Open any picture or raster as an eight-bit RGB view of bounded size."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.image import Area, OpenedImage, View, reduced_size
from lhrs.imagery.quiet import ignored

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_MAX_SIDE = 1024
IMAGE_SUFFIXES = frozenset(
    [
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".ppm", ".pgm"),
        *(".tif", ".tiff", ".gtiff", ".jp2", ".j2k", ".img", ".vrt", ".ntf", ".nitf"),
    ]
)
"""What a folder is searched for; a file that is named itself is opened whatever it is called."""

_ORIENTATION = 0x0112
_ON_ITS_SIDE = {5, 6, 7, 8}


def open_image(
    path: str | os.PathLike[str],
    max_side: int | None = DEFAULT_MAX_SIDE,
    area: Area | None = None,
    driver: str | None = None,
) -> OpenedImage:
    """Open a picture or a raster of any type, size, band count and georeference.

    PNG, JPEG, WebP, GIF, BMP and AVIF are read with Pillow, turned upright as their EXIF says; everything else, PNG of
    16 bits, and pictures with georeferencing in a `.aux.xml` beside them, with GDAL. The content tells, not the name.

    Args:
        path: The file.
        max_side: Upper bound for the longer side of the returned pixels; None keeps every pixel. Rasters are read at
            the reduced size from their overviews, so that a file far bigger than memory opens in a moment.
        area: Look at this part of a georeferenced raster only.
        driver: GDAL's short name of the only format it may try; None is all. Some formats refer to other files, which
            nobody should open for a stranger.

    Raises:
        DataError: The file is missing, damaged, no image, holds no valid pixel, does not touch `area`, or would take
            absurdly long to read.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(f"{path} {reason}.") from error
    if not head:
        raise DataError(f"{path} is empty.")
    if _is_picture(head) and not path.with_name(path.name + ".aux.xml").exists():
        if area is not None:
            raise DataError(f"{path} is not georeferenced: nobody knows which part of it lies in the area.")
        return _open_picture(path, max_side)
    from lhrs.imagery.raster import read_raster  # GDAL takes a while to load, most pictures do without

    return read_raster(path, max_side, area, driver)


def list_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the files to open: files as given, folders replaced by the images below them in natural order of names.

    Raises:
        DataError: A path does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [
                Path(folder, name)
                for folder, _, names in os.walk(path)
                for name in names
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
            ]
            if not inside:
                raise DataError(f"{path} holds no image (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).")
            found += sorted(inside, key=_natural)
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path} does not exist.")
    return found


def _natural(path: Path) -> list[list[tuple[bool, int, str]]]:
    """Return a sort key in which tile_2 comes before tile_10."""
    return [
        [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.findall(r"\d+|\D+", name)]
        for name in path.parts
    ]


def _is_picture(head: bytes) -> bool:
    """Tell from a file's first bytes whether Pillow reads it without losing anything."""
    if head.startswith(b"\x89PNG"):
        return head[24:25] != b"\x10"  # bit depth; Pillow cuts colour of 16 bits down to 8
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith((b"\xff\xd8\xff", b"GIF8", b"BM")) or head[4:12] == b"ftypavif"


def _open_picture(path: Path, max_side: int | None) -> OpenedImage:
    from PIL import Image

    try:
        with ignored(Image.DecompressionBombWarning):  # half the size of what is refused, and honest as a rule
            image = Image.open(path)
        with image:
            return _read_picture(path, image, max_side)
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(
            f"{path} has more than {limit} million pixels; convert it to a raster with overviews: "
            f"gdal_translate -of COG '{path}' image.tif"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow raises for damaged files
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: the picture is damaged or of an unknown kind ({reason}).") from error


def _read_picture(path: Path, image: "Image.Image", max_side: int | None) -> OpenedImage:
    from PIL import Image, ImageOps

    view = _picture_view(image.mode)
    stored_size = image.size
    width, height = stored_size[::-1] if image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE else stored_size
    image.draft(None, reduced_size(*stored_size, max_side))  # JPEG decodes to a half, quarter or eighth by itself
    image = ImageOps.exif_transpose(image)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    size = reduced_size(width, height, max_side)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    pixels = np.array(image)
    valid = 1.0
    if pixels.shape[2] == 4:
        mask = pixels[..., 3] > 0
        valid = float(mask.mean())
        if not valid:
            raise DataError(f"{path} holds no valid pixel: everything is transparent.")
        pixels = pixels[..., :3] * mask[..., None]
    return OpenedImage(pixels, valid, width, height, view)


def _picture_view(mode: str) -> View:
    if mode in {"P", "PA"}:
        return View([1, 1, 1], "colour table", "single band")
    if mode in {"1", "L", "LA"}:
        return View([1, 1, 1], "uint8 as is" if mode != "1" else "black and white", "single band")
    return View([1, 2, 3], "CMYK converted to RGB" if mode == "CMYK" else "uint8 as is", "declared colours")
