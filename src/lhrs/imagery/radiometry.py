"""Radiometry of raw values: scale and offset tags, Sentinel-2's processing baseline, float reflectances.

Tags have priority, then the product's metadata and name. Values only reveal float reflectances and offsets that are
already removed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lhrs.imagery import locations
from lhrs.imagery.base_reader import RasterReader
from lhrs.imagery.sensors import Sensor, kind_of

_S2_PRODUCT = r"(?i)(?:S2[A-D]_)?MSIL[12][AC]_.*?_N(\d{2})(\d{2})_"
_S2_OFFSET = -1000.0
_OFFSET_SINCE = (4, 0)
"""First processing baseline of Sentinel-2 whose values are stored with an offset of 1,000."""
_HARMONIZED = r"(?i)harmoni[sz]ed"
_BASELINE_TAGS = ("PROCESSING_BASELINE", "S2:PROCESSING_BASELINE")
_APPLIED_TAGS = ("BOA_OFFSET_APPLIED", "EARTHSEARCH:BOA_OFFSET_APPLIED")
_OFFSET_TAG = r"(?:S2:)?(?:BOA|RADIO)_ADD_OFFSET(?:_\w+)?"
_NUMBER = r"-?\d+(?:\.\d+)?"
_METADATA_LEVELS = 6
"""Number of parent folders of a band file that are searched for the product's MTD_MSIL*.xml."""
_FRACTION_MAX = 2.0
"""Maximum 98th percentile of float reflectance of 0-1; snow and clouds exceed 1."""
_PERCENTILES = (2, 98)


@dataclass(frozen=True)
class Conversion:
    """Conversion of raw values to a sensor's usual stored values: `raw * scale + offset`, per band."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    note: str = ""
    """Description of the conversion; empty if there is none."""


def convert(
    reader: RasterReader, bands: Sequence[int], sensor: Sensor, values: np.ndarray, valid: np.ndarray
) -> Conversion:
    """Return the conversion of values to the units of a sensor's limits.

    Args:
        reader: of the file.
        bands: 1-based.
        sensor: of the file.
        values: `(B, H, W)` of these bands, a sample.
        valid: bool of the same shape.
    """
    scales = [reader.scales[band - 1] for band in bands]
    offsets = [reader.offsets[band - 1] for band in bands]
    unit, zero = sensor.scale or 1.0, sensor.offset
    if has_scale_tags(reader, bands) and sensor.scale is not None and _is_in_stored_units(scales, offsets):
        return Conversion((1.0,) * len(bands), tuple(offsets), f"offset {offsets[0]:g} applied")
    if has_scale_tags(reader, bands):
        scale = tuple(s / unit for s in scales)
        offset = tuple((o - zero) / unit for o in offsets)
        same = np.allclose(scale, 1, rtol=1e-3) and np.allclose(offset, 0, atol=abs(unit) * 10)
        if same:
            return Conversion((1.0,) * len(bands), (0.0,) * len(bands))
        shown = f"scale {scales[0]:g}, offset {offsets[0]:g}"
        return Conversion(_rounded(scale), _rounded(offset), f"{shown} applied")
    ones, zeros = (1.0,) * len(bands), (0.0,) * len(bands)
    if sensor.scale is None:
        return Conversion(ones, zeros)
    if kind_of(reader.dtype) == "f":
        high = percentiles(values, valid)
        if high is not None and high[1] <= _FRACTION_MAX:
            return Conversion((1 / unit,) * len(bands), (-zero / unit,) * len(bands), "reflectance 0-1")
    if sensor.name.startswith("sentinel-2") and (added := sentinel2_offset(reader)):
        stored = values[valid & (values > 0)]  # Sentinel-2 is 0 outside the orbit, often without declared nodata
        if stored.size and np.percentile(stored, _PERCENTILES[0]) < -added / 2:
            return Conversion(ones, zeros)  # values this dark occur only after the offset was removed
        source = "of baseline 04.00" if added == _S2_OFFSET else "of the product's metadata"
        return Conversion(ones, (added,) * len(bands), f"offset {added:g} {source} applied")
    return Conversion(ones, zeros)


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return values without floating-point rounding errors: 0.0001 / 0.0001 and -0.1 / 0.0001 are whole numbers."""
    return tuple(round(value) if abs(value - round(value)) < 1e-6 * max(1, abs(value)) else value for value in values)


def has_scale_tags(reader: RasterReader, bands: Sequence[int]) -> bool:
    """Return whether a file states scale or offset of some of these bands."""
    return any(reader.scales[band - 1] != 1 or reader.offsets[band - 1] != 0 for band in bands)


def percentiles(values: np.ndarray, valid: np.ndarray) -> tuple[float, float] | None:
    """Return the 2nd and 98th percentile of all valid values together; None if no value is valid."""
    known = values[valid]
    if not known.size:
        return None
    low, high = np.percentile(known, _PERCENTILES)
    return float(low), float(high)


def _is_in_stored_units(scales: Sequence[float], offsets: Sequence[float]) -> bool:
    """Return whether a file states only an offset, in stored units: scale 1, offset -1000."""
    return all(scale == 1 for scale in scales) and all(offset == 0 or abs(offset) >= 1 for offset in offsets)


def sentinel2_offset(reader: RasterReader) -> float:
    """Return the offset of stored Sentinel-2 values from tags, product metadata or the product name."""
    tags = {key.upper(): value for key, value in reader.tags.items()}
    if any(tags.get(key, "").lower() in ("true", "1", "yes") for key in _APPLIED_TAGS):
        return 0.0
    if any(re.search(_HARMONIZED, text) for text in (reader.name, *reader.tags.values())):
        return 0.0
    for key, value in tags.items():
        if re.fullmatch(_OFFSET_TAG, key) and re.fullmatch(_NUMBER, value.strip()):
            return -abs(float(value))
    for key in _BASELINE_TAGS:
        if match := re.match(r"\s*(\d+)\.(\d+)", tags.get(key, "")):
            return _offset_since(int(match[1]), int(match[2]))
    texts = [*reversed(Path(reader.name).parts), *(tags.get(key, "") for key in ("PRODUCT_URI", "PRODUCT_ID"))]
    for text in texts:
        if match := re.search(_S2_PRODUCT, text):
            return _offset_since(int(match[1]), int(match[2]))
    if locations.gdal_name(reader.name) is None and reader.driver is None:
        return _metadata_offset(Path(reader.name).absolute().parent)
    return 0.0


def _offset_since(*baseline: int) -> float:
    return _S2_OFFSET if baseline >= _OFFSET_SINCE else 0.0


@lru_cache(maxsize=256)
def _metadata_offset(folder: Path) -> float:
    """Return the offset, stated or by processing baseline, of the MTD_MSIL*.xml in a folder or its parents."""
    for place in (folder, *list(folder.parents)[:_METADATA_LEVELS]):
        for file in sorted(place.glob("MTD_MSIL*.xml")):
            text = file.read_text(errors="replace")
            if match := re.search(r"<(?:BOA_ADD|RADIO_ADD)_OFFSET\b[^>]*>\s*(-?\d+(?:\.\d+)?)\s*<", text):
                return -abs(float(match[1]))
            if match := re.search(r"<PROCESSING_BASELINE>\s*(\d+)\.(\d+)", text):
                return _offset_since(int(match[1]), int(match[2]))
    return 0.0
