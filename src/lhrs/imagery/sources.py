"""Where scenes come from: files, folders, scenes stored band by band, web-mercator tiles, STAC items, URLs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.open import list_images
from lhrs.imagery.scene import Scene, band_files, open_scene
from lhrs.imagery.sensors import Sensor, find_sensor
from lhrs.imagery.tiles import tile_address, tile_transform

Affine6 = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: x' = a x + b y + c, y' = d x + e y + f."""
_ELSEWHERE = ("http://", "https://", "s3://", "gs://", "/vsi")
_BY_BAND = "sentinel-2-l1c"
"""The sensor of scenes that are stored band by band."""


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


def sources(
    paths: Sequence[str | Path], licence: str | None = None, attribution: str | None = None, date: str | None = None
) -> Iterator[Source]:
    """Yield the sources among files, folders and STAC files (.json).

    Args:
        paths: of them, or URLs that GDAL reads.
        licence: of images that do not state one themselves; so the others.
        attribution: the credit they ask for.
        date: ISO day on which they were taken.

    Raises:
        DataError: something is missing, or is no STAC.
    """
    for given in paths:
        if str(given).endswith(".json"):
            from lhrs.imagery.stac import stac_sources

            yield from stac_sources(str(given), licence, attribution)
            continue
        if str(given).startswith(_ELSEWHERE):
            yield Source(str(given).rstrip("/").rpartition("/")[2], (str(given),), date, licence, attribution)
            continue
        path = Path(given)
        scenes, alone = band_files(list_images([path]))
        for files in [*scenes, *((file,) for file in alone)]:
            name = files[0].relative_to(path).as_posix() if path.is_dir() else files[0].name
            num_bands = 13 if len(files) == 3 else None  # band by band is how Sentinel-2 comes
            yield Source(name, tuple(map(str, files)), date, licence, attribution, num_bands=num_bands)


def scene_of(source: Source, sensor: str | None = None, view: str | None = None) -> Scene | None:
    """Return the scene of a source, or None if it does not say where it lies.

    Args:
        source: of the scene.
        sensor: that took it, see `open_scene`.
        view: of the sensor; None is its first.

    Raises:
        DataError: a file cannot be read, or the file of a band is not there.
        ConfigError: there is no such sensor or view.
    """
    if len(source.files) == 1 and Path(source.files[0]).suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}:
        found = _tile(Path(source.files[0]))
        if found is not None:
            return found
    try:
        if len(source.files) > 1 and (sensor or view):
            return _by_band(source, find_sensor(sensor or _BY_BAND), view)
        return open_scene(source.files, source.num_bands, sensor, view)
    except DataError as error:
        if "georeferenced" in str(error):
            return None
        raise


def _by_band(source: Source, sensor: Sensor, view: str | None) -> Scene:
    """Return a view of a scene whose bands are files, named like that of its red band."""
    look = sensor.view(view or next(iter(sensor.views)))
    red = Path(source.files[0])
    names = [sensor.bands[band - 1] for band in look.bands]
    files = []
    for known in names:
        there = [
            path for name in known if (path := red.with_name(re.sub(r"B0?4$", name, red.stem) + red.suffix)).exists()
        ]
        if not there:
            raise DataError(f"{red}: there is no file of the band {known[0]} beside it, which {look.words} needs.")
        files.append(there[0])
    return replace(open_scene([red], source.num_bands), files=tuple(map(str, files)),
                   bands=(1,) * len(files), look=look)  # fmt: skip


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
