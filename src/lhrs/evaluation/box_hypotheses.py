"""Which notation explains the numbers that a model wrote about squares of known place. Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lhrs.boxes import Size, iou
from lhrs.inference.box_notation import ORDERS, BoxNotation, Scale

_SCALES: tuple[Scale, ...] = (1, 100, 1000, 1024, "image", 336, 448, 512, 672, 768, 896)
"""Numbers from 336 are sides of squares to which processors resize every image."""
_MULTIPLES = (28, 32)
_PERMUTATIONS = 4999
_RESAMPLES = 2000
_LOWEST_IOU = 0.2
_SAME_READING_IOU = 0.9
_EQUAL = 1e-4
"""Families return boxes in single precision: equal readings differ by less."""
_LEVEL = 0.01
_RIVAL_LEVEL = 0.05


@dataclass(frozen=True)
class Reading:
    """One way to read the answers of a model to one prompt."""

    name: str
    """Order and scale, or the name of a family."""
    boxes: np.ndarray
    """float64 `(N, 4)`, the first box of each answer, xyxy as fractions of its image; NaN without a box."""
    notation: BoxNotation | None = None
    """None for the reading of a family."""


@dataclass(frozen=True)
class Verdict:
    """The reading that explains the answers best."""

    reading: Reading
    iou: np.ndarray
    """float64 `(N,)` with the true boxes; 0 without a box."""
    p_value: float
    """Probability of a mean IoU as high if the answers were about other images."""
    rivals: tuple[str, ...]
    """Other readings that differ and are not significantly worse."""

    def is_certain(self, num_tests: int) -> bool:
        """Return whether the reading is known, at a level of 0.01 for all of `num_tests` prompts together."""
        is_significant = self.p_value <= _LEVEL / num_tests and self.iou.mean() >= _LOWEST_IOU
        return bool(is_significant and not self.rivals)


def notations(resized_is_known: bool) -> list[BoxNotation]:
    """Return the notations that are tried, the most frequent first.

    Args:
        resized_is_known: whether the size of the resized images is known; else common rules for it are tried.
    """
    scales: list[tuple[Scale, int | None]] = [(scale, None) for scale in _SCALES]
    resized: list[tuple[Scale, int | None]] = (
        [("resized", None)] if resized_is_known else [("resized", multiple) for multiple in _MULTIPLES]
    )
    return [BoxNotation(order, scale, multiple) for order in ORDERS for scale, multiple in [*scales, *resized]]


def describe(notation: BoxNotation) -> str:
    """Return order and scale in words."""
    scale = notation.scale
    if scale == "image":
        unit = "pixels of the image"
    elif scale == "resized":
        rule = f" (sides in multiples of {notation.multiple})" if notation.multiple else ""
        unit = f"pixels of the resized image{rule}"
    else:
        unit = f"0 to {scale:g}"
    return f"{notation.order}, {unit}"


def readings(
    numbers: Sequence[Sequence[float]], sizes_wh: Sequence[Size], resized_wh: Sequence[Size | None]
) -> list[Reading]:
    """Return the answers of a model, read in every notation.

    Args:
        numbers: of the first box in each answer; not four without a box.
        sizes_wh: sizes of the images in pixels.
        resized_wh: sizes to which they were resized; None where it is unknown.
    """
    found = []
    for notation in notations(all(size is not None for size in resized_wh)):
        boxes = np.full((len(numbers), 4), np.nan)
        for n, (four, size, resized) in enumerate(zip(numbers, sizes_wh, resized_wh, strict=True)):
            if len(four) == 4:
                boxes[n] = notation.to_unit(np.array(four), notation.extent(size, resized))[0]
        found.append(Reading(describe(notation), boxes, notation))
    return found


def judge(candidates: Sequence[Reading], truth: np.ndarray, seed: int = 0) -> Verdict:
    """Return the best of several readings of the same answers.

    Chance is measured by answers that are assigned to other images: for each of these permutations the best reading
    counts. A rival is a reading by which the boxes differ, and which a bootstrap over the images does not find worse.

    Args:
        candidates: the first of equally good ones wins.
        truth: float64 `(N, 4)`, the true boxes.
        seed: of permutations and bootstrap.
    """
    rng, count = np.random.default_rng(seed), len(truth)
    pairs = np.stack([iou(np.nan_to_num(c.boxes, nan=-1), truth) for c in candidates])  # (readings, answers, truths)
    matched = pairs[:, np.arange(count), np.arange(count)]
    means = matched.mean(1)
    best = int(np.flatnonzero(means >= means.max() - _EQUAL)[0])
    orders = rng.permuted(np.tile(np.arange(count), (_PERMUTATIONS, 1)), axis=1)
    chance = np.stack([each[np.arange(count), orders].mean(1) for each in pairs]).max(0)
    p_value = (1 + int((chance >= matched[best].mean()).sum())) / (1 + _PERMUTATIONS)
    picks = rng.integers(count, size=(_RESAMPLES, count))
    answered = ~np.isnan(candidates[best].boxes).any(1)
    rivals = []
    for n, candidate in enumerate(candidates):
        both = iou(candidate.boxes[answered], candidates[best].boxes[answered]).diagonal()
        if n == best or (len(both) and both.mean() >= _SAME_READING_IOU):
            continue
        is_as_good = ((matched[best] - matched[n])[picks].mean(1) <= 0).mean()
        if is_as_good > _RIVAL_LEVEL:
            rivals.append(candidate.name)
    return Verdict(candidates[best], matched[best], p_value, tuple(rivals))
