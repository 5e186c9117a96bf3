"""Scene classes, questions with short answers, counts, and choices: right or wrong, and by how much."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

import numpy as np

from lhrs.metrics.parse import (
    label_key,
    normalise,
    parse_choice,
    parse_choices,
    parse_label,
    parse_number,
    parse_yes_no,
)

COUNT_BUCKETS = ((0, 0), (1, 10), (11, 100), (101, 1000), (1001, float("inf")))
"""RSVQA's (Lobry et al., 2020, arXiv:2003.07333)."""


@dataclass(frozen=True)
class Score:
    """Right or wrong for each record, and what is made of it."""

    right: np.ndarray
    """bool `(N,)`."""
    parsed: np.ndarray
    """bool `(N,)`: whether the answer says anything that the question allows; what is not parsed is wrong."""
    more: Mapping[str, float] = field(default_factory=dict)
    by: Mapping[str, float] = field(default_factory=dict)
    """Accuracy of each type or class."""

    @property
    def accuracy(self) -> float:
        """Share of right answers among all, unparseable ones included."""
        return float(self.right.mean()) if len(self.right) else float("nan")

    @property
    def unparseable(self) -> float:
        """Share of answers that could not be parsed."""
        return float(1 - self.parsed.mean()) if len(self.parsed) else float("nan")

    def summary(self) -> dict[str, float | int | dict[str, float]]:
        """Return everything as plain numbers."""
        found: dict[str, float | int | dict[str, float]] = {
            "accuracy": self.accuracy, "n": len(self.right), "unparseable": self.unparseable, **self.more,
        }  # fmt: skip
        return {**found, "by": dict(self.by)} if self.by else found


def classify(predictions: Sequence[str], answers: Sequence[str], labels: Sequence[str] | None = None) -> Score:
    """Score scene classes: the answer is exactly one label after `lhrs.metrics.parse.label_key`, or it is wrong.

    Args:
        predictions: of the model.
        answers: the true labels.
        labels: all that were offered; None takes those of the answers.

    Returns:
        With `balanced_accuracy`, the mean over classes of their accuracy, and the accuracy of each class.
    """
    known = list(dict.fromkeys(labels if labels is not None else sorted(answers)))
    guesses = [parse_label(text, known) for text in predictions]
    truth = [label_key(answer) for answer in answers]
    right = np.array([g is not None and label_key(g) == t for g, t in zip(guesses, truth, strict=True)], bool)
    by = by_type(answers, right)
    return Score(right, np.array([g is not None for g in guesses], bool), {"balanced_accuracy": _mean(by.values())}, by)


@lru_cache(maxsize=1 << 18)
def judge_vqa(prediction: str, answer: str) -> tuple[bool, bool]:
    """Return whether an answer is right, and whether it was parsed; what the truth is decides what is looked for."""
    truth = normalise(answer)
    if truth in ("yes", "no"):
        said = parse_yes_no(prediction)
        return said == truth, said is not None
    number = parse_number(answer)
    if number is not None and _is_bare_number(truth):
        value = parse_number(prediction)
        return value == number, value is not None
    said = label_key(prediction)
    return said == label_key(answer) and bool(said), bool(said)


def _is_bare_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).lstrip("-").isdecimal() or (
        " " not in text and not any(c.isdigit() for c in text)
    )


def vqa(predictions: Sequence[str], answers: Sequence[str], types: Sequence[str] | None = None) -> Score:
    """Score short answers strictly: yes or no, a number, or the exact words.

    Args:
        predictions: of the model.
        answers: the truth.
        types: of the questions.

    Returns:
        With the accuracy of each type, their mean `mean_of_types`, and for numbers `count_mae` (an answer that is no
        number is as far off as 0 is) and `count_bucket_accuracy` (RSVQA's ranges).
    """
    judged = [judge_vqa(p, a) for p, a in zip(predictions, answers, strict=True)]
    right = np.array([r for r, _ in judged], bool)
    by = by_type(types, right) if types is not None else {}
    more = {"mean_of_types": _mean(by.values())} if by else {}
    numeric = [n for n, answer in enumerate(answers) if _number(answer) is not None]
    if numeric:
        counted = counts([predictions[n] for n in numeric], [answers[n] for n in numeric])
        more |= {"count_mae": counted.more["mae"], "count_bucket_accuracy": counted.more["bucket_accuracy"]}
    return Score(right, np.array([p for _, p in judged], bool), more, by)


def counts(predictions: Sequence[str], answers: Sequence[str | float], within: Sequence[int] = (1, 5)) -> Score:
    """Score counts.

    Args:
        predictions: of the model.
        answers: true counts.
        within: errors up to which answers are told apart too.

    Returns:
        Exact ones as right; with `mae` (an answer that is no number is taken as 0), `within_n`, and
        `bucket_accuracy`, the share in the right one of `COUNT_BUCKETS`.
    """
    guesses = [_number(p) for p in predictions]
    truth = np.array([float(_number(str(a)) or 0.0) for a in answers])
    parsed = np.array([g is not None for g in guesses], bool)
    values = np.array([0.0 if g is None else g for g in guesses])
    error = np.abs(values - truth)
    more = {"mae": float(error.mean()) if len(error) else float("nan")}
    more |= {f"within_{n}": float(((error <= n) & parsed).mean()) for n in within if len(error)}
    same = np.array([_bucket(v) == _bucket(t) for v, t in zip(values, truth, strict=True)], bool)
    more["bucket_accuracy"] = float((same & parsed).mean()) if len(error) else float("nan")
    return Score((error == 0) & parsed, parsed, more)


@lru_cache(maxsize=1 << 16)
def _number(text: str) -> float | None:
    return parse_number(text)


def _bucket(value: float) -> int:
    return next((n for n, (low, high) in enumerate(COUNT_BUCKETS) if low <= value <= high), -1)


def choose(
    predictions: Sequence[str],
    answers: Sequence[int | tuple[int, ...]],
    options: Sequence[Sequence[str]],
    types: Sequence[str] | None = None,
) -> Score:
    """Score choices.

    Args:
        predictions: of the model.
        answers: index of the right option; indices where several may be right, then all of them and no other count.
        options: texts without letters, as shown.
        types: of the questions; one question may be of several, parted by `|`.
    """
    guesses = [
        parse_choice(text, offered) if isinstance(answer, int) else parse_choices(text, offered)
        for text, answer, offered in zip(predictions, answers, options, strict=True)
    ]
    right = np.array([g == a for g, a in zip(guesses, answers, strict=True)], bool)
    return Score(right, np.array([g is not None for g in guesses], bool), {}, by_type(types, right) if types else {})


def choose_circular(groups: Sequence[object], right: np.ndarray) -> Score:
    """Score questions that were asked once for each rotation of their options: right only if all of them are.

    Args:
        groups: of each asked question, the question that it is a rotation of.
        right: bool `(N,)`, from `choose`.

    Returns:
        One record per question, in order of first appearance; with `mean_of_rotations`, the plain accuracy.
    """
    found: dict[object, bool] = {}
    for group, ok in zip(groups, right.tolist(), strict=True):
        found[group] = found.get(group, True) and ok
    every = np.array(list(found.values()), bool)
    return Score(every, np.ones(len(every), bool), {"mean_of_rotations": float(right.mean()) if len(right) else 0.0})


Right = TypeVar("Right", int, tuple[int, ...])


def rotations(options: Sequence[str], answer: Right) -> list[tuple[list[str], Right]]:
    """Return the options turned by 0, 1, ... places, each with the new index of the right one, or of the right ones."""
    shown, size = list(options), len(options)
    return [(shown[turn:] + shown[:turn], _turned(answer, turn, size)) for turn in range(size)]


def _turned(answer: Right, turn: int, size: int) -> Right:
    return (answer - turn) % size if isinstance(answer, int) else tuple(sorted((a - turn) % size for a in answer))


def majority(answers: Sequence[str]) -> float:
    """Return the accuracy of always giving the most frequent answer."""
    return max(Counter(map(normalise, answers)).values()) / len(answers) if answers else float("nan")


def by_type(groups: Sequence[str], right: np.ndarray) -> dict[str, float]:
    """Return the accuracy of each type; a question may be of several, parted by `|`."""
    found: dict[str, list[bool]] = defaultdict(list)
    for group, ok in zip(groups, right.tolist(), strict=True):
        for name in group.split("|"):
            found[name].append(ok)
    return {name: float(np.mean(found[name])) for name in sorted(found)}


def _mean(values: object) -> float:
    found = list(values)  # type: ignore[call-overload]
    return float(np.mean(found)) if found else float("nan")
