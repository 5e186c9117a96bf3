"""Discovery of scenes: files, folders, scenes stored band by band, web-mercator tiles, STAC items, URLs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lhrs.dropped import Dropped
from lhrs.errors import DataError
from lhrs.imagery import locations
from lhrs.imagery.band_files import group_band_files
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.image import list_images
from lhrs.imagery.reader import RasterReader, open_bands, open_source, with_radiometry
from lhrs.imagery.scene import NotGeoreferencedError, Scene, make_scene
from lhrs.imagery.sensors import TRUE_COLOR, find_sensor
from lhrs.imagery.source import ImageSource
from lhrs.imagery.tiles import parse_xyz, tile_transform

Affine6 = tuple[float, float, float, float, float, float]
"""a, b, c, d, e, f: x' = a x + b y + c, y' = d x + e y + f."""
_TILE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
"""File formats of web-mercator tiles."""


def sources(
    paths: Sequence[str | Path],
    license: str | None = None,
    attribution: str | None = None,
    date: str | None = None,
    dropped: Dropped | None = None,
) -> Iterator[ImageSource]:
    """Yield the sources among files, folders and STAC files (.json).

    Args:
        paths: files and folders, or names that GDAL reads: URLs, subdatasets, members of archives.
        license: default for images that do not state one.
        attribution: default credit.
        date: default ISO day of acquisition.
        dropped: counts files that belong to a scene but are not bands.

    Raises:
        DataError: a path is missing, or a JSON file is not STAC.
    """
    for path in paths:
        if str(path).endswith(".json"):
            from lhrs.imagery.stac import stac_sources

            yield from stac_sources(str(path), license, attribution)
            continue
        if (name := locations.gdal_name(path)) is not None:
            yield ImageSource(name.rstrip("/").rpartition("/")[2], (name,), date, license, attribution)
            continue
        root = Path(path)
        groups, alone, companions = group_band_files(list_images([root]))
        for file in companions:
            if dropped is not None:
                dropped.add("quality layers and previews of scenes stored band by band", file.name)
        for group in groups:
            files = tuple(map(str, group.bands.values()))
            yield ImageSource(_name(files[0], root), files, date, license, attribution,
                         bands=tuple(group.bands), sensor=group.sensor)  # fmt: skip
        for file in alone:
            yield ImageSource(_name(file, root), (str(file),), date, license, attribution)


def _name(file: str | Path, root: Path) -> str:
    return Path(file).relative_to(root).as_posix() if root.is_dir() else Path(file).name


def open_scene_source(
    source: ImageSource, sensor: str | None = None, composite: str | None = None, driver: str | None = None
) -> Scene | None:
    """Return the scene of a source, or None if it is not georeferenced.

    Args:
        source: of the scene.
        sensor: of the scene, see `lhrs.imagery.composites.plan_composite`.
        composite: of the sensor; None is its first.
        driver: of one file, see `open_source`.

    Raises:
        DataError: a file cannot be read, the file of a band is missing, or no affine transform fits the georeference.
        ConfigError: there is no such sensor or composite.
    """
    reader = _open(source, sensor, composite, driver)
    try:
        return make_scene(reader, sensor, composite)
    except NotGeoreferencedError:
        return _tile(reader, sensor, composite) if len(source.files) == 1 else None


def _open(source: ImageSource, sensor: str | None, composite: str | None, driver: str | None) -> RasterReader:
    names, files = source.bands, source.files
    if not names and source.band_assets and (sensor, composite) not in ((None, None), (None, TRUE_COLOR)):
        names, files = zip(*source.band_assets, strict=True)
    if not names:  # a true-color image contains no reflectance, whatever the catalog states
        return open_source(files[0], driver=driver)
    if sensor is None and source.sensor is None:
        reader = open_bands(names[:3], files[:3])
    else:
        known = find_sensor(sensor or source.sensor or "")
        if known.name == "landsat-mss" and composite is None:
            raise DataError(f"{files[0]}: Landsat MSS has no blue band, so no true color: name a composite.")
        reader = open_bands(names, files, source.sensor, known.composite(composite))
    if source.scale is not None or source.offset is not None:
        reader = with_radiometry(reader, 1.0 if source.scale is None else source.scale, source.offset or 0.0)
    elif source.baseline is not None:
        reader = replace(reader, tags={**reader.tags, "PROCESSING_BASELINE": source.baseline})
    return reader


def _tile(reader: RasterReader, sensor: str | None, composite: str | None) -> Scene | None:
    """Return the scene of a file without a georeference whose name is that of a web-mercator tile."""
    if Path(reader.name).suffix.lower() not in _TILE_SUFFIXES or reader.width != reader.height:
        return None
    try:
        address = parse_xyz(Path(reader.name))
    except DataError:
        return None
    return make_scene(_placed(reader, address), sensor, composite)


def _placed(reader: RasterReader, address: tuple[int, int, int]) -> RasterReader:
    from affine import Affine
    from rasterio.crs import CRS

    size = reader.width
    placed = Georeference(CRS.from_epsg(3857), Affine(*tile_transform(*address, size))).around(size, size)
    gsd_m = placed.gsd_m(size, size)
    if gsd_m is None:
        raise DataError(f"{reader.name}: the tile {address} is not on the Earth.")
    return replace(reader, georeference=placed, gsd_m=gsd_m)
