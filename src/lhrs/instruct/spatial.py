"""Questions about where things are (LHRS-Instruct-Plus): location, relative position, counting, size, boxes, regions,
referring expressions that fit one thing only, and questions whose premise is false.

Each maker returns a question with its answer, or None where the image does not allow it without doubt. Nothing is said
to be absent that the data set does not mark completely.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from lhrs.align.facts import COLUMNS, ROWS
from lhrs.align.tags import plural, tag_table
from lhrs.align.words import article, number
from lhrs.instruct.known import Known, Thing, Vocabulary
from lhrs.schema import Box, Turn

_CLEAR = 1.5
"""Ratio of areas from which on one thing is clearly the larger."""
_MARGIN = 0.06
"""Share of the image's diagonal by which distances must differ to be told apart."""
_MOST_BOXES = 40
_DIRECTIONS = ("to the right of", "to the lower right of", "below", "to the lower left of", "to the left of",
               "to the upper left of", "above", "to the upper right of")  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    """A question and its answer."""

    task: str
    question: str
    answer: str
    boxes: tuple[Box, ...] = ()
    """That the answer speaks of."""
    asked: tuple[Box, ...] = ()
    """That the question speaks of."""
    wrong: tuple[str, ...] = ()
    """Other answers that a careless reader might give: what choices are made of."""

    def turns(self) -> list[Turn]:
        """Return what is said."""
        return [
            Turn(role="user", text=self.question, boxes=list(self.asked)),
            Turn(role="assistant", text=self.answer, boxes=list(self.boxes)),
        ]


Maker = Callable[[Known, Random, Vocabulary], Exchange | None]


def place(known: Known, thing: Thing) -> str:
    """Return where a thing is: `top left`, `top`, ..., `centre`."""
    x, y = thing.centre
    column = COLUMNS[min(2, int(3 * x / known.width))]
    row = ROWS[min(2, int(3 * y / known.height))]
    return column if row == "middle" else row if column == "centre" else f"{row} {column}"


def location(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """Where the only thing of its kind is."""
    thing = _only(known, rng)
    if thing is None or not _within_cell(known, thing):
        return None
    question = rng.choice(
        ("Where is the {}?", "Where in the image is the {}?", "In which part of the image is the {}?")
    )
    others = [f"{r} {c}" for r in ("top", "bottom") for c in ("left", "right")] + [
        "centre",
        "left",
        "right",
        "top",
        "bottom",
    ]
    here = place(known, thing)
    wrong = tuple(o for o in others if o != here and not set(o.split()) <= set(here.split()))
    return Exchange("location", question.format(thing.label), here, wrong=wrong)


def relative(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """How two things, each the only one of its kind, lie to each other."""
    alone = [known.of(label)[0] for label, count in known.labels().items() if count == 1 and label not in known.cut]
    if len(alone) < 2:
        return None
    one, two = rng.sample(alone, 2)
    direction = _direction(known, one, two)
    if direction is None:
        return None
    question = rng.choice(
        (
            "Where is the {} in relation to the {}?",
            "How does the {} lie to the {}?",
            "Where is the {} relative to the {}?",
        )
    ).format(one.label, two.label)
    answer = f"{direction} the {two.label}"
    at = _DIRECTIONS.index(direction)
    wrong = tuple(f"{_DIRECTIONS[(at + step) % 8]} the {two.label}" for step in (4, 2, 6, 3, 5))
    return Exchange("relative position", question, answer, wrong=wrong)


def count(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """How many there are of a kind."""
    if known.are_parts:
        return None
    labels = [label for label in known.labels() if label not in known.cut]
    absent = sorted(known.complete - set(known.labels()) - known.cut)
    if absent and rng.random() < 0.15:
        labels = absent
    if not labels:
        return None
    label = rng.choice(labels)
    num = len(known.of(label))
    question = rng.choice(
        ("How many {} are there?", "How many {} can be seen?", "Count the {}.", "What is the number of {}?")
    )
    below = rng.randint(0, min(3, num))  # how many of the wrong ones are smaller must not give the right one away
    near = [*(num - n for n in range(below, 0, -1)), *(num + n for n in range(1, 4 - below))]
    return Exchange("count", question.format(plural(label)), str(num), wrong=tuple(map(str, near)))


def larger(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """Which of two different things is the larger."""
    alone = [known.of(label)[0] for label, num in known.labels().items() if num == 1 and label not in known.cut]
    if len(alone) < 2:
        return None
    one, two = rng.sample(alone, 2)
    big, small = sorted((one, two), key=lambda thing: -thing.area)
    if big.area < _CLEAR * small.area:
        return None
    question = rng.choice(("Which is larger, the {} or the {}?", "Which covers more ground, the {} or the {}?"))
    return Exchange("size", question.format(one.label, two.label), f"the {big.label}", wrong=(f"the {small.label}",))


def find_all(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """The boxes of everything of a kind."""
    labels = [label for label, num in known.labels().items() if num <= _MOST_BOXES and label not in known.cut]
    if not labels:
        return None
    label = rng.choice(labels)
    things = known.of(label)
    question = rng.choice(("Find all {}.", "Give the boxes of all {}.", "Where are the {}? Answer with boxes."))
    return Exchange("detection", question.format(plural(label)), f"{number(len(things))} {_noun(label, len(things))}",
                    boxes=_boxes(_reading_order(known, things)))  # fmt: skip


def region(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """What a box holds."""
    if not known.things:
        return None
    thing = rng.choice(known.things)
    if any(other.label != thing.label and _overlap(thing, other) > 0.3 for other in known.things):
        return None
    question = rng.choice(("What is in this box?", "What does this region show?", "Name what this box marks."))
    kin = {thing.label, *thing.also, *(t.label for t in known.things if thing.label in t.also)}
    generic = any(thing.label in other.also for other in known.things) or thing.label == "building"
    if known.facts and generic:  # a map's plain building may be a house, or anything
        return None
    siblings = set(thing.also) if known.facts else set()
    others = tuple(name for name in words.labels if name not in kin and not siblings & _also(name))
    if not others:  # there is nothing to tell apart
        return None
    return Exchange("region", question, article(thing.label), asked=_boxes([thing]), wrong=tuple(map(article, others)))


def refer(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """The box of the one thing that an expression fits."""
    found = expressions(known)
    if not found:
        return None
    expression, thing = found[rng.randrange(len(found))]
    question = rng.choice(("Where is {}? Answer with a box.", "Find {}.", "Give the box of {}."))
    return Exchange("referring expression", question.format(expression), expression, boxes=_boxes([thing]))


def describe_box(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """An expression that fits the thing in a box and no other."""
    found = expressions(known)
    if not found:
        return None
    expression, thing = found[rng.randrange(len(found))]
    question = rng.choice(("Describe what is in this box so that it can be told from all others.",
                           "Which thing does this box mark? Say it so that no other fits."))  # fmt: skip
    return Exchange("region description", question, expression, asked=_boxes([thing]))


def presence(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """Whether there is something: as often yes as no where the data set knows."""
    absent = sorted(known.complete - set(known.labels()) - known.cut)
    there = sorted(known.labels())
    if not absent or not there:
        return None
    yes = rng.random() < 0.5
    label = rng.choice(there if yes else absent)
    question = rng.choice(("Is there {} in the image?", "Can {} be seen?", "Does the image show {}?"))
    return Exchange(
        "presence", question.format(article(label)), "yes" if yes else "no", wrong=("no" if yes else "yes",)
    )


def false_premise(known: Known, rng: Random, words: Vocabulary) -> Exchange | None:
    """A question about something that is not there, and the answer that says so."""
    absent = sorted(known.complete - set(known.labels()) - known.cut)
    if not absent:
        return None
    label = rng.choice(absent)
    question = rng.choice(
        ("Where is the {}?", "How large is the {}?", "What is beside the {}?", "What colour is the {}?")
    )
    return Exchange("false premise", question.format(label), f"There is no {label} in this image.")


MAKERS: dict[str, Maker] = {
    "location": location, "relative": relative, "count": count, "size": larger, "detection": find_all,
    "region": region, "referring": refer, "description": describe_box, "presence": presence,
    "false-premise": false_premise,
}  # fmt: skip


def expressions(known: Known) -> list[tuple[str, Thing]]:
    """Return expressions that fit exactly one thing each, by a clear margin.

    A thing of a kind of which others are cut by the edge is not singled out: the other may be the larger.
    """
    found: list[tuple[str, Thing]] = []
    diagonal = math.hypot(known.width, known.height)
    for label in known.labels():
        things = known.of(label)
        if label in known.cut:
            continue
        if len(things) == 1:
            found.append((f"the {label}", things[0]))
            continue
        by_area = sorted(things, key=lambda t: -t.area)
        if by_area[0].area >= _CLEAR * by_area[1].area:
            found.append((f"the largest {label}", by_area[0]))
        if by_area[-2].area >= _CLEAR * by_area[-1].area:
            found.append((f"the smallest {label}", by_area[-1]))
        for axis, low, high in ((0, "leftmost", "rightmost"), (1, "topmost", "bottommost")):
            ordered = sorted(things, key=lambda t: t.centre[axis])
            if ordered[1].centre[axis] - ordered[0].centre[axis] > _MARGIN * diagonal:
                found.append((f"the {low} {label}", ordered[0]))
            if ordered[-1].centre[axis] - ordered[-2].centre[axis] > _MARGIN * diagonal:
                found.append((f"the {high} {label}", ordered[-1]))
        corners = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
        for name, (x, y) in corners.items():
            corner = (x * known.width, y * known.height)
            near = sorted(things, key=lambda t: math.dist(t.centre, corner))
            if math.dist(near[1].centre, corner) - math.dist(near[0].centre, corner) > _MARGIN * diagonal:
                found.append((f"the {label} nearest the {name} corner", near[0]))
        for other in (known.of(name)[0] for name, num in known.labels().items() if num == 1 and name not in known.cut):
            near = sorted(things, key=lambda t: math.dist(t.centre, other.centre))
            if math.dist(near[1].centre, other.centre) - math.dist(near[0].centre, other.centre) > _MARGIN * diagonal:
                found.append((f"the {label} nearest the {other.label}", near[0]))
    return found


def _also(label: str) -> set[str]:
    kind = tag_table().kinds.get(label)
    return {kind.parent} if kind is not None and kind.parent else set()


def _only(known: Known, rng: Random) -> Thing | None:
    alone = [label for label, num in known.labels().items() if num == 1 and label not in known.cut]
    return known.of(rng.choice(alone))[0] if alone else None


def _within_cell(known: Known, thing: Thing) -> bool:
    """Tell whether a thing is small and clear of the lines between ninths, so that nobody would name another place."""
    x, y = thing.centre
    sides = (thing.box[2] - thing.box[0]) / known.width, (thing.box[3] - thing.box[1]) / known.height
    clear = all(abs(v - edge) > 0.04 for v in (x / known.width, y / known.height) for edge in (1 / 3, 2 / 3))
    return clear and max(sides) < 0.5


def _direction(known: Known, one: Thing, two: Thing) -> str | None:
    """Return how `one` lies to `two`, where it is clear: they do not overlap and the angle is near one of eight."""
    dx, dy = one.centre[0] - two.centre[0], one.centre[1] - two.centre[1]
    if _overlap(one, two) > 0 or math.hypot(dx, dy) < 0.1 * math.hypot(known.width, known.height):
        return None
    angle = math.degrees(math.atan2(dy, dx)) % 360
    nearest = round(angle / 45)
    return _DIRECTIONS[nearest % 8] if abs(angle - 45 * nearest) < 16 else None


def _overlap(one: Thing, two: Thing) -> float:
    """Return the share of the smaller one's box that lies in the other's."""
    width = min(one.box[2], two.box[2]) - max(one.box[0], two.box[0])
    height = min(one.box[3], two.box[3]) - max(one.box[1], two.box[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / max(min(one.area, two.area), 1e-9)


def _boxes(things: Sequence[Thing]) -> tuple[Box, ...]:
    return tuple(Box(label=thing.label, xyxy=thing.box) for thing in things)


def _reading_order(known: Known, things: Sequence[Thing]) -> list[Thing]:
    return sorted(things, key=lambda t: (int(8 * t.centre[1] / known.height), t.centre[0], t.centre[1]))


def _noun(label: str, num: int) -> str:
    return label if num == 1 else plural(label)
