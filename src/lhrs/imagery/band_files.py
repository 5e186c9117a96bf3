"""Scenes stored band by band: Sentinel-2 SAFE folders, Landsat products, EO Browser's and other downloads.

A file belongs to a scene by its name, which ends with the band: `T33TWN_20230601T100031_B04_10m.jp2`,
`LC08_L2SP_190028_20200801_20200915_02_T1_SR_B4.TIF`, `..._Sentinel-2_L2A_B04_(Raw).tiff`, `B04.tif`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lhrs.errors import DataError
from lhrs.imagery.reader import RasterReader, open_source, stack_bands, with_radiometry
from lhrs.imagery.sensors import BandComposite, find_sensor, kind_of

_BAND = re.compile(r"(.*?)(?:^|[_.-])(SR_B\d|B\d{1,2}|B8A)(?:_([126]0)m)?(?:_\(Raw\))?$", re.IGNORECASE)
_COMPANION = re.compile(
    r"(.*?)(?:^|[_.-])(TCI|SCL|WVP|AOT|PVI|QA60|CLP|CLM|ST_\w+|QA_\w+|SR_\w+|ST|VAA|VZA|SAA|SZA|thumb_\w+)"
    r"(?:_[126]0m)?(?:_\(Raw\))?$",
    re.IGNORECASE,
)
"""What products hold besides bands: quality layers, masks, angles, previews."""
_RESOLUTION_FOLDER = re.compile(r"R[126]0m", re.IGNORECASE)
_SAFE_EXTRAS = {"QI_DATA", "AUX_DATA", "preview", "HTML", "rep_info"}
_SENTINEL2 = re.compile(r"(?:^|[_.-])T\d\d[A-Z]{3}_|S2[A-D]_MSI|Sentinel-2", re.IGNORECASE)
_LANDSAT = re.compile(r"(?:^|[_.-])L([COTEM])(?:0?([1-9])_|([1-9])\d{6})", re.IGNORECASE)
_PADDED = re.compile(r"B0[1-9]|B8A", re.IGNORECASE)
_UDM = re.compile(r"(.*_3B)_(?:udm2?|DN_udm)", re.IGNORECASE)
_RAW = re.compile(r"_\(Raw\)$")
_RAW_FACTORS = {"uint8": 255, "uint16": 65535}
"""EO Browser stores reflectance times the largest value of the type."""
_RGB_BY_NUMBER = ("B4", "B3", "B2")


@dataclass(frozen=True)
class BandGroup:
    """The files of one scene."""

    bands: dict[str, Path]
    """By the band's name as in the file's name, red, green and blue first where they are known."""
    sensor: str | None
    """By the product's name."""


def group_band_files(files: Sequence[Path]) -> tuple[list[BandGroup], list[Path], list[Path]]:
    """Return the scenes stored band by band, all other files, and what belongs to such scenes but is no band.

    Args:
        files: images, in order.
    """
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    for file in files:
        if named := _BAND.match(file.stem):
            bands = found.setdefault(_key(file, named[1]), {})
            name = named[2].upper()
            if name not in bands or int(named[3] or 0) < _resolution(bands[name]):
                bands[name] = file
    scenes = {}
    for key, bands in found.items():
        sensor = _detect(next(iter(bands.values())), bands)
        if group := _ordered(bands, sensor):
            scenes[key] = group
    rest: list[Path] = []
    companions: list[Path] = []
    for file in files:
        if (named := _BAND.match(file.stem)) and _key(file, named[1]) in scenes:
            continue
        (companions if _is_companion(file, scenes, files) else rest).append(file)
    return list(scenes.values()), rest, companions


def _key(file: Path, scene: str) -> tuple[Path, str]:
    folder = file.parent.parent if _RESOLUTION_FOLDER.fullmatch(file.parent.name) else file.parent
    return folder, scene


def _resolution(file: Path) -> int:
    named = _BAND.match(file.stem)
    return int(named[3] or 0) if named else 0


def _is_companion(file: Path, scenes: dict[tuple[Path, str], BandGroup], files: Sequence[Path]) -> bool:
    """Return whether a file belongs to a scene but holds no band."""
    if (named := _COMPANION.match(file.stem)) and _key(file, named[1]) in scenes:
        return True
    if found := _UDM.match(file.stem):
        return any(other.stem.startswith(f"{found[1]}_Analytic") for other in files if other.parent == file.parent)
    safe = next((folder for folder in file.parents if folder.suffix.upper() == ".SAFE"), None)
    if safe is None or not any(safe in folder.parents for folder, _ in scenes):
        return False
    parts = file.relative_to(safe).parts
    return len(parts) == 1 or bool(_SAFE_EXTRAS & set(parts))


def _detect(file: Path, bands: dict[str, Path]) -> str | None:
    """Return the sensor of a product by its name, or by names that only one satellite's bands have."""
    landsat = _LANDSAT.search(file.stem)
    if landsat:
        mission = int(landsat[2] or landsat[3])
        if landsat[1].upper() == "M" or mission < 4:
            return "landsat-mss"
        kind = "c2-l2" if any(name.startswith("SR_") for name in bands) else "toa"
        return f"landsat-{kind}" if mission >= 8 else f"landsat-4-7-{kind}"
    if _SENTINEL2.search(file.stem) or any(_PADDED.fullmatch(name) for name in bands):
        return "sentinel-2-l1c" if "B10" in bands or "L1C" in str(file) else "sentinel-2-l2a"
    return None


def _ordered(bands: dict[str, Path], sensor: str | None) -> BandGroup | None:
    """Return a scene whose red, green and blue are first, or None if these files make no image in color."""
    if sensor is not None:
        known = find_sensor(sensor)
        first = [next((name for name in names if name in bands), "") for names in known.composite().bands]
    else:
        first = [next((name for name in (number, f"SR_{number}") if name in bands), "") for number in _RGB_BY_NUMBER]
    if not all(first) and not (sensor and len(bands) >= 3):
        return None
    names = [*(name for name in first if name), *(name for name in bands if name not in first)]
    return BandGroup({name: bands[name] for name in names}, sensor)


def open_bands(
    names: Sequence[str], files: Sequence[str | Path], sensor: str | None = None, look: BandComposite | None = None
) -> RasterReader:
    """Return one reader of bands that are files of their own.

    Args:
        names: of the bands.
        files: one per band.
        sensor: by the product's name.
        look: open only the bands of this composite; None is all.

    Raises:
        DataError: a file cannot be read, a band is not there, or the files do not cover the same ground.
    """
    chosen = list(range(len(names)))
    if look is not None:
        chosen = []
        for known in look.bands:
            at = next((n for n, name in enumerate(names) if name.lower() in {other.lower() for other in known}), None)
            if at is None:
                raise DataError(f"{files[0]}: there is no file of the band {known[0]} next to it, for {look.words}.")
            chosen.append(at)
    readers = [_open_band(str(files[n])) for n in dict.fromkeys(chosen)]
    reader = stack_bands(readers, None if look is not None else 0, [names[n] for n in dict.fromkeys(chosen)])
    return reader.of_sensor(sensor)


def _open_band(file: str) -> RasterReader:
    reader = open_source(file)
    if reader.count != 1:
        raise DataError(f"{file} has {reader.count} bands; a file of one band was expected.")
    factor = _RAW_FACTORS.get(reader.dtype)
    if _RAW.search(Path(file).stem) and factor and kind_of(reader.dtype) in "iu" and reader.scales == (1.0,):
        return with_radiometry(reader, 1 / factor, 0.0)
    return reader


def open_band_folder(folder: Path, raw: bool = False) -> RasterReader:
    """Return one reader of the bands of the scene in a folder.

    Raises:
        DataError: the folder holds no scene, or several.
    """
    from lhrs.imagery.open import list_images

    groups, rest, _ = group_band_files(list_images([folder]))
    if len(groups) == 1 and not rest:
        (group,) = groups
        return open_bands(list(group.bands), list(group.bands.values()), group.sensor)
    if not groups and len(rest) == 1:
        return open_source(rest[0], raw=raw)
    raise DataError(
        f"{folder} holds {len(groups)} scenes stored band by band and {len(rest)} other images: name one of them."
    )
