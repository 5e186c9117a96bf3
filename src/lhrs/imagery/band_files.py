"""Scenes stored band by band: Sentinel-2 SAFE folders, Landsat products, EO Browser's and other downloads.

The name of a file states its scene and ends with the band: `T33TWN_20230601T100031_B04_10m.jp2`,
`LC08_L2SP_190028_20200801_20200915_02_T1_SR_B4.TIF`, `..._Sentinel-2_L2A_B04_(Raw).tiff`, `B04.tif`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lhrs.imagery.sensors import find_sensor

# Patterns are compiled when they are first used, not at import: most images need none of them.
_BAND = r"(?i)(.*?)(?:^|[_.-])(SR_B\d|B\d{1,2}|B8A)(?:_([126]0)m)?(?:_\(Raw\))?$"
_COMPANION = (
    r"(?i)(.*?)(?:^|[_.-])(TCI|SCL|WVP|AOT|PVI|QA60|CLP|CLM|ST_\w+|QA_\w+|SR_\w+|ST|VAA|VZA|SAA|SZA|thumb_\w+)"
    r"(?:_[126]0m)?(?:_\(Raw\))?$"
)
"""Files of a product that are not bands: quality layers, masks, angles, previews."""
_RESOLUTION_FOLDER = r"(?i)R[126]0m"
_SAFE_EXTRAS = {"QI_DATA", "AUX_DATA", "preview", "HTML", "rep_info"}
_SENTINEL2 = r"(?i)(?:^|[_.-])T\d\d[A-Z]{3}_|S2[A-D]_MSI|Sentinel-2"
_LANDSAT = r"(?i)(?:^|[_.-])L([COTEM])(?:0?([1-9])_|([1-9])\d{6})"
_PADDED = r"(?i)B0[1-9]|B8A"
_UDM = r"(?i)(.*_3B)_(?:udm2?|DN_udm)"
_RGB_BY_NUMBER = ("B4", "B3", "B2")


@dataclass(frozen=True)
class BandGroup:
    """The files of one scene."""

    bands: dict[str, Path]
    """Files by band name, as in the file name. Red, green and blue come first where they are known."""
    sensor: str | None
    """By the product's name."""


def group_band_files(files: Sequence[Path]) -> tuple[list[BandGroup], list[Path], list[Path]]:
    """Return the scenes stored band by band, all other files, and the files of such scenes that are not bands.

    Args:
        files: images, in order.
    """
    bands_of: dict[tuple[Path, str], dict[str, Path]] = {}
    for file in files:
        if named := re.match(_BAND, file.stem):
            bands = bands_of.setdefault(_key(file, named[1]), {})
            name = named[2].upper()
            if name not in bands or int(named[3] or 0) < _resolution(bands[name]):
                bands[name] = file
    scenes = {}
    for key, bands in bands_of.items():
        sensor = _detect(next(iter(bands.values())), bands)
        if group := _ordered(bands, sensor):
            scenes[key] = group
    rest: list[Path] = []
    companions: list[Path] = []
    for file in files:
        if (named := re.match(_BAND, file.stem)) and _key(file, named[1]) in scenes:
            continue
        (companions if _is_companion(file, scenes, files) else rest).append(file)
    return list(scenes.values()), rest, companions


def name_band_files(files: Sequence[Path]) -> tuple[list[str], str | None]:
    """Return the names of the bands of one scene, in the order of its files, and its sensor.

    No names are returned if the files are not one band each of one scene stored band by band.
    """
    groups, rest, companions = group_band_files(files)
    if len(files) < 2 or len(groups) != 1 or rest or companions or len(groups[0].bands) != len(files):
        return [], None
    names = {file: name for name, file in groups[0].bands.items()}
    return [names[file] for file in files], groups[0].sensor


def _key(file: Path, scene: str) -> tuple[Path, str]:
    folder = file.parent.parent if re.fullmatch(_RESOLUTION_FOLDER, file.parent.name) else file.parent
    return folder, scene


def _resolution(file: Path) -> int:
    named = re.match(_BAND, file.stem)
    return int(named[3] or 0) if named else 0


def _is_companion(file: Path, scenes: dict[tuple[Path, str], BandGroup], files: Sequence[Path]) -> bool:
    """Return whether a file belongs to a scene but is not a band."""
    if (named := re.match(_COMPANION, file.stem)) and _key(file, named[1]) in scenes:
        return True
    if match := re.match(_UDM, file.stem):
        return any(other.stem.startswith(f"{match[1]}_Analytic") for other in files if other.parent == file.parent)
    safe = next((folder for folder in file.parents if folder.suffix.upper() == ".SAFE"), None)
    if safe is None or not any(safe in folder.parents for folder, _ in scenes):
        return False
    parts = file.relative_to(safe).parts
    return len(parts) == 1 or bool(_SAFE_EXTRAS & set(parts))


def _detect(file: Path, bands: dict[str, Path]) -> str | None:
    """Return the sensor of a product from the product name, or from band names that only one satellite uses."""
    landsat = re.search(_LANDSAT, file.stem)
    if landsat:
        mission = int(landsat[2] or landsat[3])
        if landsat[1].upper() == "M" or mission < 4:
            return "landsat-mss"
        kind = "c2-l2" if any(name.startswith("SR_") for name in bands) else "toa"
        return f"landsat-{kind}" if mission >= 8 else f"landsat-4-7-{kind}"
    if re.search(_SENTINEL2, file.stem) or any(re.fullmatch(_PADDED, name) for name in bands):
        return "sentinel-2-l1c" if "B10" in bands or "L1C" in str(file) else "sentinel-2-l2a"
    return None


def _ordered(bands: dict[str, Path], sensor: str | None) -> BandGroup | None:
    """Return a scene with red, green and blue first, or None if the files lack one of them."""
    if sensor is not None:
        known = find_sensor(sensor)
        first = [next((name for name in names if name in bands), "") for names in known.composite().bands]
    else:
        first = [next((name for name in (number, f"SR_{number}") if name in bands), "") for number in _RGB_BY_NUMBER]
    if not all(first) and not (sensor and len(bands) >= 3):
        return None
    names = [*(name for name in first if name), *(name for name in bands if name not in first)]
    return BandGroup({name: bands[name] for name in names}, sensor)
