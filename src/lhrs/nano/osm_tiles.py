"""OpenAerialMap tiles with OpenStreetMap building polygons (GeoJSON, lon/lat): image + boxes per tile.

Tiles are GeoTIFFs, or pictures named `OAM-{x}-{y}-{z}` after their web-mercator tile address.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.reader import open_source
from lhrs.imagery.tiles import parse_xyz


@dataclass(frozen=True)
class Site:
    """One tile and the buildings on it."""

    image: Path
    boxes: list[list[float]]
    """xyxy in pixels of the tile, clipped to it; at least 30 % of each building lies inside."""
    gsd_m: float


def _mercator(lonlat: np.ndarray, z: int) -> np.ndarray:
    """Return tile coordinates (x, y) of lon/lat points at zoom z."""
    lon, lat = np.radians(lonlat[:, 0]), np.radians(lonlat[:, 1])
    return np.stack([(lon / math.pi + 1) / 2, (1 - np.arcsinh(np.tan(lat)) / math.pi) / 2], 1) * 2**z


def read_sites(folder: Path, labels: str, hold_out: list[int], held_out: bool) -> list[Site]:
    """Return tiles of `folder` with building boxes, ordered by name.

    hold_out: tile columns (x) kept apart; `held_out` chooses whether those or the others are returned.
    Raises DataError if a file is missing or no tile is found.
    """

    labels_path = (folder / labels).resolve()
    if not labels_path.exists():
        raise DataError(f"{labels_path} is missing: it should hold the building polygons of {folder}.")
    rings = []
    for feature in json.loads(labels_path.read_text())["features"]:
        shape = feature["geometry"]
        parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
        rings += [np.array(part[0])[:, :2] for part in parts]
    sites = []
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".tif", ".png", ".jpg"}):
        x, y, z = parse_xyz(path)
        if (x in hold_out) != held_out:
            continue
        side = open_source(path).width
        boxes = []
        for ring in rings:
            p = (_mercator(ring, z) - [x, y]) * side
            lo, hi = p.min(0), p.max(0)
            a, b = lo.clip(0, side), hi.clip(0, side)
            if (b - a).min() >= 3 and np.prod(b - a) >= 0.3 * np.prod(hi - lo):
                boxes.append([*a.tolist(), *b.tolist()])
        lat = math.atan(math.sinh(math.pi * (1 - 2 * (y + 0.5) / 2**z)))
        sites.append(Site(path, boxes, 40075016.686 * math.cos(lat) / 2**z / side))
    if not sites:
        raise DataError(f"{folder} has no tiles that fit the hold-out choice.")
    return sites
