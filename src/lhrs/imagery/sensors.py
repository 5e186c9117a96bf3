"""The known sensors: band names, band composites and value ranges."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from lhrs.errors import ConfigError

Formula = Literal["plain", "difference", "decibel"]
TRUE_COLOR = "true-color"
_GDAL_NAME = r"(?i)^(B\d+A?), central wavelength"
"""GDAL's name of a Sentinel-2 band in a SAFE product."""


@dataclass(frozen=True)
class BandComposite:
    """A band composite of a sensor."""

    name: str
    bands: tuple[tuple[str, ...], ...]
    """Names of each band: three, or two of a difference."""
    formula: Formula
    limits: tuple[float, float] | None
    """The values that become 0 and 255, in units of the sensor or the formula; None stretches the scene."""
    description: str
    """Human-readable description."""


@dataclass(frozen=True)
class Sensor:
    """The bands and values of one type of file."""

    name: str
    about: str
    dtype: str | None
    """`u` for 8-bit, `i` for 16-bit integers, `f` for floats; None is any."""
    bands: tuple[tuple[str, ...], ...]
    """Names of each band, the common one first."""
    composites: dict[str, dict[str, Any]]
    scale: float | None
    """Reflectance per unit of the stored values; None if they are not reflectance."""
    offset: float
    """Reflectance of a value of 0."""
    values: tuple[float, float] | None
    """Allowed range of the 2nd and the 98th percentile of the stored values; None is not checked."""

    @property
    def is_power(self) -> bool:
        """Whether values are radar power. They are rendered in decibels and are negative only due to noise."""
        return any(row.get("formula") == "decibel" for row in self.composites.values())

    def composite(self, name: str | None = None) -> BandComposite:
        """Return a composite by name; None is the first.

        Raises:
            ConfigError: the sensor has no composite of that name.
        """
        name = name or next(iter(self.composites))
        if name not in self.composites:
            raise ConfigError(f"{self.name} has no composite {name!r}; it has {', '.join(self.composites)}.")
        row = self.composites[name]
        common = {names[0]: names for names in self.bands}
        limits = row.get("limits")
        description = f"{self.name} {name}" + ("" if limits is None else f" {limits[0]:g} to {limits[1]:g}")
        return BandComposite(
            name, tuple(common[band] for band in row["bands"]), row.get("formula", "plain"),
            None if limits is None else (float(limits[0]), float(limits[1])), description,
        )  # fmt: skip

    def matches(self, names: Sequence[str | None], kind: str) -> bool:
        """Return whether a file's band names are exactly those of this sensor.

        Args:
            names: of the file's bands.
            kind: of its values, see `dtype`.
        """
        if len(names) != len(self.bands) or not self.accepts(kind):
            return False
        return all(
            name is not None and normalize_name(name) in {other.lower() for other in known}
            for name, known in zip(names, self.bands, strict=True)
        )

    def accepts(self, kind: str) -> bool:
        """Return whether this sensor can have values of a kind. Reflectances may also be stored as floats."""
        return self.dtype in (None, kind) or (kind == "f" and self.dtype == "i")


def normalize_name(name: str | None) -> str:
    """Return a band name in lower case, without GDAL's suffix."""
    text = (name or "").strip()
    match = re.match(_GDAL_NAME, text)
    return (match[1] if match else text).lower()


def kind_of(dtype: str) -> str:
    """Return `u`, `i` or `f` (see `Sensor.dtype`) for a NumPy dtype name."""
    return "f" if dtype.startswith("float") else "u" if dtype in ("uint8", "int8") else "i"


@cache
def sensors() -> dict[str, Sensor]:
    """Return the known sensors by name."""
    import yaml

    table = yaml.safe_load((files("lhrs.resources") / "sensors.yaml").read_text(encoding="utf-8"))
    return {
        name: Sensor(
            name, row["about"], row.get("dtype"), tuple(tuple(names.split("/")) for names in row["bands"]),
            row["composites"], row.get("scale"), row.get("offset", 0.0),
            tuple(row["values"]) if "values" in row else None,
        )
        for name, row in table.items()
    }  # fmt: skip


def find_sensor(name: str) -> Sensor:
    """Return a sensor by name.

    Raises:
        ConfigError: there is no sensor of that name.
    """
    if name not in sensors():
        from difflib import get_close_matches

        near = get_close_matches(name, sensors(), 1)
        raise ConfigError(
            f"there is no sensor {name!r}{f'; did you mean {near[0]}?' if near else ''} Known: {', '.join(sensors())}."
        )
    return sensors()[name]


def detect_sensors(names: Sequence[str | None], dtype: str) -> list[Sensor]:
    """Return the sensors whose band names are exactly those of a file. Values decide between several.

    Args:
        names: of the bands.
        dtype: NumPy dtype name of their values.
    """
    return [sensor for sensor in sensors().values() if sensor.matches(names, kind_of(dtype))]


def locate_bands(composite: BandComposite, names: Sequence[str | None]) -> tuple[int, ...] | None:
    """Return the 1-based bands of a file that a composite needs, by name; None if one is missing."""
    lower = [normalize_name(name) for name in names]
    bands = []
    for alternatives in composite.bands:
        at = next((lower.index(name.lower()) + 1 for name in alternatives if name.lower() in lower), None)
        if at is None:
            return None
        bands.append(at)
    return tuple(bands)
