"""Calibration of confidences, and abstention."""

import numpy as np


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage and risk, float64 `(N,)` each: the error among the most confident k of N, for k = 1 to N.

    The errors of answers with equal confidence are spread evenly over them, so that the order in the file does not
    matter.

    Args:
        confidence: `(N,)`, any scale.
        correct: bool `(N,)`.
    """
    confidence, wrong = np.asarray(confidence, float), 1.0 - np.asarray(correct, float)
    order = np.argsort(-confidence, kind="stable")
    level, wrong = confidence[order], wrong[order]
    _, group = np.unique(-level, return_inverse=True)
    even = np.bincount(group, wrong) / np.bincount(group)
    count = np.arange(1, len(wrong) + 1)
    return count / len(wrong), np.cumsum(even[group]) / count


def aurc(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return the area under the risk-coverage curve (Geifman and El-Yaniv, 2017, arXiv:1705.08500); 0 is best."""
    return float(risk_coverage(confidence, correct)[1].mean())


def ece(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al., 2017, arXiv:1706.04599): bins of equal width in 0-1.

    Args:
        confidence: `(N,)` in 0-1.
        correct: bool `(N,)`.
        bins: number of bins.
    """
    confidence, correct = np.asarray(confidence, float), np.asarray(correct, float)
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.abs(np.bincount(at, correct, bins) - np.bincount(at, confidence, bins))
    return float(gaps.sum() / len(correct))


def abstention(abstained: np.ndarray, answerable: np.ndarray, correct: np.ndarray) -> dict[str, float]:
    """Score abstentions, such as "I can't tell", together with answers.

    Args:
        abstained: bool `(N,)`.
        answerable: bool `(N,)`: the image can answer the question.
        correct: bool `(N,)`: the answer is correct; used for answerable questions only.

    Returns:
        `abstains`, the fraction of unanswerable questions with an abstention; `refuses`, that of answerable questions;
        `accuracy`, the fraction of correct answers and correct abstentions among all; `accuracy_when_answering`.
    """
    abstained, answerable, correct = (np.asarray(v, bool) for v in (abstained, answerable, correct))
    answered = answerable & ~abstained
    whole = np.where(answerable, correct & ~abstained, abstained)
    return {
        "accuracy": _fraction(whole, np.ones(len(whole), bool)), "abstains": _fraction(abstained, ~answerable),
        "refuses": _fraction(abstained, answerable), "accuracy_when_answering": _fraction(correct, answered),
    }  # fmt: skip


def _fraction(values: np.ndarray, among: np.ndarray) -> float:
    return float(values[among].mean()) if among.any() else float("nan")
