"""Rendering of raw values as 8-bit RGB: sensor detection, band selection and stretch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lhrs.errors import ConfigError, DataError
from lhrs.imagery.base_reader import RasterReader, dark_is_valid
from lhrs.imagery.radiometry import Conversion, convert, has_scale_tags, percentiles
from lhrs.imagery.rendering import SENTINEL2_WHITE, STRETCHED, Scaling, choose_bands, choose_scaling, percentile_stretch
from lhrs.imagery.sensors import (
    TRUE_COLOR,
    BandComposite,
    Formula,
    Sensor,
    detect_sensors,
    find_sensor,
    kind_of,
    locate_bands,
    normalize_name,
    sensors,
)

PER_BAND = "per-band"
"""The composite of an unknown sensor that stretches each band by itself."""
_PARTIAL = {
    "sentinel-2-l1c": "sentinel-2",
    "landsat-c2-l2": "landsat-c2-l2",
    "landsat-4-7-c2-l2": "landsat-4-7-c2-l2",
}
"""Sensors that are recognized from the names of some of their bands, and the name to return."""
_S2_NAME = r"^b(0\d|8a)$"
"""A band name that only Sentinel-2 uses. Landsat, and some exports of Sentinel-2, use B4."""
_COLORS = {"red", "green", "blue"}
_DARK_LAND = 5000
"""Upper bound of the median of Sentinel-2 values; the stored values of Landsat exceed it."""
_SENTINEL2_MIN_BANDS = 10
_PLANETSCOPE = r"(?i)_3B_AnalyticMS_SR"


@dataclass(frozen=True)
class Candidate:
    """A candidate for the sensor of a file."""

    sensor: Sensor
    composite: BandComposite
    bands: tuple[int, ...]
    """Of the composite in the file, 1-based."""
    is_certain: bool
    """Whether the names of all bands, or of the product, specify the sensor; else the values have to agree."""


@dataclass(frozen=True)
class Plan:
    """The bands to read, chosen before any value is read."""

    bands: tuple[int, ...]
    """1-based: three, or two of a difference."""
    chosen_by: str
    candidates: tuple[Candidate, ...] = ()
    """In order of preference: the first candidate that the values allow is selected."""
    is_named: bool = False
    """Whether the caller named the sensor. Values that it cannot have are then an error."""
    per_band: bool = False


@dataclass(frozen=True)
class Fitted:
    """The mapping of a file's values to 8-bit RGB; it is the same in all windows."""

    scaling: Scaling
    formula: Formula = "plain"
    conversion: Conversion | None = None
    """Of the inputs of a formula."""
    composite: BandComposite | None = None

    def render(self, values: np.ndarray, valid: np.ndarray, zero_nodata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 pixels `(H, W, 3)`, black without data, and bool `(H, W)` where there is data.

        Args:
            values: `(B, H, W)` of the plan's bands.
            valid: bool of the same shape.
            zero_nodata: bool `(B,)`, see `dark_is_valid`.
        """
        values, valid = self.combine(values, dark_is_valid(valid, zero_nodata) if self.formula == "plain" else valid)
        has_data = np.asarray(valid.any(0))
        scaled = self.scaling.apply(values)
        pixels = scaled.transpose(1, 2, 0)
        if not pixels.flags.c_contiguous:
            pixels = np.stack(list(scaled), -1)  # four times as fast as copying the transposed array
        return pixels if has_data.all() else pixels * has_data[..., None], has_data

    def combine(self, values: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return three channels computed from the bands; a formula needs all its bands."""
        if self.formula == "plain":
            return values, valid
        assert self.conversion is not None
        scale, offset = (
            np.array(x, np.float32)[:, None, None] for x in (self.conversion.scale, self.conversion.offset)
        )
        numbers = values.astype(np.float32) * scale + offset
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.formula == "decibel":
                result = 10 * np.log10(numbers)
                valid = np.stack([(valid & (numbers > 0)).all(0)] * len(numbers))
            else:
                ratio = (numbers[0] - numbers[1]) / (numbers[0] + numbers[1])
                result = np.stack([ratio] * 3)
                valid = np.stack([valid[0] & valid[1] & np.isfinite(ratio)] * 3)
        return np.where(valid, result, 0.0), valid


def plan_composite(reader: RasterReader, sensor: str | None = None, composite: str | None = None) -> Plan:
    """Return which bands of a file to read.

    Args:
        reader: of the file.
        sensor: its name; None recognizes it by band names, product name and values.
        composite: of the sensor; None is its first, which is true color where available. An unknown sensor has
            `true-color` and `per-band`, which stretches each band by itself.

    Raises:
        ConfigError: there is no such sensor or composite, or the file does not have its bands.
    """
    if sensor is not None:
        return _named(reader, find_sensor(sensor), composite)
    candidates = _candidates(reader, composite)
    if candidates:
        bands = candidates[0].bands
        return Plan(bands, "band names", tuple(candidate for candidate in candidates if candidate.bands == bands))
    if composite not in (None, TRUE_COLOR, PER_BAND):
        raise ConfigError(
            f"{reader.name}: its bands are unknown, so there is no composite {composite!r}: name its sensor."
        )
    chosen, chosen_by = choose_bands(reader.colors, reader.band_names)
    return Plan(tuple(chosen), chosen_by, per_band=composite == PER_BAND)


def _named(reader: RasterReader, sensor: Sensor, composite: str | None) -> Plan:
    band_composite = sensor.composite(composite)
    kind = kind_of(reader.dtype)
    if not sensor.accepts(kind) and not (reader.native is None and has_scale_tags(reader, range(1, reader.count + 1))):
        wanted = {"u": "8-bit", "i": "16-bit integers", "f": "floats"}[sensor.dtype or kind]
        raise ConfigError(
            f"{reader.name} has values of {reader.dtype}, {sensor.name} has {wanted}: leave the sensor out, or name "
            "the one that took it."
        )
    bands = locate_bands(band_composite, reader.band_names)
    if bands is None:
        if len(sensor.bands) > reader.count:
            raise ConfigError(f"{reader.name} has {reader.count} bands, {sensor.name} has {len(sensor.bands)}.")
        bands = tuple(sensor.bands.index(names) + 1 for names in band_composite.bands)
    return Plan(bands, "named sensor", (Candidate(sensor, band_composite, bands, True),), is_named=True)


def _candidates(reader: RasterReader, composite: str | None) -> list[Candidate]:
    """Return the candidate sensors from the band names or the file name.

    Raises:
        ConfigError: there is one such sensor, and it has no such composite.
    """
    is_planetscope = reader.dtype in ("uint16", "int16") and re.search(_PLANETSCOPE, Path(reader.name).name)
    if reader.native is not None or not (any(reader.band_names) or reader.sensor or is_planetscope):
        return []  # without reading the table of sensors
    exact = detect_sensors(reader.band_names, reader.dtype)
    if reader.sensor is not None:
        product = sensors()[reader.sensor]
        if product.accepts(kind_of(reader.dtype)) or has_scale_tags(reader, range(1, reader.count + 1)):
            exact = [product]
    if is_planetscope:
        exact += [sensor for name, sensor in sensors().items() if name == f"planetscope-{reader.count}"]
    partial = [] if kind_of(reader.dtype) == "u" else [(sensors()[name], short) for name, short in _PARTIAL.items()]
    candidates = []
    renamed = [replace(sensor, name=name) for sensor, name in partial]
    for sensor, is_certain in [*((s, True) for s in exact), *((s, False) for s in renamed)]:
        if composite is not None and composite not in sensor.composites and not (is_certain and len(exact) == 1):
            continue
        band_composite = sensor.composite(composite)
        bands = locate_bands(band_composite, reader.band_names)
        if bands is None and is_certain and len(sensor.bands) == reader.count:
            bands = tuple(sensor.bands.index(names) + 1 for names in band_composite.bands)
        if bands is not None:
            candidates.append(Candidate(sensor, band_composite, bands, is_certain))
    return candidates


def fit_composite(plan: Plan, reader: RasterReader, values: np.ndarray, valid: np.ndarray) -> Fitted:
    """Return the mapping of values to 8-bit RGB.

    Args:
        plan: of the file.
        reader: of the file.
        values: `(B, H, W)` of the plan's bands: all of the image at some size, or a sample of it.
        valid: bool of the same shape.

    Raises:
        ConfigError: the sensor was named, and the values cannot be its own.
    """
    for candidate in plan.candidates:
        conversion = convert(reader, plan.bands, candidate.sensor, values, valid)
        problem = _implausible(reader, plan, candidate, conversion, values, valid)
        if problem is None:
            return _known(candidate, conversion, values, valid)
        if plan.is_named:
            raise ConfigError(f"{reader.name}: {problem}.")
    return _unknown(plan, reader, values, valid)


def _implausible(
    reader: RasterReader,
    plan: Plan,
    candidate: Candidate,
    conversion: Conversion,
    values: np.ndarray,
    valid: np.ndarray,
) -> str | None:
    """Return the reason why a sensor cannot have these values, or None."""
    sensor = candidate.sensor
    if not valid.any():
        return None
    if sensor.bands[0][0] == "vv":
        # Few power values are below 0 (noise removal); most decibel values are.
        is_power = bool((values[valid] < 0).sum() <= (values[valid] > 0).sum())
        if is_power == sensor.is_power:
            return None
        own, other = ("power", "decibels") if is_power else ("decibels", "power")
        return f"its values are {own}, {sensor.name} has {other}: name the other sensor"
    if sensor.values is None:
        return None
    scale, offset = (np.array(x)[:, None, None] for x in (conversion.scale, conversion.offset))
    limits = percentiles(values * scale + offset, valid)
    assert limits is not None
    low, high = sensor.values
    if limits[1] < low or limits[0] > high or limits[1] > 2 * high:
        return (
            f"values are {limits[0]:g} to {limits[1]:g} (2nd and 98th percentile), {sensor.name} has {low:g} to "
            f"{high:g}: leave the sensor out, or name the one that took it"
        )
    if candidate.is_certain or conversion.note or has_scale_tags(reader, plan.bands):
        return None
    return _ambiguous(reader, plan, sensor, limits)


def _ambiguous(reader: RasterReader, plan: Plan, sensor: Sensor, limits: tuple[float, float]) -> str | None:
    """Return the reason why ambiguous band names are not sufficient, or None if they are."""
    names = {normalize_name(reader.band_names[band - 1]) for band in plan.bands}
    if sensor.name.startswith("landsat"):
        return None if all(name.startswith("sr_") for name in names) else "these are no names of Landsat alone"
    if any(re.match(_S2_NAME, normalize_name(name)) for name in reader.band_names):
        return None
    if limits[0] >= _DARK_LAND:
        return "no Sentinel-2 image is bright everywhere"
    if names & _COLORS and not 255 < limits[1] <= 2 * _DARK_LAND:
        return "such values need not be reflectance"
    return None


def _known(candidate: Candidate, conversion: Conversion, values: np.ndarray, valid: np.ndarray) -> Fitted:
    sensor, composite = candidate.sensor, candidate.composite
    description = composite.description + (f", {conversion.note}" if conversion.note else "")
    if composite.formula != "plain":
        zero = 0.0 if sensor.scale is None else sensor.offset / sensor.scale
        physical = Conversion(conversion.scale, tuple(o + zero for o in conversion.offset))
        fitted = Fitted(Scaling(None, description), composite.formula, physical, composite)
        if composite.limits is None:
            combined, is_valid = fitted.combine(values, valid)
            return Fitted(percentile_stretch(combined, is_valid, description), composite.formula, physical, composite)
        return Fitted(Scaling((composite.limits,) * 3, description), composite.formula, physical, composite)
    if composite.limits is None:
        return Fitted(
            percentile_stretch(values, valid, f"{composite.description}, 2-98 percentile of all bands"),
            composite=composite,
        )
    low, high = composite.limits
    limits = tuple(((low - o) / s, (high - o) / s) for s, o in zip(conversion.scale, conversion.offset, strict=True))
    if len(limits) == 3 and limits == ((0.0, 255.0),) * 3 and values.dtype == np.uint8:
        return Fitted(Scaling(None, description), composite=composite)
    return Fitted(Scaling(limits, description), composite=composite)


def _unknown(plan: Plan, reader: RasterReader, values: np.ndarray, valid: np.ndarray) -> Fitted:
    """Return the rendering of a file with an unknown sensor."""
    if reader.native is not None:
        return Fitted(Scaling(None, reader.native.scaling))
    if kind_of(reader.dtype) == "i" and np.dtype(reader.dtype).itemsize == 2 and (
        reader.count >= _SENTINEL2_MIN_BANDS or _is_reflectance(reader, plan.bands)
    ):  # fmt: skip
        known = sensors()["sentinel-2-l2a"]
        conversion = convert(reader, plan.bands, known, values, valid)
        shown = Candidate(known, known.composite(), plan.bands, True)
        if _implausible(reader, plan, shown, conversion, values, valid) is not None:
            return Fitted(percentile_stretch(values, valid, STRETCHED))
        limits = tuple((-o / s, (SENTINEL2_WHITE - o) / s)
                       for s, o in zip(conversion.scale, conversion.offset, strict=True))  # fmt: skip
        note = f", {conversion.note}" if conversion.note else ""
        return Fitted(Scaling(limits, f"Sentinel-2 reflectance 0-{SENTINEL2_WHITE}{note}"))
    distinct = sorted(set(plan.bands), key=plan.bands.index)
    at = [plan.bands.index(band) for band in distinct]
    scaling = choose_scaling(values[at], valid[at], plan.per_band)
    if scaling.limits is not None:
        by_band = dict(zip(distinct, scaling.limits, strict=True))
        scaling = Scaling(tuple(by_band[band] for band in plan.bands), scaling.description)
    return Fitted(Scaling(scaling.limits, f"amplitude, {scaling.description}") if reader.is_complex else scaling)


def _is_reflectance(reader: RasterReader, bands: Sequence[int]) -> bool:
    """Return whether the scale of a file is a common scale of reflectance."""
    return all(
        any(np.isclose(reader.scales[band - 1], known, rtol=1e-3) for known in (0.0001, 0.0000275)) for band in bands
    )


def check_valid(reader: RasterReader, has_data: np.ndarray) -> None:
    """Raise DataError if no pixel of an image is valid."""
    if not has_data.any():
        kind = "transparent" if reader.native is not None and reader.dtype == "uint8" else "nodata, masked or NaN"
        raise DataError(f"{reader.name} contains no valid pixel: everything is {kind}.")
