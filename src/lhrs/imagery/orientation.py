"""Orientation tags of EXIF and TIFF (1 to 8): how stored pixels are turned upright, and windows back."""

from typing import TYPE_CHECKING

import numpy as np

from lhrs.imagery.locations import open_binary

if TYPE_CHECKING:
    from affine import Affine

_TAG = 274
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
UPRIGHT = 1


def tiff_orientation(name: str, head: bytes) -> int:
    """Return the orientation tag of a TIFF on disk; 1 for anything else. GDAL does not report it."""
    if not head.startswith(_TIFF_HEADS):
        return UPRIGHT
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        with open_binary(name) as file:
            header = file.read(16 if head[2:3] == b"+" or head[3:4] == b"+" else 8)
            directory = ImageFileDirectory_v2(header)
            file.seek(directory.next)
            directory.load(file)
            value = directory.get(_TAG, UPRIGHT)
    except (OSError, SyntaxError, ValueError, KeyError, TypeError):
        return UPRIGHT
    return value if value in range(1, 9) else UPRIGHT


def upright_size(orientation: int, width: int, height: int) -> tuple[int, int]:
    """Return width and height of the upright image of stored pixels."""
    return (height, width) if orientation >= 5 else (width, height)


def to_stored(orientation: int, width: int, height: int) -> "Affine":
    """Return the transform from upright pixel coordinates to those of the stored `width` x `height` pixels."""
    from affine import Affine

    return {
        1: Affine.identity(),
        2: Affine(-1, 0, width, 0, 1, 0),
        3: Affine(-1, 0, width, 0, -1, height),
        4: Affine(1, 0, 0, 0, -1, height),
        5: Affine(0, 1, 0, 1, 0, 0),
        6: Affine(0, 1, 0, -1, 0, height),
        7: Affine(0, -1, width, -1, 0, height),
        8: Affine(0, -1, width, 1, 0, 0),
    }[orientation]


def turn_upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Return stored `(..., H, W)` turned upright."""
    if orientation >= 5:
        values = values.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        values = values[..., ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[..., ::-1, :]
    return values
