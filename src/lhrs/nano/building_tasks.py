"""Questions about single buildings: how many, and where."""

import numpy as np

from lhrs.boxes import format_boxes
from lhrs.nano.image_facts import ImageFacts
from lhrs.nano.phrasing import QA, Draw
from lhrs.nano.templates import ABSTAIN

MAX_BOXES = 24
"""Images with more buildings are not asked for boxes: the answer would not fit."""


def count(facts: ImageFacts, draw: Draw) -> QA | None:
    """Number of buildings; where single buildings cannot be seen (10 m scenes), that it cannot be told."""
    word = draw.pick(draw.banks.building_words)
    question = draw.phrase("count").replace("{things}", word.things).replace("{thing}", word.thing)
    if facts.vocabulary == "eurosat" and facts.scene is not None:
        return question, ABSTAIN
    if facts.buildings is None or len(facts.buildings) > 99 or not len(facts.buildings):
        return None
    return question, str(len(facts.buildings))


def ground(facts: ImageFacts, draw: Draw) -> QA | None:
    """Boxes of all buildings in reading order."""
    if facts.buildings is None or not 1 <= len(facts.buildings) <= MAX_BOXES:
        return None
    word = draw.pick(draw.banks.building_words)
    question = draw.phrase("ground").replace("{things}", word.things).replace("{thing}", word.thing)
    return question, boxes_text(reading_order(facts.buildings))


def ground_one(facts: ImageFacts, draw: Draw) -> QA | None:
    """The box of one building that an expression singles out."""
    found = referring(facts, draw)
    if found is None:
        return None
    expression, box = found
    return draw.phrase("ground_one").replace("{expression}", expression), boxes_text(box[None])


def referring(facts: ImageFacts, draw: Draw) -> tuple[str, np.ndarray] | None:
    """Return an expression that fits exactly one building clearly, and its box; None when there is none."""
    if facts.buildings is None or not len(facts.buildings):
        return None
    b = facts.buildings
    word = draw.pick(draw.banks.building_words).thing
    centre = (b[:, :2] + b[:, 2:]) / 2
    area = (b[:, 2:] - b[:, :2]).prod(1)
    candidates: list[tuple[str, np.ndarray]] = []
    order = area.argsort()[::-1]
    if len(b) == 1 or area[order[0]] > 1.2 * area[order[1]]:
        candidates += [(f"the largest {word}", b[order[0]]), (f"the biggest {word}", b[order[0]])]
    if len(b) == 1:
        candidates.append((f"the {word}", b[0]))
    corners = {
        "top left": (0, 0),
        "top right": (1, 0),
        "bottom left": (0, 1),
        "bottom right": (1, 1),
        "centre": (0.5, 0.5),
    }
    for name, corner in corners.items():
        distance = np.linalg.norm(centre - np.array(corner), axis=1)
        near = distance.argsort()
        if len(b) > 1 and distance[near[0]] < 0.45 and distance[near[1]] - distance[near[0]] > 0.06:
            spot = draw.pick([name, *draw.banks.regions.get(name, [])]) if name != "centre" else "centre"
            candidates.append((f"the {word} nearest the {spot}", b[near[0]]))
            candidates.append((f"the {word} in the {spot}", b[near[0]]))
    return draw.pick(candidates) if candidates else None


def reading_order(boxes: np.ndarray) -> np.ndarray:
    """Sort boxes in rows of an eighth of the image, then left to right."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    return boxes[np.lexsort((centre[:, 0], np.floor(centre[:, 1] * 8)))]


def boxes_text(boxes: np.ndarray) -> str:
    """Write unit boxes as location tokens."""
    return format_boxes(boxes, (1, 1), "loc64")
