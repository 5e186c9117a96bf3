"""Confidence intervals, paired tests and AUROC for score tables.

`bootstrap` needs numpy only, as `lhrs score` belongs to the base install. The others use scipy and scikit-learn.
"""

from typing import Any

import numpy as np

from lhrs.errors import MissingExtraError


def bootstrap(values: np.ndarray, seed: int = 0, rounds: int = 2000) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean, as `scipy.stats.bootstrap` computes it."""
    values = np.asarray(values, float)
    rng, means = np.random.default_rng(seed), np.empty(rounds)
    batch = max(1, 4_000_000 // len(values))  # limits memory
    for start in range(0, rounds, batch):
        picks = rng.integers(len(values), size=(min(batch, rounds - start), len(values)))
        means[start : start + batch] = values[picks].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a proportion.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    if not total:
        return 0.0, 1.0
    interval = _scipy_stats().binomtest(int(hits), int(total)).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def auroc(negatives: np.ndarray, positives: np.ndarray) -> float:
    """Return the area under the ROC curve: the probability that a positive scores higher; ties count half.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError:
        raise MissingExtraError("AUROC needs scikit-learn: pip install 'lhrs[eval]'") from None
    labels = np.repeat([0, 1], [len(negatives), len(positives)])
    return float(roc_auc_score(labels, np.concatenate([negatives, positives])))


def paired_difference(
    a: np.ndarray, b: np.ndarray, seed: int = 0, rounds: int = 10_000
) -> tuple[float, tuple[float, float], float]:
    """Return how much better the first of two models is on the same samples: mean, 95 % interval, two-sided p.

    The interval is a paired bootstrap's. p is that of a permutation test, which flips the signs of differences; it is
    exact if there are at most `rounds` sign flips.

    Args:
        a: `(N,)` scores of one model, sample by sample.
        b: `(N,)` scores of the other model.
        seed: of both.
        rounds: resamples of the permutation test.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    mean, interval = float(difference.mean()), bootstrap(difference, seed)
    nonzero = difference[difference != 0]  # zeros do not change when their signs are flipped
    if len(nonzero) < 2:  # of one difference, both signs are equally extreme
        return mean, interval, 1.0
    test = _scipy_stats().permutation_test(
        (nonzero,), np.sum, permutation_type="samples", vectorized=True, n_resamples=rounds,
        batch=max(1, 4_000_000 // len(nonzero)), rng=np.random.default_rng(seed),
    )  # fmt: skip
    return mean, interval, float(test.pvalue)


def _scipy_stats() -> Any:
    try:
        from scipy import stats
    except ImportError:
        raise MissingExtraError("intervals and tests need scipy: pip install 'lhrs[eval]'") from None
    return stats
