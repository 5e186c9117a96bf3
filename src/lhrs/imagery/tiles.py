"""Georeference of web-mercator tiles (`z/x/y`)."""

import re
from pathlib import Path

from lhrs.errors import DataError

_NUMBER = r"(0|[1-9]\d{0,8})"  # dates have leading zeros, tiles have none
_NAME = re.compile(rf"(?<!\d){_NUMBER}-{_NUMBER}-{_NUMBER}$")
_PATH = re.compile(rf"{_NUMBER}/{_NUMBER}/{_NUMBER}")
_MAX_ZOOM = 24
"""Pixels at this zoom are smaller than a centimeter. A greater number is a day or a year."""


def parse_xyz(path: Path) -> tuple[int, int, int]:
    """Return (x, y, z) from a name that ends in `x-y-z`, or from `z/x/y.png`.

    Raises:
        DataError: the path is neither, or a date.
    """
    if match := _NAME.search(path.stem):
        x, y, z = map(int, match.groups())
        # A date such as 2021-10-12: tiles this close to the pole have no content.
        if _exists(x, y, z) and not (1000 <= x <= 9999 and 1 <= y <= 12):
            return x, y, z
    elif match := _PATH.fullmatch("/".join([*path.parts[-3:-1], path.stem])):
        z, x, y = map(int, match.groups())
        if _exists(x, y, z):
            return x, y, z
    raise DataError(f"{path}: the name does not end in x-y-z of a web-mercator tile, nor is it z/x/y.")


def _exists(x: int, y: int, z: int) -> bool:
    return z <= _MAX_ZOOM and max(x, y) < 2**z


def tile_transform(x: int, y: int, z: int, side: int) -> tuple[float, float, float, float, float, float]:
    """Return the affine transform from pixels of a tile `side` pixels wide to EPSG:3857."""
    import mercantile

    bounds = mercantile.xy_bounds(x, y, z)
    step = (bounds.right - bounds.left) / side
    return step, 0.0, bounds.left, 0.0, -step, bounds.top
