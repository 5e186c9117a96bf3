"""Kinds of features that an image can show: read `resources/tags.csv` and match the tags of an object."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

Shape = Literal["area", "line", "point"]

_HIDDEN = {
    "tunnel": {"yes", "building_passage", "culvert", "flooded"},
    "location": {"underground", "underwater", "indoor"},
    "parking": {"underground"},
    "indoor": {"yes", "room", "area", "corridor"},
    "covered": {"yes"},
    "razed": {"yes"},
}
"""Tags of covered or demolished objects. A negative `layer` alone does not hide an object under a bridge."""


@dataclass(frozen=True)
class FeatureKind:
    """A kind of visible feature, and its words."""

    name: str
    """Singular noun: `building`, `tennis court`."""
    plural: str | None
    """None for mass nouns, such as farmland."""
    group: str
    """Category for balancing: building, transport, water, green, nature, agriculture, industry, leisure, ..."""
    parent: str | None
    """Parent kind: a church is a building."""
    setting: str | None
    """Phrase for an image that mostly shows this kind."""
    others: tuple[str, ...]
    """Singular synonyms."""
    width_m: float
    """Width of lines or diameter of points in meters; 0 for areas, which have their own size."""


@dataclass(frozen=True)
class _Row:
    order: int
    key: str
    values: frozenset[str]
    need_key: str
    need_values: frozenset[str]
    shapes: frozenset[str]
    kind: FeatureKind | None

    def fits(self, tags: Mapping[str, str], shape: str) -> bool:
        if self.kind is not None and shape not in self.shapes:
            return False
        if self.need_key and not _among(tags.get(self.need_key), self.need_values):
            return False
        return _among(tags.get(self.key), self.values)


def _among(value: str | None, values: frozenset[str]) -> bool:
    return value is not None and value != "no" and ("*" in values or value in values)


class TagTable:
    """The table of kinds and their tags.

    Args:
        text: contents of `tags.csv`; see its first lines.
    """

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self._rows: dict[str, list[_Row]] = {}
        self.kinds: dict[str, FeatureKind] = {}
        """Kinds by name, in the order of the table: more specific kinds first."""
        for order, row in enumerate(csv.DictReader(lines)):
            need, _, need_values = row["with"].partition("=")
            rule = _Row(
                order, row["key"], frozenset(row["value"].split("|")), need, frozenset((need_values or "*").split("|")),
                frozenset(row["shape"].split("+")), self._kind(row),
            )  # fmt: skip
            self._rows.setdefault(row["key"], []).append(rule)
        for kind in list(self.kinds.values()):
            if kind.parent and kind.parent not in self.kinds:
                self.kinds[kind.parent] = FeatureKind(kind.parent, f"{kind.parent}s", kind.group, None, None, (), 0.0)
        self.keys = tuple(self._rows)
        self._memo: dict[tuple, str | None] = {}
        self._used = frozenset(self.keys) | _HIDDEN.keys() | {"water", "sport", "leisure"}

    def _kind(self, row: dict[str, str]) -> FeatureKind | None:
        name = row["kind"]
        if not name:
            return None
        if name not in self.kinds:
            plural = None if row["plural"] == "-" else row["plural"] or f"{name}s"
            others = tuple(word for word in row["others"].split("|") if word)
            self.kinds[name] = FeatureKind(
                name, plural, row["group"], row["parent"] or None, row["setting"] or None, others,
                float(row["width_m"] or 0),
            )  # fmt: skip
        return self.kinds[name]

    def match(self, tags: Mapping[str, str], shape: Shape) -> str | None:
        """Return the name of the kind that matches the tags of an object; None if an image cannot show it.

        Args:
            tags: all tags of the object. Tags that are not in the table are ignored.
            shape: type of its geometry.
        """
        known = tuple(sorted((key, value) for key, value in tags.items() if key in self._used))
        memo = (shape, known)
        if memo not in self._memo:
            self._memo[memo] = self._find(dict(known), shape)
        return self._memo[memo]

    def _find(self, tags: dict[str, str], shape: str) -> str | None:
        if any(tags.get(key) in values for key, values in _HIDDEN.items()):
            return None
        rows = sorted((row for key in tags for row in self._rows.get(key, ())), key=lambda row: row.order)
        gone = {row.key for row in rows if row.kind is None and tags[row.key] in row.values}
        return next((row.kind.name for row in rows if row.kind and row.key not in gone and row.fits(tags, shape)), None)


@cache
def tag_table() -> TagTable:
    """Return the table that comes with lhrs."""
    return TagTable((files("lhrs.resources") / "tags.csv").read_text(encoding="utf-8"))


def plural(label: str) -> str:
    """Return the plural of a label, from the table if it is one of its kinds."""
    kind = tag_table().kinds.get(label)
    if kind is not None:
        return kind.plural or label
    if label.endswith(("s", "sh", "ch", "x")):
        return label if label.endswith("s") and not label.endswith("ss") else f"{label}es"
    if label.endswith("y") and label[-2:-1] not in "aeiou":
        return f"{label[:-1]}ies"
    return f"{label}s"
