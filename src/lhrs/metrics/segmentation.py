"""Scores of classes per pixel, and of change: everything from one confusion matrix pooled over all images.

A mean over images or batches is another number; the one that was published for CDD has its own name here.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

IGNORE = 255


class SegmentationScores(TypedDict):
    """Shares of 1. Classes that neither occur nor are guessed have no score (NaN) and are in no mean."""

    miou: float
    mf1: float
    oa: float
    """Fraction of correct pixels (overall accuracy)."""
    iou: list[float]
    f1: list[float]


class ChangeScores(TypedDict):
    """Of the class `change`, pooled over all pixels; 0 where there is nothing to divide by."""

    precision: float
    recall: float
    f1: float
    iou: float
    oa: float


def confusion_matrix(truth: np.ndarray, guess: np.ndarray, num_classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Return int64 `(num_classes, num_classes)`, rows are true; add them up over images.

    Args:
        truth: numbers of any shape.
        guess: of the same shape.
        num_classes: numbers are below.
        ignore: true pixels of this number count nowhere.
    """
    counted = truth != ignore
    both = truth[counted].astype(np.int64) * num_classes + guess[counted]
    return np.bincount(both, minlength=num_classes**2).reshape(num_classes, num_classes)


def segmentation_scores(confusion: np.ndarray) -> SegmentationScores:
    """Return mIoU, mean F1, overall accuracy, and IoU and F1 of each class, of a pooled confusion matrix."""
    hit, true, guessed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        iou, f1 = hit / (true + guessed - hit), 2 * hit / (true + guessed)
    found = ~np.isnan(iou)
    total = confusion.sum()
    return {
        "miou": float(iou[found].mean()) if found.any() else float("nan"),
        "mf1": float(f1[found].mean()) if found.any() else float("nan"),
        "oa": float(hit.sum() / total) if total else float("nan"),
        "iou": iou.tolist(),
        "f1": f1.tolist(),
    }


def mean_iou(confusion: np.ndarray) -> float:
    """Return the mean intersection over union of the classes that occur or are guessed."""
    return segmentation_scores(confusion)["miou"]


def change_scores(confusion: np.ndarray) -> ChangeScores:
    """Return precision, recall, F1 and IoU of class 1, and accuracy, of a pooled confusion matrix `(2, 2)`."""
    hit, wrong, missed = (float(confusion[at]) for at in ((1, 1), (0, 1), (1, 0)))
    return {
        "precision": _share(hit, hit + wrong),
        "recall": _share(hit, hit + missed),
        "f1": _share(2 * hit, 2 * hit + wrong + missed),
        "iou": _share(hit, hit + wrong + missed),
        "oa": _share(float(np.trace(confusion)), float(confusion.sum())),
    }


def batch_mean_f1_of(confusions: Sequence[np.ndarray], batch_size: int = 8) -> float:
    """Return the mean over batches of the F1 of class 1, published for CDD as mF1, of the images' confusion matrices.

    It depends on order and size of batches, and a batch without change counts 0. `change_scores` is the F1 to report.
    """
    sums = [np.sum(confusions[at : at + batch_size], axis=0) for at in range(0, len(confusions), batch_size)]
    return float(np.mean([change_scores(confusion)["f1"] for confusion in sums]))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
