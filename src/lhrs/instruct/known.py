"""What is known about an image, whatever it is known from: things with boxes, land and lines, a class, a caption."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from lhrs.align.captions import is_counted
from lhrs.align.facts import Fact
from lhrs.schema import XYXY, Sample, Turn

_STUFF = frozenset(
    ["land", "vegetation", "water", "road", "soil", "grass", "forest", "ground", "barren", "cropland", "agriculture",
     "low vegetation", "impervious surface", "impervious surfaces", "clutter", "rangeland", "unknown"]
)  # fmt: skip
"""Classes of masks that are land, not things: parts of them are neither counted nor referred to."""
_LEAST_INSIDE = 0.4
"""Things of which less lies in the picture are neither counted nor asked for: people would not agree on them."""


@dataclass(frozen=True)
class Thing:
    """One thing."""

    label: str
    box: XYXY
    """Pixels of the image."""
    also: tuple[str, ...] = ()
    """What else it is called: a church is a building too."""

    @property
    def centre(self) -> tuple[float, float]:
        """Of its box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> float:
        """Of its box, in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Known:
    """Everything that questions about an image may rest on."""

    id: str
    images: tuple[str, ...]
    width: int
    height: int
    source: str
    licence: str
    attribution: str | None = None
    split: str | None = None
    things: tuple[Thing, ...] = ()
    cut: frozenset[str] = frozenset()
    """Labels of which some things lie mostly outside: they cannot be counted."""
    complete: frozenset[str] = frozenset()
    """Labels whose things are all known, so that none is an answer. Empty for maps: what is not mapped may be there."""
    are_parts: bool = False
    """Things are connected parts of masks: houses that touch are one, and cannot be counted."""
    facts: tuple[Fact, ...] = ()
    caption: str | None = None
    scene: str | None = None
    other_scenes: tuple[str, ...] = ()
    """Classes of the data set that it is not of."""
    turns: tuple[tuple[Turn, Turn, str | None], ...] = ()
    """Questions and answers that came with it, and their tasks."""

    def of(self, label: str) -> list[Thing]:
        """Return the things called so."""
        return [thing for thing in self.things if label in (thing.label, *thing.also)]

    def labels(self) -> dict[str, int]:
        """Return how many things there are of each label, in the order of their names."""
        return dict(sorted(Counter(name for thing in self.things for name in (thing.label, *thing.also)).items()))

    def joined(self, other: "Known") -> "Known":
        """Return what this and another sample of the same image know together; things that both have are one.

        One sample alone would take what the others mark for absent.
        """
        told = set(self.things)
        return replace(
            self,
            things=(*self.things, *(thing for thing in other.things if thing not in told)),
            cut=self.cut | other.cut,
            scene=self.scene or other.scene,
            other_scenes=tuple(name for name in self.other_scenes if name in other.other_scenes),
            turns=(*self.turns, *other.turns),
        )


@dataclass(frozen=True)
class Vocabulary:
    """Words of a whole data set."""

    labels: tuple[str, ...] = ()
    """Of things that it marks."""


def from_sample(sample: Sample, width: int, height: int, labels: Sequence[str], scenes: Sequence[str]) -> Known:
    """Return what a sample of a data set knows.

    Args:
        sample: with boxes, labels or turns.
        width: of its first image, in pixels.
        height: of the same.
        labels: of all things that the data set marks; it is taken to mark every one of them.
        scenes: all classes of the data set.
    """
    crowds = frozenset(box.label for box in sample.boxes if box.crowd)
    things = tuple(
        Thing(_words(box.label), box.xyxy) for box in sample.boxes if not box.crowd and _words(box.label) not in _STUFF
    )
    said = pairwise(turn for turn in sample.turns if turn.role != "system")
    pairs = tuple((one, two, sample.task) for one, two in said if (one.role, two.role) == ("user", "assistant"))
    own = list(map(_words, sample.labels))
    return Known(
        sample.id, tuple(sample.images), width, height, sample.source, sample.licence, sample.attribution, sample.split,
        things, frozenset(map(_words, crowds)), frozenset(map(_words, labels)) - _STUFF, False, (), None,
        own[0] if own else None, tuple(name for name in map(_words, scenes) if name not in own), pairs,
    )  # fmt: skip


def from_row(row: Mapping[str, Any], facts: Sequence[Fact], image: str | None) -> Known:
    """Return what a row of an alignment data set knows: the map is not taken to be complete."""
    things: list[Thing] = []
    cut: set[str] = set()
    told: set[str] = set()
    for fact in sorted(facts, key=lambda fact: fact.parent is None):
        if not is_counted(fact.kind):
            continue
        for identity, box, inside, seen in zip(fact.osm_ids, fact.boxes, fact.inside, fact.seen, strict=True):
            if identity in told:
                continue
            told.add(identity)
            also = (fact.parent,) if fact.parent else ()
            if seen and inside >= _LEAST_INSIDE:
                x1, y1, x2, y2 = box
                things.append(Thing(fact.kind, (x1, y1, x2, y2), also))
            elif seen:
                cut.update((fact.kind, *also))
    licence = " AND ".join(dict.fromkeys(filter(None, (row["licence"], row["text_licence"]))))
    return Known(
        row["id"], (image,) if image else (), row["width"], row["height"], "lhrs-instruct", licence,
        row["attribution"], None, tuple(things), frozenset(cut), frozenset(), False, tuple(facts), row["caption"],
    )  # fmt: skip


def _words(label: str) -> str:
    """Return the words of a label: `AnnualCrop`, `annual_crop` and `annual-crop` are annual crop."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", label).split()).lower()
