"""Overlap of boxes, oriented boxes and masks, and what is scored with it; all in pixels of the image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lhrs.boxes import iou as iou_matrix


def iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)`, intersection over union of the n-th xyxy boxes of `(N, 4)` and `(N, 4)`.

    Boxes with x2 < x1 or y2 < y1 have no area, and overlap with nothing; so do boxes that are not finite.
    """
    a, b = np.asarray(a, float).reshape(-1, 4), np.asarray(b, float).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        sides = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0)
        inter = sides[:, 0] * sides[:, 1]
        areas = [(c[:, 2] - c[:, 0]).clip(min=0) * (c[:, 3] - c[:, 1]).clip(min=0) for c in (a, b)]
        union = areas[0] + areas[1] - inter
        found = np.divide(inter, union, out=np.zeros(len(a)), where=union > 0)
    return np.where(np.isfinite(found), found, 0.0)


def oriented_corners(boxes: np.ndarray) -> np.ndarray:
    """Return `(N, 4, 2)` corners of `(N, 5)` boxes cx, cy, width, height, angle in radians, x turning towards y."""
    boxes = np.asarray(boxes, float).reshape(-1, 5)
    half = boxes[:, None, 2:4] / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    cos, sin = np.cos(boxes[:, 4, None]), np.sin(boxes[:, 4, None])
    turned = np.stack([half[..., 0] * cos - half[..., 1] * sin, half[..., 0] * sin + half[..., 1] * cos], -1)
    return boxes[:, None, :2] + turned


def polygon_iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)` of the n-th quadrangles of `(N, 4, 2)` and `(N, 4, 2)`; crossed ones are made whole."""
    import shapely

    shapes = [shapely.polygons(np.asarray(c, float)) for c in (a, b)]
    shapes = [np.where(shapely.is_valid(s), s, shapely.make_valid(s)) for s in shapes]
    inter = shapely.area(shapely.intersection(*shapes))
    union = shapely.area(shapes[0]) + shapely.area(shapes[1]) - inter
    return np.divide(inter, union, out=np.zeros(len(inter)), where=union > 0)


def oriented_iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)` of the n-th of `(N, 5)` and `(N, 5)` oriented boxes; see `oriented_corners`."""
    return polygon_iou_pairs(oriented_corners(a), oriented_corners(b))


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the overlap of two bool masks `(H, W)`; 0 for two empty ones."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


@dataclass(frozen=True)
class Grounding:
    """How well expressions were found."""

    iou: np.ndarray
    """float64 `(N,)`, one per expression; 0 where no box was given."""
    given: np.ndarray
    """bool `(N,)`: a box was given."""

    def accuracy(self, threshold: float = 0.5) -> float:
        """Share of all expressions whose box overlaps by at least the threshold."""
        return float((self.iou >= threshold).mean()) if len(self.iou) else float("nan")

    def summary(self) -> dict[str, float | int]:
        """Return everything as plain numbers."""
        return {
            "accuracy": self.accuracy(), "acc@0.5": self.accuracy(), "acc@0.75": self.accuracy(0.75),
            "mean_iou": float(self.iou.mean()) if len(self.iou) else float("nan"), "n": len(self.iou),
            "unparseable": float(1 - self.given.mean()) if len(self.given) else float("nan"),
        }  # fmt: skip


def ground(predictions: Sequence[np.ndarray | None], answers: np.ndarray) -> Grounding:
    """Score one box per expression. Every expression counts: an answer without a box has IoU 0, and of several only
    the first is taken, so that guessing often does not help.

    Args:
        predictions: `(K, 4)` xyxy pixels of each answer; None or K = 0 where it held no box.
        answers: `(N, 4)` true boxes, xyxy pixels of the same image.
    """
    first = np.zeros((len(predictions), 4))
    given = np.zeros(len(predictions), bool)
    for n, boxes in enumerate(predictions):
        if boxes is not None and np.size(boxes):
            first[n], given[n] = np.asarray(boxes, float).reshape(-1, 4)[0], True
    return Grounding(iou_pairs(first, answers) * given, given)


def average_precision(
    predictions: Sequence[tuple[np.ndarray, np.ndarray]],
    answers: Sequence[np.ndarray],
    threshold: float = 0.5,
    points: int = 101,
) -> float:
    """Return the average precision of one class over images: COCO's, precision at `points` recalls, made monotonic.

    Args:
        predictions: boxes `(K, 4)` and scores `(K,)` of each image.
        answers: true boxes `(M, 4)` of each image.
        threshold: least overlap of a hit; each true box is hit once, by the best-scored prediction that can.
        points: recalls that are looked at; 11 is VOC 2007's, 0 is the area under the curve (VOC 2010 and later).
    """
    total = sum(len(a) for a in answers)
    scores, hits = [], []
    for (boxes, confidence), truth in zip(predictions, answers, strict=True):
        order = np.argsort(-np.asarray(confidence, float), kind="stable")
        overlap = iou_matrix(np.asarray(boxes, float).reshape(-1, 4)[order], truth)
        free = np.ones(len(truth), bool)
        for row, score in zip(overlap, np.asarray(confidence, float)[order], strict=True):
            able = np.flatnonzero(free & (row >= min(threshold, 1 - 1e-10)))
            hits.append(bool(len(able)))
            scores.append(score)
            if len(able):
                free[able[np.argmax(row[able])]] = False
    return area_under(np.array(scores), np.array(hits, bool), total, points)


def area_under(scores: np.ndarray, hits: np.ndarray, total: int, points: int) -> float:
    """Return average precision from `(K,)` scores and whether each was a hit; NaN without any object.

    Args:
        total: objects that could be hit.
        points: see `average_precision`.
    """
    if not total:
        return float("nan")
    if not len(scores):
        return 0.0
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(hits[order])
    recall, precision = true / total, true / np.arange(1, len(true) + 1)
    ceiling = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        at = np.searchsorted(recall, np.linspace(0, 1, points), side="left")
        return float(np.where(at < len(ceiling), ceiling[np.minimum(at, len(ceiling) - 1)], 0.0).mean())
    steps = np.diff(np.concatenate([[0.0], recall]))
    return float((steps * ceiling).sum())
