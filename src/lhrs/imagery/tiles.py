"""Web-mercator tiles: where `z/x/y` lies."""

import math
import re
from pathlib import Path

from lhrs.errors import DataError

_NAME = re.compile(r"(\d+)-(\d+)-(\d+)$")
EARTH_M = 2 * math.pi * 6378137.0
"""Sides of the web-mercator square (EPSG:3857) in its own metres."""


def tile_address(path: Path) -> tuple[int, int, int]:
    """Return (x, y, z) from a name that ends in `x-y-z`, or from `z/x/y.png`.

    Raises:
        DataError: the path is neither.
    """
    found = _NAME.search(path.stem)
    if found:
        x, y, z = (int(v) for v in found.groups())
        return x, y, z
    parts = [*path.parts[-3:-1], path.stem]
    if len(parts) == 3 and all(p.isdecimal() for p in parts) and max(int(parts[1]), int(parts[2])) < 2 ** int(parts[0]):
        return int(parts[1]), int(parts[2]), int(parts[0])
    raise DataError(f"{path}: the name does not end in x-y-z of a web-mercator tile, nor is it z/x/y.")


def tile_transform(x: int, y: int, z: int, side: int) -> tuple[float, float, float, float, float, float]:
    """Return the affine transform from pixels of a tile `side` pixels wide to EPSG:3857."""
    step = EARTH_M / 2**z / side
    return step, 0.0, x * step * side - EARTH_M / 2, 0.0, -step, EARTH_M / 2 - y * step * side
