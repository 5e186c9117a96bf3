"""Probabilities of a user's own labels, from the evidence of an image and the table of words.

Each label is placed in `resources/land_words.yaml`. Three sources then vote for it:

- scene classes: their probabilities,
- land cover: the fractions of the area,
- tags: the probabilities that something is present.

Each class of a source is divided among the labels that are linked to it, in the ratio of their weights to the power of
`sharpness`. A label that contains another label of the list gets only what the narrower one leaves: with the labels
"built-up" and "residential", houses count as residential and factories as built-up. What a class gives in all is the
largest weight of a label for it; the remainder of the class belongs to no label.

The support of a label is the weighted mean of the votes of the sources that it is linked to. What is missing from a sum
of 1 is the rest, which no label describes. Probabilities are supports plus a small `prior`, divided by their sum: they
are nearly equal where no label fits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lhrs.perception.evidence import Evidence
from lhrs.perception.vocabulary import COVER, SCENES, TAGS
from lhrs.perception.word_table import word_table
from lhrs.perception.words import Reading, read_phrase


@dataclass(frozen=True)
class SourceWeights:
    """How the sources of evidence are combined."""

    scene: float = 0.6
    """Weight of scene classes."""
    cover: float = 0.3
    """Weight of land cover."""
    tag: float = 0.1
    """Weight of tags."""
    min_total: float = 0.6
    """Least sum of weights that votes are divided by, so that a tag alone does not outvote a scene class."""
    prior: float = 0.02
    """Support that each label has without evidence."""
    sharpness: float = 2.0
    """Exponent of the weights by which labels divide a class: 1 is in proportion, larger values favor the best."""


@dataclass(frozen=True)
class LabelScores:
    """Probabilities of labels for one image."""

    labels: tuple[str, ...]
    """As the user specified them."""
    probabilities: tuple[float, ...]
    """One for each label. They sum to 1; 0 for a label that could not be placed, and for all if none could."""
    rest: float
    """Fraction of the evidence that no label describes, 0 to 1: high if none of the labels fits the image."""
    warnings: tuple[str, ...]
    """Sentences about labels that could not be placed, were corrected, or cannot be distinguished."""

    @property
    def best(self) -> str | None:
        """The most probable label, the first of several; None if no label could be placed."""
        top = max(self.probabilities, default=0.0)
        return self.labels[self.probabilities.index(top)] if top > 0 else None


@dataclass(frozen=True, order=True)
class _Meaning:
    """What one or several labels stand for."""

    names: tuple[str, ...]
    """Names of concepts, sorted; an image of any of them fits."""
    negated: bool = False

    def contains(self, other: "_Meaning") -> bool:
        """Return whether each concept of another meaning is one of these, or narrower than one of these."""
        if self.negated or other.negated or self == other:
            return False
        return all({name, *word_table().broader_of(name)}.intersection(self.names) for name in other.names)

    def links(self) -> list[np.ndarray]:
        """Return the weights of scene classes, land-cover classes, and tags that are present, then absent."""
        table = word_table()
        concepts = [table.concepts[name] for name in self.names]
        by_name = [table.scene_weights[name] for name in self.names]
        scenes = np.array([max(weights.get(scene, 0.0) for weights in by_name) for scene in SCENES])
        cover = np.array([max(concept.cover.get(name, 0.0) for concept in concepts) for name in COVER])
        tags = np.array([float(any(concept.tag == tag for concept in concepts)) for tag in TAGS])
        none = np.zeros(len(TAGS))
        if self.negated:
            return [1 - scenes, 1 - cover, np.concatenate([none, tags])]
        return [scenes, cover, np.concatenate([tags, none])]


class LabelScorer:
    """Scores one list of labels for any number of images.

    Args:
        labels: words and phrases of the user. One such as "other" gets what no other label describes.
        weights: how the sources are combined.
    """

    def __init__(self, labels: Sequence[str], weights: SourceWeights | None = None) -> None:
        self.labels = tuple(labels)
        self._weights = weights or SourceWeights()
        positions: dict[_Meaning, list[int]] = {}
        self._others: list[int] = []
        warnings: list[str] = []
        for position, label in enumerate(self.labels):
            reading = read_phrase(label)
            if warning := _warning(label, reading):
                warnings.append(warning)
            meaning = _Meaning(tuple(sorted(match.name for match in reading.matches)), reading.negated)
            evidence = {match.concept.evidence for match in reading.matches}
            if evidence == {None}:
                positions.setdefault(meaning, []).append(position)
            elif evidence == {"rest"} and not reading.negated:
                self._others.append(position)
        # Sorted, so that the order of the labels makes no difference.
        self._groups = sorted(positions.items())
        meanings = [meaning for meaning, _ in self._groups]
        links = [np.stack(parts) for parts in zip(*(meaning.links() for meaning in meanings), strict=True)]
        self._claims = [_divide(weights, meanings, self._weights.sharpness) for weights in links]
        """Share of each class by label `(num_groups, num_classes)`, for scene classes, land cover and tags."""
        linked = np.stack([(weights > 0).any(1) for weights in links], 1) if links else np.zeros((0, 3))
        source_weights = np.array([self._weights.scene, self._weights.cover, self._weights.tag])
        totals = (linked * source_weights).sum(1, keepdims=True).clip(min=self._weights.min_total)
        self._source_weights = source_weights / totals
        """Weight of each source for each label `(num_groups, 3)`."""
        self.warnings = (*warnings, *self._same(links))
        """Sentences about labels that could not be placed, were corrected, or cannot be distinguished."""

    def score(self, evidence: Evidence) -> LabelScores:
        """Return the probability of each label for one image."""
        present = np.array([evidence.tags.get(tag, 0.0) for tag in TAGS])
        values = [
            np.array([evidence.scenes.get(scene, 0.0) for scene in SCENES]),
            np.array([evidence.cover.get(name, 0.0) for name in COVER]),
            np.concatenate([present, 1 - present]),
        ]
        support = np.zeros(len(self._groups))
        for source, claims in enumerate(self._claims):
            support += self._source_weights[:, source] * (claims @ values[source])
        rest = max(0.0, 1 - float(support.sum()))
        shares = [(places, float(value)) for (_, places), value in zip(self._groups, support, strict=True)]
        shares += [(self._others, rest)] if self._others else []
        total = sum(value + self._weights.prior for _, value in shares)
        probabilities = np.zeros(len(self.labels))
        for positions, value in shares:
            probabilities[positions] = (value + self._weights.prior) / total / len(positions)
        return LabelScores(self.labels, tuple(probabilities.tolist()), rest, self.warnings)

    def _same(self, links: list[np.ndarray]) -> Iterator[str]:
        """Yield a sentence for labels that cannot be distinguished."""
        for _, positions in self._groups:
            if len(positions) > 1:
                yield f"{self._quote(positions)} mean the same: they share one probability."
        for (first, (_, ours)), (second, (_, theirs)) in combinations(enumerate(self._groups), 2):
            if all(np.array_equal(weights[first], weights[second]) for weights in links):
                yield f"{self._quote([*ours, *theirs])} look the same to the model: they get equal probabilities."

    def _quote(self, positions: Sequence[int]) -> str:
        return _enumerate([repr(self.labels[position]) for position in sorted(positions)], "and")


def score_labels(labels: Sequence[str], evidence: Evidence, weights: SourceWeights | None = None) -> LabelScores:
    """Return the probability of each label for one image; for many images see `LabelScorer`."""
    return LabelScorer(labels, weights).score(evidence)


def _divide(weights: np.ndarray, meanings: Sequence[_Meaning], sharpness: float) -> np.ndarray:
    """Return how much of each class of a source each label gets.

    Args:
        weights: links of labels to classes, float `(num_labels, num_classes)`.
        meanings: of the labels.
        sharpness: exponent of the weights.
    """
    remaining = weights.copy()
    for row, meaning in enumerate(meanings):
        for other, narrower in enumerate(meanings):
            if meaning.contains(narrower):
                remaining[row] = np.minimum(remaining[row], (weights[row] - weights[other]).clip(min=0))
    powers = remaining**sharpness
    total = powers.sum(0)
    return weights.max(0) * np.divide(powers, total, out=np.zeros_like(powers), where=total > 0)


def _warning(label: str, reading: Reading) -> str | None:
    """Return what the user should know about how a label was read."""
    if reading.meanings:
        return f"{label!r} can mean {_enumerate(reading.meanings, 'or')}: it gets no probability. Write which one."
    if not reading.matches:
        return f"{label!r} is not in the table of land-use words: it gets no probability. Use another word for it."
    evidence = {match.concept.evidence for match in reading.matches}
    if "none" in evidence or ("rest" in evidence and (len(evidence) > 1 or reading.negated)):
        return f"The model was not trained to see {label!r}: it gets no probability."
    corrected = [match.read_as for match in reading.matches if match.how == "spelling"]
    return f"{label!r} is read as {_enumerate([repr(each) for each in corrected], 'and')}." if corrected else None


def _enumerate(words: Sequence[str], conjunction: str) -> str:
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
