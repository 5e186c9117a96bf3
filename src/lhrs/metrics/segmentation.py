"""Scores of semantic segmentation and change detection from one confusion matrix pooled over all images.

A mean over images or batches differs. The mean published for CDD has its own name here.
"""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

IGNORE = 255


class SegmentationScores(TypedDict):
    """Scores in 0-1. Classes that neither occur nor are predicted are NaN and are excluded from means."""

    miou: float
    mf1: float
    oa: float
    """Fraction of correct pixels (overall accuracy)."""
    iou: list[float]
    f1: list[float]


class ChangeScores(TypedDict):
    """Scores of the class `change`, pooled over all pixels; 0 if the denominator is 0."""

    precision: float
    recall: float
    f1: float
    iou: float
    oa: float


def confusion_matrix(truth: np.ndarray, guess: np.ndarray, num_classes: int, ignore: int = IGNORE) -> np.ndarray:
    """Return int64 `(num_classes, num_classes)`, rows are true classes. Sum it over images.

    Args:
        truth: class indices of any shape.
        guess: predicted class indices of the same shape.
        num_classes: number of classes.
        ignore: true pixels with this index are ignored.
    """
    counted = truth != ignore
    both = truth[counted].astype(np.int64) * num_classes + guess[counted]
    return np.bincount(both, minlength=num_classes**2).reshape(num_classes, num_classes)


def segmentation_scores(confusion: np.ndarray) -> SegmentationScores:
    """Return mIoU, mean F1, overall accuracy, and IoU and F1 of each class, of a pooled confusion matrix."""
    hit, true, guessed = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        iou, f1 = hit / (true + guessed - hit), 2 * hit / (true + guessed)
    is_present = ~np.isnan(iou)
    total = confusion.sum()
    return {
        "miou": float(iou[is_present].mean()) if is_present.any() else float("nan"),
        "mf1": float(f1[is_present].mean()) if is_present.any() else float("nan"),
        "oa": float(hit.sum() / total) if total else float("nan"),
        "iou": iou.tolist(),
        "f1": f1.tolist(),
    }


def mean_iou(confusion: np.ndarray) -> float:
    """Return the mean intersection over union of the classes that occur or are predicted."""
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
    """Return the mean over batches of the F1 of class 1, published as mF1 for CDD, from one matrix per image.

    It depends on the order and size of batches. A batch without change counts 0. Report the F1 of `change_scores`.
    """
    sums = [np.sum(confusions[at : at + batch_size], axis=0) for at in range(0, len(confusions), batch_size)]
    return float(np.mean([change_scores(confusion)["f1"] for confusion in sums]))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0
