"""Words for evidence: captions, lists, reasons and changes."""

import re
from collections.abc import Sequence

from lhrs.perception.evidence import Evidence
from lhrs.perception.measure import fraction, objects, presence
from lhrs.perception.query import Clause
from lhrs.perception.vocabulary import SCENE_NAMES
from lhrs.perception.words import Match, find_concept

COUNTED = "buildings, trees and vehicles"
_COVER_WORDS = {
    "water": "water", "trees": "trees", "grass": "grass and other low vegetation", "crops": "cropland",
    "bare": "bare ground", "building": "buildings", "paved": "paved ground",
}  # fmt: skip
_TAG_WORDS = {
    "river": "a river", "road": "roads", "parking": "parking areas", "vehicle": "vehicles", "airplane": "airplanes",
    "ship": "boats", "pool": "swimming pools", "sports field": "sports grounds", "storage tank": "storage tanks",
}  # fmt: skip
_CHANGE = 0.05
"""Smallest difference of a fraction of the area that counts as a change."""
_BELIEVED = 0.5


def scene_name(name: str) -> str:
    """Return the words of a scene class such as `eurosat/AnnualCrop`: `annual crop`."""
    if name in SCENE_NAMES:
        return SCENE_NAMES[name]
    plain = name.rpartition("/")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", plain).replace("_", " ").lower()


def caption(evidence: Evidence) -> str:
    """Return one or two sentences about an image."""
    best = max(evidence.scenes, key=lambda name: evidence.scenes[name])
    first = "An overhead image"
    if evidence.scenes[best] >= _BELIEVED:
        first += f" of {article(scene_name(best))}"
    covers = contents(evidence, min_fraction=0.08, with_tags=False)
    second = f" with {join(covers)}" if covers else ""
    counts = counted(evidence)
    return f"{first}{second}." + (f" There are about {join(counts)}." if counts else "")


def contents(evidence: Evidence, min_fraction: float, with_tags: bool = True) -> list[str]:
    """Return what is there with its fraction of the area, most first, then things that have none."""
    cover = sorted(evidence.cover.items(), key=lambda item: -item[1])
    found = [f"{percent(value)} {_COVER_WORDS.get(name, name)}" for name, value in cover if value >= min_fraction]
    if with_tags:
        found += [words for tag, words in _TAG_WORDS.items() if evidence.tags.get(tag, 0.0) >= _BELIEVED]
    return found


def counted(evidence: Evidence) -> list[str]:
    """Return the number of objects of each class that has any, such as `12 buildings`."""
    kinds = list(dict.fromkeys(d.label for d in evidence.detections))
    numbers = [(sum(d.label == kind for d in evidence.detections), kind) for kind in kinds]
    return [f"{number} {kind}{'s' * (number > 1)}" for number, kind in numbers]


def beside(evidence: Evidence, box: Sequence[float], direction: str) -> list[str]:
    """Return the land cover of the strip of the image on one side of a box; empty if the box is at the edge.

    Args:
        evidence: of the image.
        box: xyxy as fractions.
        direction: a name of `lhrs.perception.vocabulary.REGIONS`.
    """
    height, width = evidence.cover_map.shape[1:]
    x1, y1, x2, y2 = box
    rows, columns = [y1, y2], [x1, x2]
    if "top" in direction:
        rows = [0, y1]
    elif "bottom" in direction:
        rows = [y2, 1]
    if "left" in direction:
        columns = [0, x1]
    elif "right" in direction:
        columns = [x2, 1]
    (r1, r2), (c1, c2) = [round(v * height) for v in rows], [round(v * width) for v in columns]
    strip = evidence.cover_map[:, r1:r2, c1:c2]
    if strip.shape[1] < 2 or strip.shape[2] < 2:
        return []
    values = sorted(zip(evidence.cover_classes, strip.mean((1, 2)).tolist(), strict=True), key=lambda item: -item[1])
    return [_COVER_WORDS.get(name, name) for name, value in values[:3] if value >= 0.15]


def changes(before: Evidence, after: Evidence) -> str:
    """Return what differs between two images of one place."""
    found = []
    for name in before.cover_classes:
        old, new = before.cover[name], after.cover[name]
        if abs(new - old) >= _CHANGE:
            found.append(f"{_COVER_WORDS.get(name, name)} from {percent(old)} to {percent(new)} of the area")
    for kind in dict.fromkeys(d.label for d in (*before.detections, *after.detections)):
        less, more = (sum(d.label == kind for d in e.detections) for e in (before, after))
        if abs(more - less) > max(1, 0.1 * max(less, more)):
            found.append(f"{more} {kind}s instead of {less}")
    return f"{join(found)}.".capitalize() if found else "I see no clear change."


def reasons(clause: Clause, evidence: Evidence) -> str:
    """Return the evidence for the answer to a clause, without a final stop; empty if there is none."""
    match = find_concept(clause.arguments[0]) if clause.arguments else None
    if match is None or not match.is_taught:
        best = max(evidence.scenes, key=lambda name: evidence.scenes[name])
        return f"the image looks most like {article(scene_name(best))} ({percent(evidence.scenes[best])})"
    part = evidence.within(clause.region)
    found = []
    area = fraction(match.concept, part)
    if area is not None:
        found.append(f"about {percent(area)} of the area looks like it")
    counted_objects = objects(match.concept, part)
    if counted_objects:
        found.append(f"{len(counted_objects)} were found")
    probability = presence(match.name, part, clause.region is not None)
    found.append(f"the probability that it is there is {percent(probability)}")
    return join(found)


def thing(match: Match) -> str:
    """Return the words of a concept for use in a sentence."""
    return match.read_as


def article(noun: str) -> str:
    """Return a noun with its article, or without one if it is a plural or a mass noun."""
    if noun.endswith("s") or noun in _MASS:
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


_MASS = frozenset(
    ["agriculture", "agricultural land", "herbaceous vegetation", "chaparral", "forest", "farmland", "pasture"]
)


def percent(value: float) -> str:
    """Return a fraction as a rounded percentage."""
    points = 100 * value
    return "under 1 %" if 0 < points < 1 else f"{round(points)} %"


def join(parts: Sequence[str]) -> str:
    """Return a list as words."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + f" and {parts[-1]}" if parts else ""


def sentence(text: str) -> str:
    """Return a text with a capital and a final stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")
