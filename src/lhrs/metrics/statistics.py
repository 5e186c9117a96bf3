"""Small statistics for score tables: confidence intervals and AUROC; numpy only."""

import numpy as np


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a proportion."""
    if not total:
        return 0.0, 1.0
    z, p = 1.959964, hits / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return float(centre - half), float(centre + half)


def bootstrap(values: np.ndarray, seed: int = 0, rounds: int = 2000) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean."""
    values = np.asarray(values, float)
    rng, means = np.random.default_rng(seed), np.empty(rounds)
    some = max(1, 4_000_000 // len(values))  # not all rounds at once: memory
    for start in range(0, rounds, some):
        picks = rng.integers(len(values), size=(min(some, rounds - start), len(values)))
        means[start : start + some] = values[picks].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def auroc(negatives: np.ndarray, positives: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative; ties count half."""
    values = np.concatenate([negatives, positives])
    order = values.argsort(kind="stable")
    ranks = np.empty(len(values))
    ranks[order] = np.arange(1, len(values) + 1)
    for value in np.unique(values):
        same = values == value
        ranks[same] = ranks[same].mean()
    above = ranks[len(negatives) :].sum() - len(positives) * (len(positives) + 1) / 2
    return float(above / (len(negatives) * len(positives)))


def paired_difference(
    a: np.ndarray, b: np.ndarray, seed: int = 0, rounds: int = 10_000
) -> tuple[float, tuple[float, float], float]:
    """Return how much better the first of two models is on the same samples: mean, 95 % interval, two-sided p.

    The interval is a paired bootstrap's; p is that of a permutation test, which turns signs of differences.

    Args:
        a: `(N,)` scores of one model, sample by sample.
        b: `(N,)` of the other.
        seed: of both.
        rounds: of both.
    """
    difference = np.asarray(a, float) - np.asarray(b, float)
    mean = float(difference.mean())
    told = difference[difference != 0]  # samples on which they agree turn into themselves
    if not len(told):
        return mean, bootstrap(difference, seed), 1.0
    rng, as_far, done = np.random.default_rng(seed), 0, 0
    while done < rounds:
        some = min(rounds - done, max(1, 4_000_000 // len(told)))
        sums = (rng.choice(np.array([-1.0, 1.0]), (some, len(told))) * told).sum(1)
        as_far += int((np.abs(sums) >= abs(told.sum()) - 1e-9).sum())
        done += some
    return mean, bootstrap(difference, seed), (as_far + 1) / (rounds + 1)
