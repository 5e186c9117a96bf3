"""Orientation tags of EXIF and TIFF (1 to 8): transforms between stored and upright pixels and windows."""

import struct
from typing import TYPE_CHECKING

import numpy as np

from lhrs.imagery.locations import open_binary

if TYPE_CHECKING:
    from affine import Affine

_TAG = 274
_MAX_TAGS = 4096
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
UPRIGHT = 1


def tiff_orientation(name: str, head: bytes) -> int:
    """Return the orientation tag of a TIFF on disk, which GDAL does not report; 1 for other files."""
    if not head.startswith(_TIFF_HEADS):
        return UPRIGHT
    order, is_big = "<" if head.startswith(b"II") else ">", b"+" in head[2:4]
    start, number, size, value_at = ("Q", "Q", 20, 12) if is_big else ("I", "H", 12, 8)
    try:
        (offset,) = struct.unpack_from(order + start, head, 8 if is_big else 4)
        with open_binary(name) as file:
            file.seek(offset)
            (count,) = struct.unpack(order + number, file.read(struct.calcsize(order + number)))
            entries = file.read(min(count, _MAX_TAGS) * size)
        for at in range(0, len(entries), size):
            if struct.unpack_from(order + "H", entries, at) == (_TAG,):
                (value,) = struct.unpack_from(order + "H", entries, at + value_at)
                return value if value in range(1, 9) else UPRIGHT
    except (OSError, struct.error, OverflowError):
        pass
    return UPRIGHT


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
    """Return stored `(..., H, W)` rotated and flipped to upright."""
    if orientation >= 5:
        values = values.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        values = values[..., ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[..., ::-1, :]
    return values
