"""The bank of question wordings, and the nouns, regions and phrases that fill its templates."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from random import Random
from typing import Any, Literal

import yaml

from lhrs.perception.query import REGIONS

Split = Literal["train", "held_out"]
_SYLLABLES = tuple("ba ce di fo gu in ke lor mi ne ol per ra ser ta un ver ex zo de ter ment sha tru bli".split())  # noqa: SIM905
_IRREGULAR = {
    "person": "people", "man": "men", "woman": "women", "fisherman": "fishermen", "child": "children", "foot": "feet",
    "tooth": "teeth", "mouse": "mice", "goose": "geese", "leaf": "leaves", "knife": "knives", "shelf": "shelves",
    "wolf": "wolves", "wharf": "wharves", "bus": "buses", "bus stop": "bus stops", "series": "series", "deer": "deer",
    "sheep": "sheep", "fish": "fish", "bison": "bison", "seal": "seals",
}  # fmt: skip


@dataclass(frozen=True)
class Pattern:
    """Wordings of one query."""

    query: str
    """Query with slots, such as `presence: {x} @ {region}`."""
    templates: tuple[str, ...]
    """Questions with slots; see `lhrs.instruct.queries`."""


@dataclass(frozen=True)
class Noun:
    """A noun phrase in its forms."""

    singular: str
    plural: str
    countable: bool
    """Whether the singular takes an article."""

    @property
    def article(self) -> str:
        """The indefinite article with a space; empty for a noun that has none."""
        if not self.countable:
            return ""
        return "an " if self.singular[0].lower() in "aeiou" else "a "


@cache
def read_resource(name: str) -> dict[str, Any]:
    """Return the content of a file of `resources/questions`."""
    return yaml.safe_load((files("lhrs") / "resources/questions" / f"{name}.yaml").read_text(encoding="utf-8"))


@cache
def patterns(name: str, split: Split) -> tuple[Pattern, ...]:
    """Return the patterns of a file that have templates of a split."""
    found = [Pattern(query, tuple(lists[split])) for query, lists in read_resource(name).items()]
    return tuple(pattern for pattern in found if pattern.templates)


def phrases(kind: str, split: Split) -> Sequence[str]:
    """Return phrases around a question: `openers`, `closers`, `places`, `adverbs`, `backgrounds`."""
    return read_resource("asides")[kind][split]


def pluralize(singular: str) -> str:
    """Return the plural of an English noun phrase: that of its last word."""
    if singular in _IRREGULAR:
        return _IRREGULAR[singular]
    head, space, last = singular.rpartition(" ")
    if head and " of " in f" {head} ":
        first, _, rest = singular.partition(" of ")
        return f"{pluralize(first)} of {rest}"
    if last in _IRREGULAR:
        return head + space + _IRREGULAR[last]
    if re.search(r"[^aeiou]y$", last):
        return f"{singular[:-1]}ies"
    return f"{singular}es" if re.search(r"(s|x|z|ch|sh)$", last) else f"{singular}s"


class Words:
    """Samples nouns and regions.

    Args:
        split: of the nouns.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        nouns = read_resource("nouns")
        self._states: list[str] = nouns["land"]["state"][split]
        self._nouns = {topic: self._forms(nouns[topic]) for topic in ("land", "general")}
        self._adjectives: list[str] = nouns["adjectives"][split]
        self._modifiers: list[str] = nouns["modifiers"][split]

    def noun(self, rng: Random) -> Noun:
        """Return a noun, sometimes with an adjective or a modifier, sometimes a word that does not exist."""
        chance = rng.random()
        if chance < 0.08:
            noun = _countable(pseudoword(rng))
        else:
            noun = rng.choice(self._nouns["land" if chance < 0.65 else "general"])
        if rng.random() < 0.15:
            adjective = rng.choice(self._adjectives)
            noun = Noun(f"{adjective} {noun.singular}", f"{adjective} {noun.plural}", noun.countable)
        if noun.countable and rng.random() < 0.04:
            modifier = rng.choice(self._modifiers)
            noun = Noun(f"{noun.singular} {modifier}", f"{noun.plural} {modifier}", noun.countable)
        return noun

    def option(self, rng: Random, kind: str) -> str:
        """Return an option of a choice: a state ("urban"), a noun, or a class name of a data set ("annualcrop").

        Args:
            rng: of the sample.
            kind: "state", "singular", "plural" or "name".
        """
        if kind == "state":
            return rng.choice(self._states)
        noun = rng.choice(self._nouns["land" if rng.random() < 0.8 else "general"])
        if kind == "name":
            return noun.singular.replace(" ", rng.choice(("", "_", "-")))
        return noun.plural if kind == "plural" else noun.singular

    def _forms(self, lists: dict[str, dict[str, list[str]]]) -> list[Noun]:
        forms = [Noun(word, word, False) for kind in ("mass", "plural") for word in lists[kind][self._split]]
        return forms + [_countable(word) for word in lists["count"][self._split]]


def _countable(word: str) -> Noun:
    return Noun(word, pluralize(word), True)


def pseudoword(rng: Random) -> str:
    """Return a made-up word."""
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3)))


_WHOLES = ("image", "picture", "photo", "scene", "tile", "frame", "map", "view", "area", "satellite image", "pic")


def region_phrase(rng: Random, slot: str) -> tuple[str, str]:
    """Return a region of `REGIONS` and words for it.

    Args:
        rng: of the sample.
        slot: "where" ("in the north"), "region" ("the north"), "side of" ("north of").
    """
    region = rng.choice(REGIONS)
    forms = read_resource("regions")[region]
    if slot == "side of":
        return region, rng.choice(forms["side"])
    kind = rng.choices(("in", "at", "on", "as_is"), (4, 1.5, 2, 2.5 if slot == "where" else 0))[0]
    text = rng.choice(forms[kind])
    if kind != "as_is" and rng.random() < 0.2:
        text += f" of the {rng.choice(_WHOLES)}"
    return region, text if kind == "as_is" or slot == "region" else f"{kind} {text}"
