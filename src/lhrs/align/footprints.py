"""Footprints: the ground areas to describe, and the image of each.

They come from image files, from windows of scenes at a chosen ground sampling distance, from web-mercator
tiles, from STAC items, or, without imagery, from a grid over a map.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.align.feature_store import Region
from lhrs.dropped import Dropped
from lhrs.errors import DataError
from lhrs.imagery.discover import Affine6, ImageSource, open_scene_source, sources
from lhrs.imagery.scene import Scene
from lhrs.imagery.windows import window_starts

_WHOLE = 1.5
"""Images up to this many times the window side are used whole."""
_LEAST_WINDOW = 0.5
"""Minimum fraction of a window that must be inside the scene."""


@dataclass(frozen=True)
class Footprint:
    """A rectangle on the ground, shown by an image of `width` x `height` pixels."""

    id: str
    crs: str
    transform: Affine6
    """Affine transform from image pixels to `crs`."""
    width: int
    height: int
    gsd_m: float
    source: ImageSource | None = None
    window: tuple[float, float, float, float] | None = None
    """Left, top, width, height in pixels of the source; None is the whole source."""


def lonlat_corners(footprints: Sequence[Footprint]) -> np.ndarray:
    """Return `(N, 4, 2)` longitude and latitude of footprints of one CRS: top left, top right, and so on clockwise."""
    a, b, c, d, e, f = np.array([footprint.transform for footprint in footprints]).T[:, :, None]
    x, y = np.array([[footprint.width, footprint.height] for footprint in footprints]).T[:, :, None]
    x, y = x * [0, 1, 1, 0], y * [0, 0, 1, 1]
    lon, lat = crs_transformer(footprints[0].crs).transform(a * x + b * y + c, d * x + e * y + f)
    return np.stack([(lon + 180) % 360 - 180 if np.abs(lon).max() > 180 else lon, lat], -1)


def group_key(footprint: Footprint) -> tuple:
    """Return the key that all footprints of a block share.

    The key includes the quarter of the Earth. The bounds of a block that spans more than half of the Earth are
    ambiguous, and so is the position of a longitude in its plane.
    """
    a, b, c, d, e, f = footprint.transform
    size = abs(a * e - b * d) ** 0.5
    longitude = crs_transformer(footprint.crs).transform(c, f)[0]
    quarter = longitude // 90 if math.isfinite(longitude) else math.inf
    return footprint.crs, *(round(v / size, 9) + 0.0 for v in (a, b, d, e)), quarter


@lru_cache(maxsize=16)
def crs_transformer(crs: str) -> Any:
    """Return the transformer from a CRS to longitude and latitude."""
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def lonlat_bounds(ring: np.ndarray) -> Region:
    """Return the bounds of `(N, 2)` longitudes and latitudes; west > east where they span the antimeridian."""
    lon, lat = ring[:, 0], ring[:, 1]
    south, north = float(lat.min()), float(lat.max())
    if lon.max() - lon.min() > 180:
        return float(lon[lon > 0].min()), south, float(lon[lon <= 0].max()), north
    return float(lon.min()), south, float(lon.max()), north


def footprints_from_imagery(
    paths: Sequence[Path],
    size: int = 512,
    gsd_m: float | None = None,
    license: str | None = None,
    attribution: str | None = None,
    date: str | None = None,
    unreadable: Callable[[str], None] | None = None,
    dropped: Dropped | None = None,
) -> Iterator[Footprint]:
    """Yield footprints of files, folders and STAC items, in natural order of their names.

    Args:
        paths: images, folders of them, STAC items, collections or catalogs (.json).
        size: side in pixels of the windows of larger images.
        gsd_m: ground sampling distance of the windows; None keeps the image's own.
        license: license of images whose metadata have none.
        attribution: attribution of images whose metadata have none.
        date: day of acquisition of images whose metadata have none, in ISO format.
        unreadable: receives the reason why a file cannot be read, and the file is skipped; None raises instead.
        dropped: counts images without a georeference, and files of a scene that are not bands.

    Raises:
        DataError: a path is missing, a file cannot be read, or no image is georeferenced.
    """
    num, num_sources, names, broken = 0, 0, set(), None
    dropped = Dropped() if dropped is None else dropped
    for source in sources(paths, license, attribution, date, dropped):
        num_sources += 1
        if source.name in names:
            raise DataError(
                f"{source.files[0]}: another image is called {source.name!r} too; give their common folder."
            )
        names.add(source.name)
        try:
            footprints = _of_source(source, size, gsd_m)
        except DataError as error:
            if unreadable is None:
                raise
            broken = broken or error
            unreadable(str(error))
            continue
        if footprints is None:
            dropped.add("images without a georeference", source.name)
            continue
        num += len(footprints)
        yield from footprints
    if not num and broken is not None:
        raise broken
    if not num:
        searched = ", ".join(map(str, paths))
        raise DataError(f"{searched} contains no georeferenced image and no web-mercator tile ({num_sources} images).")


def _of_source(source: ImageSource, size: int, gsd_m: float | None) -> list[Footprint] | None:
    """Return the footprints of a source, or None if it is not georeferenced."""
    scene = open_scene_source(source)
    return None if scene is None else list(_of_scene(scene, source, size, gsd_m))


def _of_scene(scene: Scene, source: ImageSource, size: int, gsd_m: float | None) -> Iterator[Footprint]:
    step = size if gsd_m is None else size * gsd_m / scene.gsd_m
    if max(scene.width, scene.height) <= _WHOLE * size and gsd_m is None:
        yield Footprint(source.name, scene.crs, scene.transform, scene.width, scene.height, scene.gsd_m, source)
        return
    a, b, c, d, e, f = scene.transform
    scale = step / size
    for top in _starts(scene.height, step):
        for left in _starts(scene.width, step):
            moved = (a * scale, b * scale, a * left + b * top + c, d * scale, e * scale, d * left + e * top + f)
            yield Footprint(
                f"{source.name}@{round(left)},{round(top)}", scene.crs, moved, size, size, scene.gsd_m * scale, source,
                (left, top, step, step),
            )  # fmt: skip


def _starts(length: int, step: float) -> list[float]:
    """Return the starts of windows. The last window ends at the edge of the scene, unless the scene is smaller."""
    if length < _LEAST_WINDOW * step:
        return []
    return [float(start) for start in window_starts(length, step)]


def footprint_grid(region: Region, size: int, gsd_m: float) -> Iterator[Footprint]:
    """Yield footprints side by side over a region, in its UTM zone (near the poles: polar stereographic).

    Args:
        region: bounds in degrees.
        size: side of a footprint in pixels.
        gsd_m: meters per pixel.
    """
    from rasterio.warp import transform_bounds

    west, south, east, north = region
    middle = (west + (east + 360 if east < west else east)) / 2
    crs = _metric_crs((middle + 180) % 360 - 180, (south + north) / 2)
    left, bottom, right, top = transform_bounds("EPSG:4326", crs, west, south, east, north)
    step = size * gsd_m
    # Multiples of the step: neighboring regions of one zone share a grid.
    columns = range(math.floor(left / step), math.ceil(right / step))
    rows = range(math.floor(bottom / step), math.ceil(top / step))
    for row in reversed(rows):
        for column in columns:
            transform = (gsd_m, 0.0, column * step, 0.0, -gsd_m, (row + 1) * step)
            yield Footprint(f"{crs.lower().replace(':', '')}_{column}_{row}", crs, transform, size, size, gsd_m)


def _metric_crs(longitude: float, latitude: float) -> str:
    if latitude > 84:
        return "EPSG:32661"
    if latitude < -80:
        return "EPSG:32761"
    zone = min(int((longitude + 180) // 6) + 1, 60)
    return f"EPSG:{32600 + zone if latitude >= 0 else 32700 + zone}"
