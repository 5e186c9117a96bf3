"""Scores with intervals, without a model: classes, presence, boxes, counts."""

import re
from collections.abc import Sequence

import numpy as np

from lhrs.boxes import iou

SEED = 0


def fold(text: str) -> str:
    """Fold case, spaces, underscores, hyphens and the final full stop."""
    return re.sub(r"[\s_\-]+", "", text.lower()).rstrip(".")


def balanced_accuracy(right: Sequence[str], answers: Sequence[str]) -> float:
    """Return the mean over the right answers that occur of the fraction that is answered so."""
    truth, hits = _hits(right, answers)
    return float(np.mean([hits[truth == value].mean() for value in np.unique(truth)]))


def balanced_interval(right: Sequence[str], answers: Sequence[str], rounds: int = 2000) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the balanced accuracy, resampled within each right answer."""
    truth, hits = _hits(right, answers)
    rng = np.random.default_rng(SEED)
    means = []
    for value in np.unique(truth):
        part = hits[truth == value]
        means.append(part[rng.integers(len(part), size=(rounds, len(part)))].mean(1))
    low, high = np.quantile(np.mean(means, 0), [0.025, 0.975])
    return float(low), float(high)


def _hits(right: Sequence[str], answers: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    truth = np.array([fold(text) for text in right])
    return truth, truth == np.array([fold(text) for text in answers])


def majority_by_set(sets: Sequence[str], right: Sequence[str]) -> list[str]:
    """Return for each row the most frequent right answer of its set, the first in the alphabet of several."""
    best = {}
    for name in set(sets):
        answers = sorted(r for s, r in zip(sets, right, strict=True) if s == name)
        best[name] = max(dict.fromkeys(answers), key=answers.count)
    return [best[name] for name in sets]


def match_boxes(predicted: np.ndarray, real: np.ndarray, min_iou: float = 0.5) -> int:
    """Count one-to-one matches of boxes `(N, 4)` and `(M, 4)` xyxy, the largest overlap first."""
    if not len(predicted) or not len(real):
        return 0
    overlap = iou(predicted, real)
    matches = 0
    while overlap.max() >= min_iou:
        row, column = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[row], overlap[:, column] = -1, -1
        matches += 1
    return matches


def f1(counts: np.ndarray) -> float:
    """Return F1 over images from `(N, 3)` numbers of matched, predicted and real boxes."""
    matched, predicted, real = counts.sum(0)
    return float(2 * matched / max(predicted + real, 1))


def f1_interval(counts: np.ndarray, rounds: int = 2000) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of F1 over images."""
    rng = np.random.default_rng(SEED)
    picks = rng.integers(len(counts), size=(rounds, len(counts)))
    values = [f1(counts[pick]) for pick in picks]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def as_number(text: str) -> int:
    """Return the count that an answer states; 0 if it states none."""
    number = re.fullmatch(r"\s*(\d+)\.?\s*", text)
    return int(number[1]) if number else 0


def others(count: int, index: int) -> np.ndarray:
    """Return for each of `count` rows another row, drawn by (seed, index): one cycle through all rows."""
    order = np.random.default_rng([SEED, index]).permutation(count)
    result = np.empty(count, int)
    result[order] = np.roll(order, 1)
    return result
