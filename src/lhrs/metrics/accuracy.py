"""Accuracy of answers that are correct or not: classes, short answers, counts, choices."""

from abc import abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lhrs.metrics.answer_parsing import normalize
from lhrs.metrics.calibration import aurc, ece
from lhrs.metrics.metric import Metric, Record
from lhrs.metrics.statistics import bootstrap


@dataclass(frozen=True)
class Accuracy:
    """Whether each answer is correct, and the scores computed from that."""

    correct: np.ndarray
    """bool `(N,)`."""
    stated: Sequence[Any]
    """The parsed value of each answer; None if it cannot be parsed. An answer that cannot be parsed is wrong."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further scores by name."""
    by_type: Mapping[str, float] = field(default_factory=dict)
    """Accuracy of each question type or class."""

    @property
    def accuracy(self) -> float:
        """Fraction of correct answers among all, parse failures included."""
        return float(self.correct.mean()) if len(self.correct) else float("nan")

    @property
    def parse_failure_rate(self) -> float:
        """Fraction of answers that could not be parsed."""
        num_parsed = sum(answer is not None for answer in self.stated)
        return float(1 - num_parsed / len(self.stated)) if len(self.stated) else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as plain numbers."""
        scores = {
            "accuracy": self.accuracy, "n": len(self.correct), "parse_failure_rate": self.parse_failure_rate,
            **self.extra,
        }  # fmt: skip
        return {**scores, "by_type": dict(self.by_type)} if self.by_type else scores


class AccuracyMetric(Metric):
    """A metric whose answers are correct or not. A subclass gives `judge`."""

    @abstractmethod
    def judge(self, records: Sequence[Record], by_type: bool = True) -> Accuracy:
        """Return which records are correct; `by_type` asks for the accuracy of each question type too."""

    def baselines(self, records: Sequence[Record], judged: Accuracy) -> dict[str, Any]:
        """Return baselines without the image, and other scores of this metric; by default the majority answer."""
        return {"majority": majority_baseline(answers_of(records))}

    def compute(self, records: Sequence[Record], box_format: str) -> dict[str, Any]:
        judged = self.judge(records)
        scores = judged.to_dict()
        scores["interval"] = list(bootstrap(judged.correct))
        if all(isinstance(record.get("confidence"), int | float) for record in records):
            confidence = np.array([float(record["confidence"]) for record in records])
            scores |= {"ece": ece(confidence, judged.correct), "aurc": aurc(confidence, judged.correct)}
        return {**scores, **self.baselines(records, judged)}

    def compute_per_sample(self, records: Sequence[Record]) -> np.ndarray:
        return self.judge(records, by_type=False).correct.astype(float)

    def parse_predictions(self, records: Sequence[Record]) -> list[Any]:
        return list(self.judge(records, by_type=False).stated)


def predictions_of(records: Sequence[Record]) -> list[str]:
    """Return the predictions as texts; None is empty, true and false are yes and no."""
    return [_text(record["prediction"]) for record in records]


def answers_of(records: Sequence[Record]) -> list[str]:
    """Return the true answers as texts.

    Raises:
        ValueError: a record has none.
    """
    for n, record in enumerate(records, 1):
        if record["answer"] is None:
            raise ValueError(f"the answer of record {n} is null")
    return [_text(record["answer"]) for record in records]


def types_of(records: Sequence[Record]) -> list[str] | None:
    """Return the question types, or None if a record has none."""
    types = [record.get("type") for record in records]
    return None if any(kind is None for kind in types) else [str(kind) for kind in types]


def majority_baseline(answers: Sequence[str]) -> float:
    """Return the accuracy of always giving the most frequent answer."""
    return max(Counter(map(normalize, answers)).values()) / len(answers) if answers else float("nan")


def accuracy_by_type(types: Sequence[str], correct: np.ndarray) -> dict[str, float]:
    """Return the accuracy of each type. A question may be of several types, separated by `|`."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for kinds, is_correct in zip(types, correct.tolist(), strict=True):
        for name in kinds.split("|"):
            groups[name].append(is_correct)
    return {name: float(np.mean(groups[name])) for name in sorted(groups)}


def mean(values: Iterable[float]) -> float:
    """Return the mean of values, or NaN if there are none."""
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def _text(value: Any) -> str:
    if isinstance(value, bool):  # of JSON
        return "yes" if value else "no"
    return "" if value is None else str(value)
