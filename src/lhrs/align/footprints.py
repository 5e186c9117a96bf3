"""Footprints: which pieces of ground are described, and what picture shows each.

They come from image files, from windows cut out of scenes at a chosen ground sampling distance, from web-mercator
tiles, from STAC items, or, without imagery, from a grid over a map.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.align.store import Region
from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.open import list_images
from lhrs.imagery.scene import Scene, band_files, open_scene
from lhrs.imagery.tiles import tile_address, tile_transform

Affine6 = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: x' = a x + b y + c, y' = d x + e y + f."""
_WHOLE = 1.5
"""Images up to this many times the window's side are taken whole."""
_LEAST_WINDOW = 0.5
"""Share of a window that must lie on the scene."""


@dataclass(frozen=True)
class Source:
    """Where pictures come from, and on which terms."""

    name: str
    """Unique among the sources."""
    files: tuple[str, ...]
    """As `Scene.files`."""
    date: str | None = None
    """ISO day of acquisition."""
    licence: str | None = None
    attribution: str | None = None
    cloud_share: float | None = None
    """Of the whole scene, as its metadata say."""
    scl: str | None = None
    """File of Sentinel-2's scene classification: its clouds are counted window by window."""
    num_bands: int | None = None


@dataclass(frozen=True)
class Footprint:
    """A rectangle of ground, as a picture of `width` x `height` pixels shows it."""

    id: str
    crs: str
    transform: Affine6
    """Pixels of the picture to `crs`."""
    width: int
    height: int
    gsd_m: float
    source: Source | None = None
    window: tuple[float, float, float, float] | None = None
    """Left, top, width, height in pixels of the source; None is all of it."""


def corners_of(footprints: Sequence[Footprint]) -> np.ndarray:
    """Return `(N, 4, 2)` longitude and latitude of footprints of one CRS: top left, top right, and so on clockwise."""
    a, b, c, d, e, f = np.array([footprint.transform for footprint in footprints]).T[:, :, None]
    x, y = np.array([[footprint.width, footprint.height] for footprint in footprints]).T[:, :, None]
    x, y = x * [0, 1, 1, 0], y * [0, 0, 1, 1]
    lon, lat = from_crs(footprints[0].crs).transform(a * x + b * y + c, d * x + e * y + f)
    return np.stack([(lon + 180) % 360 - 180 if np.abs(lon).max() > 180 else lon, lat], -1)


@lru_cache(maxsize=16)
def from_crs(crs: str) -> Any:
    """Return what makes longitude and latitude of a CRS."""
    from pyproj import Transformer

    return Transformer.from_crs(crs, "EPSG:4326", always_xy=True)


def is_north_up(corners: np.ndarray) -> bool:
    """Tell from `(4, 2)` corners whether north is up to within a few degrees, so that a caption may speak of it."""
    east, north = corners[0] - corners[3]
    return bool(north > 0 and abs(east) * math.cos(math.radians(corners[0, 1])) < 0.1 * north)


def region_of(ring: np.ndarray) -> Region:
    """Return the bounds of `(N, 2)` longitudes and latitudes; west > east where they span the antimeridian."""
    lon, lat = ring[:, 0], ring[:, 1]
    south, north = float(lat.min()), float(lat.max())
    if lon.max() - lon.min() > 180:
        return float(lon[lon > 0].min()), south, float(lon[lon <= 0].max()), north
    return float(lon.min()), south, float(lon.max()), north


def from_imagery(
    paths: Sequence[Path],
    size: int = 512,
    gsd_m: float | None = None,
    licence: str | None = None,
    attribution: str | None = None,
    date: str | None = None,
) -> Iterator[Footprint]:
    """Yield footprints of files, folders and STAC items, in natural order of their names.

    Args:
        paths: images, folders of them, STAC items, collections or catalogues (.json).
        size: side in pixels of windows cut out of images that are larger.
        gsd_m: ground sampling distance of the windows; None keeps the image's own.
        licence: of images that do not state one themselves; so the others.
        attribution: the credit they ask for.
        date: ISO day on which they were taken.

    Raises:
        DataError: something is missing or cannot be read, or nothing is georeferenced.
    """
    num, seen, names = 0, 0, set()
    for source in _sources(paths, licence, attribution, date):
        seen += 1
        if source.name in names:
            raise DataError(
                f"{source.files[0]}: another image is called {source.name!r} too; give their common folder."
            )
        names.add(source.name)
        for footprint in _of_source(source, size, gsd_m):
            num += 1
            yield footprint
    if not num:
        given = ", ".join(map(str, paths))
        raise DataError(f"{given} holds no georeferenced image and no web-mercator tile (looked at {seen}).")


def _sources(paths: Sequence[Path], licence: str | None, attribution: str | None, date: str | None) -> Iterator[Source]:
    for path in paths:
        if path.suffix == ".json":
            from lhrs.align.stac import stac_sources

            yield from stac_sources(path, licence, attribution)
            continue
        scenes, alone = band_files(list_images([path]))
        for files in [*scenes, *((file,) for file in alone)]:
            name = files[0].relative_to(path).as_posix() if path.is_dir() else files[0].name
            num_bands = 13 if len(files) == 3 else None  # band by band is how Sentinel-2 comes
            yield Source(name, tuple(map(str, files)), date, licence, attribution, num_bands=num_bands)


def _of_source(source: Source, size: int, gsd_m: float | None) -> Iterator[Footprint]:
    scene = scene_of(source)
    if scene is None:
        return
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
    """Return where windows begin; the last ends with the scene, overlapping, unless the scene is smaller than one."""
    if length < step:
        return [0.0] if length >= _LEAST_WINDOW * step else []
    count = math.ceil(length / step - 1e-6)
    return [min(n * step, length - step) for n in range(count)]


def scene_of(source: Source) -> Scene | None:
    """Return the scene of a source, or None if it does not say where it lies.

    Raises:
        DataError: a file cannot be read.
    """
    if len(source.files) == 1 and Path(source.files[0]).suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}:
        found = _tile(Path(source.files[0]))
        if found is not None:
            return found
    try:
        return open_scene(source.files, source.num_bands)
    except DataError as error:
        if "georeferenced" in str(error):
            return None
        raise


def _tile(file: Path) -> Scene | None:
    from PIL import Image

    try:
        address = tile_address(file)
        with Image.open(file) as image:
            width, height = image.size
    except (DataError, OSError):
        return None
    if width != height:
        return None
    transform = tile_transform(*address, width)
    gsd_m = _gsd("EPSG:3857", transform, width)
    return Scene((str(file),), (1, 2, 3), 3, width, height, "EPSG:3857", transform, gsd_m)


def _gsd(crs: str, transform: Affine6, size: int) -> float:
    from affine import Affine
    from rasterio.crs import CRS

    found = Georeference(CRS.from_string(crs), Affine(*transform)).gsd_m(size, size)
    if found is None:
        raise DataError(f"a footprint in {crs} at {transform[2]}, {transform[5]} does not lie on the Earth.")
    return found


def grid(region: Region, size: int, gsd_m: float) -> Iterator[Footprint]:
    """Yield footprints side by side over a region, in its UTM zone (near the poles: polar stereographic).

    Args:
        region: in degrees.
        size: side of a footprint in pixels.
        gsd_m: metres per pixel.
    """
    from rasterio.warp import transform_bounds

    west, south, east, north = region
    middle = (west + (east + 360 if east < west else east)) / 2
    crs = _metric_crs((middle + 180) % 360 - 180, (south + north) / 2)
    left, bottom, right, top = transform_bounds("EPSG:4326", crs, west, south, east, north)
    step = size * gsd_m
    # Multiples of the step: neighbouring regions of one zone share a grid.
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
