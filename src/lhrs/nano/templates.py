"""Load the hand-written question banks: phrasings, class vocabularies and unanswerable questions."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

ABSTAIN = "i can't tell from this image."
"""The one answer to questions that the image, or what was taught, cannot answer."""


@dataclass(frozen=True)
class Noun:
    """Forms of a thing one can ask about."""

    a_thing: str
    thing: str
    things: str
    mass: bool = False


@dataclass(frozen=True)
class Banks:
    """Parsed resources."""

    questions: dict[str, dict[str, list[str]]]
    classes: dict[str, dict[str, dict[str, Any]]]
    attributes: dict[str, Any]
    absent: list[Noun]
    building_words: list[Noun]
    regions: dict[str, list[str]]
    unanswerable: dict[str, Any]

    def noun(self, vocabulary: str, key: str) -> Noun:
        """Return the forms of a class."""
        return noun(self.classes[vocabulary][key])

    def name(self, vocabulary: str, key: str) -> str:
        """Return the canonical answer of a class."""
        return self.classes[vocabulary][key]["name"]


def noun(entry: dict[str, Any]) -> Noun:
    """Read the noun forms of a YAML entry."""
    return Noun(entry["a_thing"], entry["thing"], entry["things"], bool(entry.get("mass", False)))


@cache
def load_banks() -> Banks:
    """Return the banks that come with lhrs."""
    read = lambda name: yaml.safe_load((files("lhrs.resources") / name).read_text())  # noqa: E731
    classes = read("classes.yaml")
    return Banks(
        questions=read("questions.yaml"),
        classes={k: classes[k] for k in ("eurosat", "ucmerced", "dubai")},
        attributes=classes["attributes"],
        absent=[noun(e) for e in classes["objects_absent"]],
        building_words=[noun(e) for e in classes["buildings"]],
        regions=classes["regions"],
        unanswerable=read("unanswerable.yaml"),
    )
