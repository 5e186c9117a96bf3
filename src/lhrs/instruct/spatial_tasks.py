"""Tasks about objects (LHRS-Instruct-Plus): location, relative position, counting, size, boxes, regions, unambiguous
referring expressions, false premises.

Each task returns a question with its answer, or None if the annotations do not support an unambiguous one. Only objects
of exhaustively annotated labels are reported as absent.
"""

import math
from collections.abc import Sequence
from random import Random

from lhrs.align.facts import POSITIONS
from lhrs.align.phrases import spell_number, with_article
from lhrs.align.tags import plural, tag_table
from lhrs.boxes import common_area
from lhrs.instruct.annotations import AnnotatedObject, ImageAnnotations, Vocabulary
from lhrs.instruct.qa import QAPair, TaskFn
from lhrs.schema import Box

_CLEAR = 1.5
"""Minimum ratio of areas at which one object is clearly larger."""
_MARGIN = 0.06
"""Minimum difference of distances, as a fraction of the image's diagonal."""
_MOST_BOXES = 40
_DIRECTIONS = ("to the right of", "to the lower right of", "below", "to the lower left of", "to the left of",
               "to the upper left of", "above", "to the upper right of")  # fmt: skip


def grid_position(annotations: ImageAnnotations, obj: AnnotatedObject) -> str:
    """Return the ninth of the image in which an object is: `top left`, `top`, ..., `center`."""
    x, y = obj.center
    return POSITIONS[min(2, int(3 * y / annotations.height))][min(2, int(3 * x / annotations.width))]


def location(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the position of the only object of its label."""
    obj = _only(annotations, rng)
    if obj is None or not _within_cell(annotations, obj):
        return None
    question = rng.choice(
        ("Where is the {}?", "Where in the image is the {}?", "In which part of the image is the {}?")
    )
    others = ("top left", "top right", "bottom left", "bottom right", "center", "left", "right", "top", "bottom")
    here = grid_position(annotations, obj)
    wrong = tuple(o for o in others if o != here and not set(o.split()) <= set(here.split()))
    return QAPair("location", question.format(obj.label), here, distractors=wrong)


def relative(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the direction from one object to another, each the only one of its label."""
    alone = [
        annotations.of(label)[0]
        for label, count in annotations.labels().items()
        if count == 1 and label not in annotations.truncated
    ]
    if len(alone) < 2:
        return None
    first, second = rng.sample(alone, 2)
    direction = _direction(annotations, first, second)
    if direction is None:
        return None
    question = rng.choice(
        (
            "Where is the {} in relation to the {}?",
            "Where is the {} with respect to the {}?",
            "Where is the {} relative to the {}?",
        )
    ).format(first.label, second.label)
    answer = f"{direction} the {second.label}"
    at = _DIRECTIONS.index(direction)
    wrong = tuple(f"{_DIRECTIONS[(at + step) % 8]} the {second.label}" for step in (4, 2, 6, 3, 5))
    return QAPair("relative position", question, answer, distractors=wrong)


def count(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Count the objects of a label."""
    if annotations.are_components:
        return None
    labels = [label for label in annotations.labels() if label not in annotations.truncated]
    absent = sorted(annotations.exhaustive - set(annotations.labels()) - annotations.truncated)
    if absent and rng.random() < 0.15:
        labels = absent
    if not labels:
        return None
    label = rng.choice(labels)
    num = len(annotations.of(label))
    question = rng.choice(
        ("How many {} are there?", "How many {} can be seen?", "Count the {}.", "What is the number of {}?")
    )
    below = rng.randint(0, min(3, num))  # so that the rank of the correct number is not a hint
    near = [*(num - n for n in range(below, 0, -1)), *(num + n for n in range(1, 4 - below))]
    return QAPair("count", question.format(plural(label)), str(num), distractors=tuple(map(str, near)))


def larger(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the larger of two objects."""
    alone = [
        annotations.of(label)[0]
        for label, num in annotations.labels().items()
        if num == 1 and label not in annotations.truncated
    ]
    if len(alone) < 2:
        return None
    first, second = rng.sample(alone, 2)
    big, small = sorted((first, second), key=lambda obj: -obj.area)
    if big.area < _CLEAR * small.area:
        return None
    question = rng.choice(("Which is larger, the {} or the {}?", "Which covers more ground, the {} or the {}?"))
    return QAPair(
        "size", question.format(first.label, second.label), f"the {big.label}", distractors=(f"the {small.label}",)
    )


def find_all(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Give the boxes of all objects of a label."""
    labels = [
        label
        for label, num in annotations.labels().items()
        if num <= _MOST_BOXES and label not in annotations.truncated
    ]
    if not labels:
        return None
    label = rng.choice(labels)
    objects = annotations.of(label)
    question = rng.choice(("Find all {}.", "Give the boxes of all {}.", "Where are the {}? Answer with boxes."))
    count = f"{spell_number(len(objects))} {_noun(label, len(objects))}"
    return QAPair("detection", question.format(plural(label)), count,
                    boxes=_boxes(_reading_order(annotations, objects)))  # fmt: skip


def region(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Name the object in a box."""
    if not annotations.objects:
        return None
    obj = rng.choice(annotations.objects)
    if any(other.label != obj.label and _overlap(obj, other) > 0.3 for other in annotations.objects):
        return None
    question = rng.choice(("What is in this box?", "What does this region show?", "Name what this box marks."))
    kin = {obj.label, *obj.also, *(t.label for t in annotations.objects if obj.label in t.also)}
    generic = any(obj.label in other.also for other in annotations.objects) or obj.label == "building"
    if annotations.facts and generic:  # a plain building on a map may be of any type
        return None
    siblings = set(obj.also) if annotations.facts else set()
    others = tuple(name for name in vocabulary.labels if name not in kin and not siblings & _also(name))
    if not others:  # there is nothing to distinguish
        return None
    return QAPair(
        "region",
        question,
        with_article(obj.label),
        question_boxes=_boxes([obj]),
        distractors=tuple(map(with_article, others)),
    )


def referring_expression(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Give the box of the one object that an expression refers to."""
    options = expressions(annotations)
    if not options:
        return None
    expression, obj = options[rng.randrange(len(options))]
    question = rng.choice(("Where is {}? Answer with a box.", "Find {}.", "Give the box of {}."))
    return QAPair("referring expression", question.format(expression), expression, boxes=_boxes([obj]))


def describe_box(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Describe the object in a box so that no other object fits."""
    options = expressions(annotations)
    if not options:
        return None
    expression, obj = options[rng.randrange(len(options))]
    question = rng.choice(("Describe the object in this box so that no other object fits.",
                           "Which object is in this box? Describe it so that no other object fits."))  # fmt: skip
    return QAPair("region description", question, expression, question_boxes=_boxes([obj]))


def presence(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Verify whether a label is present, yes and no equally often."""
    absent = sorted(annotations.exhaustive - set(annotations.labels()) - annotations.truncated)
    there = sorted(annotations.labels())
    if not absent or not there:
        return None
    yes = rng.random() < 0.5
    label = rng.choice(there if yes else absent)
    question = rng.choice(("Is there {} in the image?", "Can {} be seen?", "Does the image show {}?"))
    return QAPair(
        "presence", question.format(with_article(label)), "yes" if yes else "no", distractors=("no" if yes else "yes",)
    )


def false_premise(annotations: ImageAnnotations, rng: Random, vocabulary: Vocabulary) -> QAPair | None:
    """Reject a question about an absent object."""
    absent = sorted(annotations.exhaustive - set(annotations.labels()) - annotations.truncated)
    if not absent:
        return None
    label = rng.choice(absent)
    question = rng.choice(
        ("Where is the {}?", "How large is the {}?", "What is beside the {}?", "What color is the {}?")
    )
    return QAPair("false premise", question.format(label), f"There is no {label} in this image.")


TASKS: dict[str, TaskFn] = {
    "location": location, "relative": relative, "count": count, "size": larger, "detection": find_all,
    "region": region, "referring": referring_expression, "description": describe_box, "presence": presence,
    "false-premise": false_premise,
}  # fmt: skip


def expressions(annotations: ImageAnnotations) -> list[tuple[str, AnnotatedObject]]:
    """Return expressions that each refer to exactly one object, by a clear margin.

    Labels with objects truncated by the image edge get no expression: the truncated object may be larger.
    """
    named: list[tuple[str, AnnotatedObject]] = []
    diagonal = math.hypot(annotations.width, annotations.height)
    for label in annotations.labels():
        objects = annotations.of(label)
        if label in annotations.truncated:
            continue
        if len(objects) == 1:
            named.append((f"the {label}", objects[0]))
            continue
        by_area = sorted(objects, key=lambda t: -t.area)
        if by_area[0].area >= _CLEAR * by_area[1].area:
            named.append((f"the largest {label}", by_area[0]))
        if by_area[-2].area >= _CLEAR * by_area[-1].area:
            named.append((f"the smallest {label}", by_area[-1]))
        for axis, low, high in ((0, "leftmost", "rightmost"), (1, "topmost", "bottommost")):
            ordered = sorted(objects, key=lambda t: t.center[axis])
            if ordered[1].center[axis] - ordered[0].center[axis] > _MARGIN * diagonal:
                named.append((f"the {low} {label}", ordered[0]))
            if ordered[-1].center[axis] - ordered[-2].center[axis] > _MARGIN * diagonal:
                named.append((f"the {high} {label}", ordered[-1]))
        corners = {"top left": (0, 0), "top right": (1, 0), "bottom left": (0, 1), "bottom right": (1, 1)}
        for name, (x, y) in corners.items():
            corner = (x * annotations.width, y * annotations.height)
            near = sorted(objects, key=lambda t: math.dist(t.center, corner))
            if math.dist(near[1].center, corner) - math.dist(near[0].center, corner) > _MARGIN * diagonal:
                named.append((f"the {label} nearest the {name} corner", near[0]))
        for other in (
            annotations.of(name)[0]
            for name, num in annotations.labels().items()
            if num == 1 and name not in annotations.truncated
        ):
            near = sorted(objects, key=lambda t: math.dist(t.center, other.center))
            if math.dist(near[1].center, other.center) - math.dist(near[0].center, other.center) > _MARGIN * diagonal:
                named.append((f"the {label} nearest the {other.label}", near[0]))
    return named


def _also(label: str) -> set[str]:
    kind = tag_table().kinds.get(label)
    return {kind.parent} if kind is not None and kind.parent else set()


def _only(annotations: ImageAnnotations, rng: Random) -> AnnotatedObject | None:
    alone = [label for label, num in annotations.labels().items() if num == 1 and label not in annotations.truncated]
    return annotations.of(rng.choice(alone))[0] if alone else None


def _within_cell(annotations: ImageAnnotations, obj: AnnotatedObject) -> bool:
    """Return whether an object is small and not near the lines between ninths."""
    x, y = obj.center
    sides = (obj.box[2] - obj.box[0]) / annotations.width, (obj.box[3] - obj.box[1]) / annotations.height
    clear = all(
        abs(v - edge) > 0.04 for v in (x / annotations.width, y / annotations.height) for edge in (1 / 3, 2 / 3)
    )
    return clear and max(sides) < 0.5


def _direction(annotations: ImageAnnotations, first: AnnotatedObject, second: AnnotatedObject) -> str | None:
    """Return the direction from `two` to `one`; None if they overlap or the angle is between two of eight."""
    dx, dy = first.center[0] - second.center[0], first.center[1] - second.center[1]
    if _overlap(first, second) > 0 or math.hypot(dx, dy) < 0.1 * math.hypot(annotations.width, annotations.height):
        return None
    angle = math.degrees(math.atan2(dy, dx)) % 360
    nearest = round(angle / 45)
    return _DIRECTIONS[nearest % 8] if abs(angle - 45 * nearest) < 16 else None


def _overlap(first: AnnotatedObject, second: AnnotatedObject) -> float:
    """Return the fraction of the smaller box that is inside the other."""
    return common_area(first.box, second.box) / max(min(first.area, second.area), 1e-9)


def _boxes(objects: Sequence[AnnotatedObject]) -> tuple[Box, ...]:
    return tuple(Box(label=obj.label, xyxy=obj.box) for obj in objects)


def _reading_order(annotations: ImageAnnotations, objects: Sequence[AnnotatedObject]) -> list[AnnotatedObject]:
    return sorted(objects, key=lambda t: (int(8 * t.center[1] / annotations.height), t.center[0], t.center[1]))


def _noun(label: str, num: int) -> str:
    return label if num == 1 else plural(label)
