"""Object detection: average precision as PASCAL VOC, DOTA and COCO define it, for boxes given by their corners."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lhrs.boxes import iou as iou_matrix
from lhrs.boxes import polygon_iou
from lhrs.metrics.iou import oriented_corners
from lhrs.metrics.metric import Metric, Record


class Detections(NamedTuple):
    """Detections on one image."""

    corners: np.ndarray
    """float `(K, 4, 2)` xy."""
    scores: np.ndarray
    labels: np.ndarray
    """int `(K,)`, from 0."""


class GroundTruth(NamedTuple):
    """Objects on one image."""

    corners: np.ndarray
    """float `(M, 4, 2)` xy."""
    labels: np.ndarray
    difficult: np.ndarray | None = None
    """bool `(M,)`: detections of difficult objects do not count; None: no object is difficult."""


class Detection(Metric):
    """Mean average precision of detected objects."""

    name = "detection"
    main_score = "map50"

    def compute(self, records: Sequence[Record], box_format: str) -> dict[str, Any]:
        return score_detections(records)

    def compute_per_sample(self, records: Sequence[Record]) -> np.ndarray:
        scores = np.array([score_detections([record])["map50"] for record in records], float)
        empty = np.array([not record["prediction"] for record in records], float)
        return np.where(np.isnan(scores), empty, scores)  # without objects, no detection is correct


@dataclass(frozen=True)
class Precision:
    """Average precision of each class."""

    by_class: np.ndarray
    """float64 `(num_classes,)`; NaN where there is no object that counts."""

    @property
    def mean(self) -> float:
        """Over the classes that have objects."""
        known = self.by_class[~np.isnan(self.by_class)]
        return float(known.mean()) if len(known) else float("nan")


def mean_average_precision(
    detections: Sequence[Detections],
    truth: Sequence[GroundTruth],
    num_classes: int,
    threshold: float = 0.5,
    points: int = 0,
) -> Precision:
    """Score detections by the rules of the VOC and DOTA development kits.

    A detection is matched to the object of its class that it overlaps most, matched before or not. It is a true
    positive if their IoU exceeds the threshold and no detection with a higher score was matched to that object. If the
    object is difficult, the detection does not count.

    Args:
        found: detections of each image, in any order.
        truth: objects of each image.
        num_classes: number of classes.
        threshold: IoU that must be exceeded.
        points: 0 is the area under the curve (VOC 2012), 11 the mean at eleven recalls (VOC 2007, DOTA's server).
    """
    scores: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    hits: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    totals = np.zeros(num_classes, int)
    for image_detections, objects in zip(detections, truth, strict=True):
        difficult = np.zeros(len(objects.labels), bool) if objects.difficult is None else objects.difficult
        totals += np.bincount(np.asarray(objects.labels, int)[~difficult], minlength=num_classes)
        for label in np.unique(image_detections.labels):
            mine, theirs = image_detections.labels == label, objects.labels == label
            score, hit = _match(
                image_detections.corners[mine],
                image_detections.scores[mine],
                objects.corners[theirs],
                difficult[theirs],
                threshold,
            )
            scores[label].append(score)
            hits[label].append(hit)
    rows = zip(scores, hits, totals.tolist(), strict=True)
    precisions = [
        average_precision_from_scores(
            np.concatenate(score or [np.empty(0)]), np.concatenate(hit or [np.empty(0, bool)]), total, points
        )
        for score, hit, total in rows
    ]
    return Precision(np.array(precisions))


def _match(
    corners: np.ndarray, scores: np.ndarray, objects: np.ndarray, difficult: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and bool hits of the detections that count."""
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    overlap = polygon_iou(corners[order], objects)
    is_matched = np.zeros(len(objects), bool)
    counts, hits = np.ones(len(order), bool), np.zeros(len(order), bool)
    for n, row in enumerate(overlap):
        best = int(row.argmax()) if len(row) else -1
        if best < 0 or not row[best] > threshold:
            continue
        counts[n], hits[n] = not difficult[best], not is_matched[best]
        is_matched[best] = True
    return np.asarray(scores, float)[order][counts], hits[counts]


def score_detections(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean average precision at overlaps of 0.5 and 0.75 by VOC 2012's and by VOC 2007's (DOTA's) rule.

    Args:
        records: one per image, with `prediction`, a list of `{"box", "label", "score"}`, and `answer`, a list of
            `{"box", "label"}` and `difficult` where it applies. A box is in pixels: xyxy, or cx, cy, width, height,
            angle in radians, or the eight numbers of its corners.

    Raises:
        ValueError: a box has another length. KeyError: something is missing.
    """
    names = sorted({str(obj["label"]) for r in records for obj in r["answer"]})
    index_of = {name: n for n, name in enumerate(names)}
    detections_of, truth = [], []
    for record in records:
        # Predictions of unknown classes do not count: no class scores them.
        detections = [obj for obj in record["prediction"] or () if str(obj["label"]) in index_of]
        labels = [
            np.array([index_of[str(obj["label"])] for obj in some], int) for some in (detections, record["answer"])
        ]
        detections_of.append(
            Detections(_corners(detections), np.array([float(obj["score"]) for obj in detections]), labels[0])
        )
        difficult = np.array([bool(obj.get("difficult")) for obj in record["answer"]], bool)
        truth.append(GroundTruth(_corners(record["answer"]), labels[1], difficult))
    at50, at75, voc07 = (
        mean_average_precision(detections_of, truth, len(names), threshold, points)
        for threshold, points in ((0.5, 0), (0.75, 0), (0.5, 11))
    )
    return {
        "map50": at50.mean, "map75": at75.mean, "map50_voc07": voc07.mean, "n": len(records),
        "by_type": dict(zip(names, at50.by_class.tolist(), strict=True)),
        "unknown_labels": sum(str(obj["label"]) not in index_of for r in records for obj in r["prediction"] or ()),
    }  # fmt: skip


def _corners(objects: Sequence[Mapping[str, Any]]) -> np.ndarray:
    corners = np.empty((len(objects), 4, 2))
    for n, obj in enumerate(objects):
        box = np.asarray(obj["box"], float)
        if len(box) == 4:
            box = box if (box[2:] >= box[:2]).all() else np.tile(box[:2], 2)  # an inverted box has no area
            corners[n] = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
        elif len(box) == 5:
            corners[n] = oriented_corners(box)[0]
        else:
            corners[n] = box.reshape(4, 2)
    return corners


def average_precision(
    predictions: Sequence[tuple[np.ndarray, np.ndarray]],
    answers: Sequence[np.ndarray],
    threshold: float = 0.5,
    points: int = 101,
) -> float:
    """Return COCO's average precision of one class over images: monotonic precision at `points` recall levels.

    Args:
        predictions: boxes `(K, 4)` and scores `(K,)` of each image.
        answers: true boxes `(M, 4)` of each image.
        threshold: minimum IoU of a true positive. Each true box is matched once, by the highest-scored prediction.
        points: number of recall levels; 11 is VOC 2007's, 0 is the area under the curve (VOC 2010 and later).
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
    return average_precision_from_scores(np.array(scores), np.array(hits, bool), total, points)


def average_precision_from_scores(scores: np.ndarray, hits: np.ndarray, total: int, points: int) -> float:
    """Return average precision from `(K,)` scores and true positives; NaN without any object.

    Args:
        scores: confidence of each detection.
        hits: bool, whether each detection is a true positive.
        total: number of objects.
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
