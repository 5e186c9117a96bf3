"""Scores per pixel against torchmetrics and by hand; the published batch mean beside the pooled F1."""

import numpy as np
import pytest

from lhrs.metrics.segmentation import (
    batch_mean_f1_of,
    change_scores,
    confusion_matrix,
    mean_iou,
    segmentation_scores,
)


def test_pooled_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 4, (3, 50, 40)), rng.integers(0, 4, (3, 50, 40))
    truth[:, :5] = 255
    pooled = sum(confusion_matrix(t, g, 5) for t, g in zip(truth, guess, strict=True))
    found = segmentation_scores(pooled)
    pair = truth[truth != 255], guess[truth != 255]
    assert found["miou"] == pytest.approx(metrics.jaccard_score(*pair, average="macro"))
    assert found["mf1"] == pytest.approx(metrics.f1_score(*pair, average="macro"))
    assert found["oa"] == pytest.approx(metrics.accuracy_score(*pair))
    assert np.isnan(found["iou"][4]) and mean_iou(pooled) == found["miou"]  # class 4 occurs nowhere


def test_rows_are_true_and_ignored_pixels_count_nowhere():
    confusion = confusion_matrix(np.array([0, 0, 1, 255]), np.array([0, 1, 1, 0]), 2)
    assert confusion.tolist() == [[1, 1], [0, 1]]
    assert change_scores(confusion) == pytest.approx(
        {"precision": 1 / 2, "recall": 1, "f1": 2 / 3, "iou": 1 / 2, "oa": 2 / 3}
    )
    empty = change_scores(np.zeros((2, 2), np.int64))
    assert empty["f1"] == empty["iou"] == 0 and np.isnan(segmentation_scores(np.zeros((2, 2)))["miou"])


def test_the_published_mean_over_batches_is_another_number():
    truths = [np.array([1, 1, 0, 0])] * 8 + [np.array([0, 0, 0, 0])] * 2
    guesses = [np.array([1, 0, 0, 0])] * 8 + [np.array([0, 0, 0, 0])] * 2
    # Batches of eight: F1 2/3 in the first; none of change in the last, which is right everywhere and counts 0.
    matrices = [confusion_matrix(t, g, 2) for t, g in zip(truths, guesses, strict=True)]
    assert batch_mean_f1_of(matrices) == pytest.approx((2 / 3 + 0) / 2)
    pooled = sum(confusion_matrix(t, g, 2) for t, g in zip(truths, guesses, strict=True))
    assert change_scores(pooled)["f1"] == pytest.approx(2 / 3)
