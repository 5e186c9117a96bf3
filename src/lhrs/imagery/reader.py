"""Open any image or raster: pixel values, validity, orientation, georeference, band names and radiometry.

`open_source` returns a `RasterReader`. Rendering to 8-bit RGB (`lhrs.imagery.composites`) and normalization for
networks are layers above it. The format is detected from the content of a file, not from its name. 8-bit images are
decoded with Pillow, all others with GDAL, which is imported only then.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from lhrs.errors import DataError
from lhrs.imagery import locations
from lhrs.imagery.band_files import group_band_files, name_band_files
from lhrs.imagery.base_reader import PixelWindow, RasterReader, dark_is_valid, stack_bands, with_radiometry
from lhrs.imagery.sensors import BandComposite

__all__ = [
    "PixelWindow",
    "RasterReader",
    "dark_is_valid",
    "open_bands",
    "open_source",
    "stack_bands",
    "with_radiometry",
]

Source = str | os.PathLike[str]
_RAW = r"_\(Raw\)$"
_RAW_FACTORS = {"uint8": 255, "uint16": 65535}
"""EO Browser scales reflectance by the maximum of the data type."""


def open_source(
    path: "Source | Sequence[Source]", *, driver: str | None = None, raw: bool = False, keep_open: bool = False
) -> RasterReader:
    """Open an image or raster of any kind.

    Args:
        path: a file; several files, whose bands are concatenated; a folder of the bands of one scene (Sentinel-2 SAFE,
            Landsat, EO Browser, PlanetScope); a VRT; a subdataset such as `netcdf:FILE:VARIABLE`; a file in an archive
            (`/vsizip/`, `/vsitar/`); a URL.
        driver: GDAL short name of the only format to try, for untrusted files: they must not refer to other files, and
            sidecar files are ignored. None is all.
        raw: return stored values: codes of a color table instead of colors, alpha as a band. For label masks.
        keep_open: keep the file open until the first read, for an image that is read once.

    Raises:
        DataError: a file is missing, empty, damaged or not an image, or the files differ in their extent.
    """
    if not isinstance(path, str | os.PathLike):
        readers = [open_source(file, driver=driver, raw=raw) for file in path]
        names, sensor = name_band_files([Path(file) for file in path])
        is_named = len(names) == len(readers) == sum(reader.count for reader in readers)
        return stack_bands(readers, None, names).of_sensor(sensor) if is_named else stack_bands(readers)
    name = locations.gdal_name(path)
    if driver is None and name is None and Path(path).is_dir():
        return _open_band_folder(Path(path), raw=raw)
    if driver is not None and name is not None:
        raise DataError(f"{path} is not a file.")
    name = name or os.fspath(path)
    head = locations.read_head(name)
    if head is not None and locations.is_8bit_image(head) and not (driver is None and _needs_gdal(name, raw)):
        from lhrs.imagery.pillow_reader import open_pillow

        return open_pillow(name, raw, keep_open)
    from lhrs.imagery.gdal_reader import open_gdal

    return open_gdal(name, driver, raw, keep_open)


def _needs_gdal(name: str, raw: bool) -> bool:
    """Return whether sidecar files of an 8-bit image hold a georeference or a mask, not only statistics."""
    if raw or not locations.has_sidecar(name):
        return False
    from lhrs.imagery.gdal_reader import adds_to_image

    return adds_to_image(name)


def open_bands(
    names: Sequence[str], files: Sequence[str | Path], sensor: str | None = None, composite: BandComposite | None = None
) -> RasterReader:
    """Return one reader of bands that are stored as one file each.

    Args:
        names: of the bands.
        files: one per band.
        sensor: from the product name.
        composite: open only the bands of this composite; None is all.

    Raises:
        DataError: a file cannot be read, a band is missing, or the files differ in their extent.
    """
    chosen = list(range(len(names)))
    if composite is not None:
        chosen = []
        for known in composite.bands:
            at = next((n for n, name in enumerate(names) if name.lower() in {other.lower() for other in known}), None)
            if at is None:
                raise DataError(
                    f"{files[0]}: there is no file of the band {known[0]} next to it, for {composite.description}."
                )
            chosen.append(at)
    readers = [_open_band(str(files[n])) for n in dict.fromkeys(chosen)]
    reader = stack_bands(readers, None if composite is not None else 0, [names[n] for n in dict.fromkeys(chosen)])
    return reader.of_sensor(sensor)


def _open_band(file: str) -> RasterReader:
    reader = open_source(file)
    if reader.count != 1:
        raise DataError(f"{file} has {reader.count} bands; a file of one band was expected.")
    factor = _RAW_FACTORS.get(reader.dtype)
    if re.search(_RAW, Path(file).stem) and factor and reader.scales == (1.0,):
        return with_radiometry(reader, 1 / factor, 0.0)
    return reader


def _open_band_folder(folder: Path, raw: bool = False) -> RasterReader:
    """Return one reader of the bands of the scene in a folder.

    Raises:
        DataError: the folder contains no scene, or several.
    """
    groups, rest, _ = group_band_files(locations.list_images([folder]))
    if len(groups) == 1 and not rest:
        (group,) = groups
        return open_bands(list(group.bands), list(group.bands.values()), group.sensor)
    if not groups and len(rest) == 1:
        return open_source(rest[0], raw=raw)
    raise DataError(
        f"{folder} contains {len(groups)} scenes stored band by band and {len(rest)} other images: name one of them."
    )
