"""Format-independent annotations of one image: objects with boxes, map facts, a class, a caption."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from lhrs.align.caption_templates import is_counted
from lhrs.align.facts import Fact
from lhrs.instruct.class_names import label_words
from lhrs.schema import XYXY, Sample, Turn

_STUFF = frozenset(
    ["land", "vegetation", "water", "road", "soil", "grass", "forest", "ground", "barren", "cropland", "agriculture",
     "low vegetation", "impervious surface", "impervious surfaces", "clutter", "rangeland", "unknown"]
)  # fmt: skip
"""Land-cover classes of masks. Their parts are not objects: they are neither counted nor referred to."""
_MIN_VISIBLE_FRACTION = 0.4
"""Minimum visible fraction of an object that is counted or asked for."""


@dataclass(frozen=True)
class AnnotatedObject:
    """One object."""

    label: str
    box: XYXY
    """Pixels of the image."""
    also: tuple[str, ...] = ()
    """Other names: a church is a building too."""

    @property
    def center(self) -> tuple[float, float]:
        """Center of the box."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def area(self) -> float:
        """Area of the box in square pixels."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class ImageAnnotations:
    """The annotations of an image from which questions are generated."""

    id: str
    images: tuple[str, ...]
    width: int
    height: int
    source: str
    license: str
    attribution: str | None = None
    split: str | None = None
    objects: tuple[AnnotatedObject, ...] = ()
    truncated: frozenset[str] = frozenset()
    """Labels of which some objects are mostly outside the image: they cannot be counted."""
    exhaustive: frozenset[str] = frozenset()
    """Exhaustively annotated labels, for which "none" is a valid answer. Empty for maps."""
    are_components: bool = False
    """Objects are connected components of masks. Adjacent houses are one component and cannot be counted."""
    facts: tuple[Fact, ...] = ()
    caption: str | None = None
    scene: str | None = None
    negative_scenes: tuple[str, ...] = ()
    """Classes of the dataset that the image does not belong to."""
    turns: tuple[tuple[Turn, Turn, str | None], ...] = ()
    """Questions and answers of the dataset itself, and their tasks."""

    def of(self, label: str) -> list[AnnotatedObject]:
        """Return the objects of a label."""
        return [item for item in self.objects if label in (item.label, *item.also)]

    def labels(self) -> dict[str, int]:
        """Return the number of objects of each label, sorted by label."""
        return dict(sorted(Counter(name for item in self.objects for name in (item.label, *item.also)).items()))

    def merge(self, other: "ImageAnnotations") -> "ImageAnnotations":
        """Merge the annotations of two samples of the same image; shared objects are deduplicated.

        Alone, each sample would report as absent what the other annotates.
        """
        own = set(self.objects)
        return replace(
            self,
            objects=(*self.objects, *(item for item in other.objects if item not in own)),
            truncated=self.truncated | other.truncated,
            scene=self.scene or other.scene,
            negative_scenes=tuple(name for name in self.negative_scenes if name in other.negative_scenes),
            turns=(*self.turns, *other.turns),
        )


@dataclass(frozen=True)
class Vocabulary:
    """Labels of a whole dataset."""

    labels: tuple[str, ...] = ()
    """Of the objects that it annotates."""


def from_sample(
    sample: Sample, width: int, height: int, labels: Sequence[str], scenes: Sequence[str]
) -> ImageAnnotations:
    """Return the annotations of a sample.

    Args:
        sample: With boxes, labels or turns.
        width: Of its first image, in pixels.
        height: Of its first image, in pixels.
        labels: Of all objects of the dataset; each image is assumed to have all of its objects annotated.
        scenes: All classes of the dataset.
    """
    crowds = frozenset(label_words(box.label) for box in sample.boxes if box.crowd)
    singles = [(label_words(box.label), box.xyxy) for box in sample.boxes if not box.crowd]
    turns = pairwise(turn for turn in sample.turns if turn.role != "system")
    own = [label_words(label) for label in sample.labels]
    return ImageAnnotations(
        id=sample.id, images=tuple(sample.images), width=width, height=height, source=sample.source,
        license=sample.license, attribution=sample.attribution, split=sample.split,
        objects=tuple(AnnotatedObject(label, xyxy) for label, xyxy in singles if label not in _STUFF),
        truncated=crowds, exhaustive=frozenset(map(label_words, labels)) - _STUFF, scene=own[0] if own else None,
        negative_scenes=tuple(name for name in map(label_words, scenes) if name not in own),
        turns=tuple((q, a, sample.task) for q, a in turns if (q.role, a.role) == ("user", "assistant")),
    )  # fmt: skip


def from_row(row: Mapping[str, Any], facts: Sequence[Fact], image: str | None) -> ImageAnnotations:
    """Return the annotations of a row of an alignment dataset; the map is not assumed to be complete."""
    objects: list[AnnotatedObject] = []
    truncated: set[str] = set()
    seen: set[str] = set()
    for fact in sorted(facts, key=lambda fact: fact.parent is None):
        if not is_counted(fact.kind):
            continue
        for identity, box, inside, is_visible in zip(
            fact.osm_ids, fact.boxes, fact.object_visible_fraction, fact.object_visible, strict=True
        ):
            if identity in seen:
                continue
            seen.add(identity)
            also = (fact.parent,) if fact.parent else ()
            if is_visible and inside >= _MIN_VISIBLE_FRACTION:
                x1, y1, x2, y2 = box
                objects.append(AnnotatedObject(fact.kind, (x1, y1, x2, y2), also))
            elif is_visible:
                truncated.update((fact.kind, *also))
    return ImageAnnotations(
        id=row["id"], images=(image,) if image else (), width=row["width"], height=row["height"],
        source="lhrs-instruct", attribution=row["attribution"], objects=tuple(objects), truncated=frozenset(truncated),
        license=" AND ".join(dict.fromkeys(filter(None, (row["license"], row["text_license"])))), facts=tuple(facts),
        caption=row["caption"],
    )  # fmt: skip
