"""The band contract: which band of a file is what, and the views in which people and models look at it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from lhrs.errors import ConfigError

Formula = Literal["plain", "difference", "decibel"]
TRUE_COLOUR = "true-colour"


@dataclass(frozen=True)
class SensorView:
    """How some bands of a file are shown."""

    name: str
    bands: tuple[int, ...]
    """1-based: three, or two of a difference."""
    formula: Formula
    limits: tuple[float, float] | None
    """What becomes 0 and 255, in the file's units or the formula's; None stretches the scene."""
    words: str
    """For people."""


@dataclass(frozen=True)
class Sensor:
    """What a kind of file holds."""

    name: str
    about: str
    dtype: str | None
    """numpy kind of its numbers with `u` for eight bits and `i` for more; None is any."""
    bands: tuple[tuple[str, ...], ...]
    """Names of each band, the common one first."""
    views: dict[str, dict[str, Any]]

    @property
    def is_power(self) -> bool:
        """Its numbers are shown in decibels, and none of them is below 0 but by noise."""
        return any(row.get("formula") == "decibel" for row in self.views.values())

    def view(self, name: str) -> SensorView:
        """Return a view by name.

        Raises:
            ConfigError: the sensor has none of that name.
        """
        if name not in self.views:
            raise ConfigError(f"{self.name} has no view {name!r}; it has {', '.join(self.views)}.")
        row = self.views[name]
        common = [names[0] for names in self.bands]
        limits = row.get("limits")
        formula: Formula = row.get("formula", "plain")
        words = f"{self.name} {name}" + ("" if limits is None else f" {limits[0]:g} to {limits[1]:g}")
        return SensorView(
            name, tuple(common.index(band) + 1 for band in row["bands"]), formula,
            None if limits is None else (float(limits[0]), float(limits[1])), words,
        )  # fmt: skip

    def fits(self, names: Sequence[str | None], kind: str) -> bool:
        """Tell whether a file's band names say that it is of this sensor.

        Args:
            names: of its bands; None where the file does not say.
            kind: of its numbers, see `dtype`.
        """
        if len(names) != len(self.bands) or self.dtype not in (None, kind):
            return False
        return all(
            name is not None and name.strip().lower() in {other.lower() for other in known}
            for name, known in zip(names, self.bands, strict=True)
        )


@cache
def sensors() -> dict[str, Sensor]:
    """Return the known sensors by name."""
    import yaml

    table = yaml.safe_load((files("lhrs.resources") / "sensors.yaml").read_text(encoding="utf-8"))
    found = {}
    for name, row in table.items():
        bands = tuple(tuple(names.split("/")) for names in row["bands"])
        found[name] = Sensor(name, row["about"], row.get("dtype"), bands, row["views"])
    return found


def find_sensor(name: str) -> Sensor:
    """Return a sensor by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in sensors():
        near = get_close_matches(name, sensors(), 1)
        raise ConfigError(
            f"there is no sensor {name!r}{f'; did you mean {near[0]}?' if near else ''} Known: {', '.join(sensors())}."
        )
    return sensors()[name]


def recognise(names: Sequence[str | None], dtype: str, is_power: Callable[[], bool]) -> Sensor | None:
    """Return the sensor that a file's band names name, or None: nothing is guessed from their number.

    Args:
        names: of the bands.
        dtype: numpy's name of their numbers.
        is_power: tells of radar whether its numbers are power or decibels; asked only where names do not.
    """
    kind = "f" if dtype.startswith("float") else "u" if dtype in ("uint8", "int8") else "i"
    found = [sensor for sensor in sensors().values() if sensor.fits(names, kind)]
    if len(found) > 1:
        power = is_power()
        found = [sensor for sensor in found if sensor.is_power == power]
    return found[0] if found else None
