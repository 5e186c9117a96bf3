import subprocess
import sys

import numpy as np
import pytest

from lhrs.metrics.statistics import auroc, bootstrap, paired_difference, wilson


def test_wilson_is_the_textbook_interval():
    low, high = wilson(81, 263)  # Newcombe 1998, table I
    assert low == pytest.approx(0.2553, abs=1e-4) and high == pytest.approx(0.3662, abs=1e-4)


def test_wilson_never_leaves_zero_to_one():
    assert wilson(0, 10)[0] >= 0 and wilson(10, 10)[1] <= 1 and wilson(0, 0) == (0.0, 1.0)


def test_auroc_equals_the_count_of_pairs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 40), rng.integers(2, 9, 30)
    pairs = np.mean([(y > x) + 0.5 * (y == x) for x in a for y in b])
    assert auroc(a, b) == pytest.approx(pairs)


def test_bootstrap_covers_the_mean_and_repeats():
    values = np.arange(100.0)
    low, high = bootstrap(values)
    assert low < values.mean() < high and (low, high) == bootstrap(values)


def test_intervals_and_tests_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    for values in (rng.random(300) < 0.7, rng.normal(size=57), np.ones(9)):
        theirs = stats.bootstrap(
            (values.astype(float),), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        assert bootstrap(values) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    for hits, total in ((81, 263), (0, 10), (10, 10), (1, 2000), (1999, 2000)):  # the formula that was used before
        z, p = 1.959964, hits / total
        center = (p + z * z / (2 * total)) / (1 + z * z / total)
        half = z / (1 + z * z / total) * np.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
        assert wilson(hits, total) == pytest.approx((center - half, center + half), abs=1e-6)


def test_a_small_paired_test_is_exact():
    a, b = np.array([1, 1, 1, 1, 1, 0.0]), np.zeros(6)
    assert paired_difference(a, b)[2] == pytest.approx(2 / 2**5)
    one = paired_difference(np.array([1.0, 0, 0]), np.zeros(3))
    assert one[0] == pytest.approx(1 / 3) and one[2] == 1


def test_scoring_needs_neither_scipy_nor_scikit_learn():
    code = (
        "import sys; sys.modules.update(scipy=None, sklearn=None)\n"
        "from lhrs.metrics.metric import load_metrics\n"
        "from lhrs.metrics.scoring import score_records\n"
        "assert len(load_metrics()) == 9\n"
        "print(score_records([{'prediction': 'yes', 'answer': 'yes'}], 'vqa')['interval'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[1.0, 1.0]\n", done.stderr
