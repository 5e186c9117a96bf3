"""Counting: the answer is the only number."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from lhrs.metrics.accuracy import Accuracy, AccuracyMetric, answers_of, predictions_of
from lhrs.metrics.answer_parsing import parse_number
from lhrs.metrics.metric import Prompt, Question, Record

COUNT_BUCKETS = ((0, 0), (1, 10), (11, 100), (101, 1000), (1001, float("inf")))
"""RSVQA's ranges (Lobry et al., 2020, arXiv:2003.07333)."""


class Count(AccuracyMetric):
    """Exact counts and the error of the others."""

    name = "count"
    main_score = "mae"
    max_new_tokens = 16

    def prompt(self, question: Question) -> Prompt:
        return Prompt("short_answer", question.question)

    def judge(self, records: Sequence[Record], by_type: bool = True) -> Accuracy:
        return score_counts(predictions_of(records), answers_of(records))

    def baselines(self, records: Sequence[Record], judged: Accuracy) -> dict[str, Any]:
        truth = np.array([float(answer.replace(",", "")) for answer in answers_of(records)])
        return {"mae_of_the_median": float(np.abs(truth - np.median(truth)).mean())}


def score_counts(
    predictions: Sequence[str], answers: Sequence[str | float], tolerances: Sequence[int] = (1, 5)
) -> Accuracy:
    """Score counts; an exact count is correct.

    Args:
        predictions: answers of the model.
        answers: true counts.
        tolerances: errors up to which `within_N` counts an answer.

    Returns:
        With `mae` (an answer without a number counts as 0), `within_N`, and `bucket_accuracy`, the fraction of answers
        in the correct one of `COUNT_BUCKETS`.
    """
    guesses = [to_number(text) for text in predictions]
    truth = np.array([float(to_number(str(answer)) or 0.0) for answer in answers])
    parsed = np.array([guess is not None for guess in guesses], bool)
    values = np.array([0.0 if guess is None else guess for guess in guesses])
    error = np.abs(values - truth)
    extra = {"mae": float(error.mean()) if len(error) else float("nan")}
    extra |= {f"within_{n}": float(((error <= n) & parsed).mean()) for n in tolerances if len(error)}
    same = np.array([_bucket(v) == _bucket(t) for v, t in zip(values, truth, strict=True)], bool)
    extra["bucket_accuracy"] = float((same & parsed).mean()) if len(error) else float("nan")
    return Accuracy((error == 0) & parsed, guesses, extra)


@lru_cache(maxsize=1 << 16)
def to_number(text: str) -> float | None:
    """Return the number in an answer; see `parse_number`."""
    return parse_number(text)


def _bucket(value: float) -> int:
    return next((n for n, (low, high) in enumerate(COUNT_BUCKETS) if low <= value <= high), -1)
