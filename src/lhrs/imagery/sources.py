"""Where scenes come from: files, folders, scenes stored band by band, web-mercator tiles, STAC items, URLs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.open import list_images
from lhrs.imagery.scene import NowhereError, Scene, band_files, check_view, open_scene
from lhrs.imagery.sensors import Sensor, find_sensor
from lhrs.imagery.tiles import tile_address, tile_transform

Affine6 = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: x' = a x + b y + c, y' = d x + e y + f."""
_ELSEWHERE = ("http://", "https://", "s3://", "gs://", "/vsi")
_BY_BAND = "sentinel-2-l1c"
"""The sensor of Sentinel-2 scenes that are stored band by band."""
_SENTINEL2_TILE = re.compile(r"(?:^|[_.-])T\d\d[A-Z]{3}_")
_INFRARED = re.compile(r"(?:^|[_.-])L[EMT](?:0[1-7]_|[1-7]\d{6}).*B4$", re.IGNORECASE)
"""Landsat 1 to 7, by the names of their products: band 4 is infrared, 3 and 2 are red and green."""
_PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
"""What web-mercator tiles are stored as."""


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
            num_bands = 13 if len(files) == 3 and _is_sentinel2(files[0]) else None
            yield Source(name, tuple(map(str, files)), date, licence, attribution, num_bands=num_bands)


def scene_of(
    source: Source, sensor: str | None = None, view: str | None = None, driver: str | None = None
) -> Scene | None:
    """Return the scene of a source, or None if it does not say where it lies.

    Args:
        source: of the scene.
        sensor: that took it, see `open_scene`.
        view: of the sensor; None is its first.
        driver: of one file, see `open_scene`.

    Raises:
        DataError: a file cannot be read, the file of a band is not there, or the bands are no true colours.
        ConfigError: there is no such sensor or view.
    """
    try:
        if len(source.files) == 1:
            return open_scene(source.files, source.num_bands, sensor, view, driver=driver)
        if sensor is None and source.num_bands is None:
            _check_colours(source.files[0])
            check_view(source.files[0], view)
            return open_scene(source.files)
        if sensor or view:
            return _by_band(source, find_sensor(sensor or _BY_BAND), view)
        return open_scene(source.files, source.num_bands)
    except NowhereError:
        return _tile(source.files[0], sensor, view, driver) if len(source.files) == 1 else None


def _is_sentinel2(red: Path) -> bool:
    """Tell by the tile in its name, or by a band that no other satellite has; Landsat numbers its bands too."""
    return bool(_SENTINEL2_TILE.search(red.stem)) or any(_beside(red, name).exists() for name in ("B8A", "b8a"))


def _beside(red: Path, band: str) -> Path:
    """Return where another band of a scene lies that is stored band by band."""
    return red.with_name(re.sub(r"B0?4$", band, red.stem, flags=re.IGNORECASE) + red.suffix)


def _check_colours(red: str) -> None:
    """Raise DataError if red, green and blue of a scene stored band by band are other bands."""
    if _INFRARED.search(Path(red).stem):
        raise DataError(
            f"{red}: bands 4, 3 and 2 of Landsat 1 to 7 are infrared, red and green, no true colours; put bands 3, 2 "
            "and 1 into one file: gdalbuildvrt -separate"
        )


def _by_band(source: Source, sensor: Sensor, view: str | None) -> Scene:
    """Return a view of a scene whose bands are files, named like that of its red band."""
    look = sensor.view(view or next(iter(sensor.views)))
    red = Path(source.files[0])
    names = [sensor.bands[band - 1] for band in look.bands]
    files = []
    for known in names:
        there = [path for name in known if (path := _beside(red, name)).exists()]
        if not there:
            raise DataError(f"{red}: there is no file of the band {known[0]} beside it, which {look.words} needs.")
        files.append(there[0])
    return replace(open_scene([red], source.num_bands), files=tuple(map(str, files)),
                   bands=(1,) * len(files), look=look)  # fmt: skip


def _tile(file: str, sensor: str | None, view: str | None, driver: str | None) -> Scene | None:
    """Return the scene of a file that lies nowhere, but is named like a web-mercator tile."""
    if Path(file).suffix.lower() not in _PICTURES:
        return None
    try:
        address = tile_address(Path(file))
    except DataError:
        return None
    scene = open_scene([file], None, sensor, view, located=False, driver=driver)
    if scene.width != scene.height:
        return None
    transform = tile_transform(*address, scene.width)
    return replace(scene, crs="EPSG:3857", transform=transform, gsd_m=_gsd("EPSG:3857", transform, scene.width))


def _gsd(crs: str, transform: Affine6, size: int) -> float:
    from affine import Affine
    from rasterio.crs import CRS

    found = Georeference(CRS.from_string(crs), Affine(*transform)).gsd_m(size, size)
    if found is None:
        raise DataError(f"a footprint in {crs} at {transform[2]}, {transform[5]} does not lie on the Earth.")
    return found
