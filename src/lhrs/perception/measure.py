"""Measurements of a concept of the word table in the evidence of an image: presence, fraction, objects, places."""

from collections.abc import Sequence
from functools import cache

import numpy as np

from lhrs.perception.evidence import Detection, Evidence
from lhrs.perception.word_table import Concept, word_table
from lhrs.perception.words import find_concept

_HALF_PRESENT = 0.01
"""Fraction of an area at which a concept without a tag is present with a probability of one half."""
_HALF_STAND = 0.2
"""Fraction of an area at which a concept that has the tag of a broader thing is present with a probability of one half:
a forest is an area of trees, not a tree."""
_MIN_AREA = 0.004
"""Smallest fraction of the image of a connected area that gets a box."""
_MAX_PLACES = 12
_FITS_WELL = 0.5
"""Weight in the table of words from which on the area of a land-cover class is area of a concept."""


def presence(name: str, evidence: Evidence, is_part: bool = False) -> float:
    """Return the probability that a concept is present.

    Args:
        name: of a taught concept.
        evidence: of the image, or of a part of it.
        is_part: the evidence is that of a part: tags and scene classes are of the whole and only an upper limit.
    """
    concept = word_table().concepts[name]
    scenes = sum(weight * evidence.scenes.get(scene, 0.0) for scene, weight in word_table().scene_weights[name].items())
    area = fraction(concept, evidence)
    by_area = None if area is None else area / (area + _HALF_PRESENT)
    found = objects(concept, evidence)
    by_object = max((d.score for d in found), default=0.0) if found is not None else None
    whole = evidence.tags.get(concept.tag) if concept.tag is not None else None
    if whole is None:
        whole = max(min(scenes, 1.0), by_area or 0.0, by_object or 0.0)
    elif not _says(concept.tag, name):
        stand = 0.0 if area is None else area / (area + _HALF_STAND)
        whole = min(whole, max(min(scenes, 1.0), stand, by_object or 0.0))
    if not is_part:
        return max(whole, by_object or 0.0)
    local = [value for value in (by_area, by_object) if value is not None]
    return min(max(whole, by_object or 0.0), max(local)) if local else whole


@cache
def _says(tag: str, name: str) -> bool:
    """Return whether a tag says that a concept is there: it names the concept or a narrower one.

    The tag of a broader thing is only an upper limit: single trees are no forest, houses no industrial area.
    """
    match = find_concept(tag)
    return match is not None and (match.name == name or name in word_table().broader_of(match.name))


def fraction(concept: Concept, evidence: Evidence) -> float | None:
    """Return the fraction of the area, 0-1; None if no land-cover class belongs to the concept."""
    if not concept.cover:
        return None
    return min(1.0, sum(evidence.cover[name] for name in _classes(concept)))


def _classes(concept: Concept) -> list[str]:
    """Return the land-cover classes whose area is area of a concept: those that fit it well."""
    best = max(concept.cover.values())
    return [name for name, weight in concept.cover.items() if weight >= min(best, _FITS_WELL)]


def objects(concept: Concept, evidence: Evidence) -> list[Detection] | None:
    """Return the objects, best score first; None if the concept is not counted one by one."""
    if concept.object is None:
        return None
    return [d for d in evidence.detections if d.label == concept.object]


def places(concept: Concept, evidence: Evidence) -> list[Detection]:
    """Return where a concept is: its objects, else the connected areas of its land cover, largest first."""
    found = objects(concept, evidence)
    if found or not concept.cover:
        return found or []
    probability = evidence.cover_map[[evidence.cover_classes.index(name) for name in _classes(concept)]].sum(0)
    return areas(probability, concept.object or "")


def areas(probability: np.ndarray, label: str) -> list[Detection]:
    """Return a box around each 4-connected area of `(h, w)` probabilities above one half, largest first."""
    from rasterio.features import shapes

    height, width = probability.shape
    mask = probability > 0.5
    found = []
    for outline, _ in shapes(mask.astype(np.uint8), mask=mask):
        rings = [np.array(ring) for ring in outline["coordinates"]]
        size = abs(_ring_area(rings[0])) - sum(abs(_ring_area(ring)) for ring in rings[1:])
        if size / probability.size < _MIN_AREA:
            continue
        (x1, y1), (x2, y2) = rings[0].min(0).astype(int), rings[0].max(0).astype(int)
        inside = probability[y1:y2, x1:x2]
        box = (x1 / width, y1 / height, x2 / width, y2 / height)
        found.append((size, Detection(label, box, float(inside[mask[y1:y2, x1:x2]].mean()))))
    return [detection for _, detection in sorted(found, key=lambda item: -item[0])[:_MAX_PLACES]]


def _ring_area(ring: np.ndarray) -> float:
    x, y = ring[:-1].T
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def position(box: Sequence[float]) -> str:
    """Return the ninth of the image in which the center of a box is."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    column, row = ("left", "", "right")[min(2, int(3 * x))], ("top", "", "bottom")[min(2, int(3 * y))]
    return f"{row} {column}".strip() or "center"
