"""Whether a model knows what it knows: abstention and calibration."""

import numpy as np


def risk_coverage(confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage and risk, float64 `(N,)` each: the error among the most confident k of N, for k = 1 to N.

    Answers of equal confidence are taken together: their share of errors is spread evenly, so that their order in the
    file does not matter.

    Args:
        confidence: `(N,)`, any scale.
        right: bool `(N,)`.
    """
    confidence, wrong = np.asarray(confidence, float), 1.0 - np.asarray(right, float)
    order = np.argsort(-confidence, kind="stable")
    level, wrong = confidence[order], wrong[order]
    _, group = np.unique(-level, return_inverse=True)
    even = np.bincount(group, wrong) / np.bincount(group)
    count = np.arange(1, len(wrong) + 1)
    return count / len(wrong), np.cumsum(even[group]) / count


def aurc(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the area under the risk-coverage curve (Geifman and El-Yaniv, 2017, arXiv:1705.08500); 0 is best."""
    return float(risk_coverage(confidence, right)[1].mean())


def ece(confidence: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al., 2017, arXiv:1706.04599): bins of equal width in 0-1.

    Args:
        confidence: `(N,)` in 0-1.
        right: bool `(N,)`.
        bins: their number.
    """
    confidence, right = np.asarray(confidence, float), np.asarray(right, float)
    at = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.abs(np.bincount(at, right, bins) - np.bincount(at, confidence, bins))
    return float(gaps.sum() / len(right))


def abstention(abstained: np.ndarray, answerable: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """Score answers like "I can't tell" as answers.

    Args:
        abstained: bool `(N,)`.
        answerable: bool `(N,)`: the image can answer the question.
        right: bool `(N,)`, of answerable questions.

    Returns:
        `abstains` on what cannot be answered, `refuses` what can, `accuracy` over everything: right answers and right
        abstentions, and `accuracy_when_answering`.
    """
    abstained, answerable, right = (np.asarray(v, bool) for v in (abstained, answerable, right))
    answered = answerable & ~abstained
    whole = np.where(answerable, right & ~abstained, abstained)
    return {
        "accuracy": _share(whole, np.ones(len(whole), bool)), "abstains": _share(abstained, ~answerable),
        "refuses": _share(abstained, answerable), "accuracy_when_answering": _share(right, answered),
    }  # fmt: skip


def _share(values: np.ndarray, among: np.ndarray) -> float:
    return float(values[among].mean()) if among.any() else float("nan")
