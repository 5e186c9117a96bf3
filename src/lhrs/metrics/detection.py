"""Mean average precision of detectors as PASCAL VOC and DOTA score it; any boxes, given by their corners, in pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lhrs.metrics.overlap import area_under, oriented_corners, polygon_iou_pairs


class Detected(NamedTuple):
    """What was found on one image."""

    corners: np.ndarray
    """float `(K, 4, 2)` xy."""
    scores: np.ndarray
    labels: np.ndarray
    """int `(K,)`, from 0."""


class Objects(NamedTuple):
    """What is on one image."""

    corners: np.ndarray
    """float `(M, 4, 2)` xy."""
    labels: np.ndarray
    difficult: np.ndarray | None = None
    """bool `(M,)`: finding it neither counts nor harms; None: none is."""


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
    found: Sequence[Detected], truth: Sequence[Objects], num_classes: int, threshold: float = 0.5, points: int = 0
) -> Precision:
    """Score detections on images by the rules of VOC's and DOTA's own kits.

    A detection meets the object of its class that it overlaps most, taken or not. It is a hit if they overlap by more
    than the threshold and no better one met it before; if the object is difficult, it does not count.

    Args:
        found: of each image, in any order.
        truth: of each image.
        num_classes: labels are below.
        threshold: overlap that must be exceeded.
        points: 0 is the area under the curve (VOC 2012), 11 the mean at eleven recalls (VOC 2007, DOTA's server).
    """
    scores: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    hits: list[list[np.ndarray]] = [[] for _ in range(num_classes)]
    totals = np.zeros(num_classes, int)
    for one, objects in zip(found, truth, strict=True):
        difficult = np.zeros(len(objects.labels), bool) if objects.difficult is None else objects.difficult
        totals += np.bincount(np.asarray(objects.labels, int)[~difficult], minlength=num_classes)
        for label in np.unique(one.labels):
            mine, theirs = one.labels == label, objects.labels == label
            score, hit = _match(
                one.corners[mine], one.scores[mine], objects.corners[theirs], difficult[theirs], threshold
            )
            scores[label].append(score)
            hits[label].append(hit)
    return Precision(
        np.array([
            area_under(np.concatenate(s or [np.empty(0)]), np.concatenate(h or [np.empty(0, bool)]), total, points)
            for s, h, total in zip(scores, hits, totals.tolist(), strict=True)
        ])
    )  # fmt: skip


def _match(
    corners: np.ndarray, scores: np.ndarray, objects: np.ndarray, difficult: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and bool hits of the detections that count."""
    order = np.argsort(-np.asarray(scores, float), kind="stable")
    overlap = _overlaps(corners[order], objects)
    taken = np.zeros(len(objects), bool)
    counts, hits = np.ones(len(order), bool), np.zeros(len(order), bool)
    for n, row in enumerate(overlap):
        best = int(row.argmax()) if len(row) else -1
        if best < 0 or not row[best] > threshold:
            continue
        counts[n], hits[n] = not difficult[best], not taken[best]
        taken[best] = True
    return np.asarray(scores, float)[order][counts], hits[counts]


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N, M)`; only pairs whose bounds meet are clipped."""
    found = np.zeros((len(a), len(b)))
    low_a, high_a, low_b, high_b = a.min(1), a.max(1), b.min(1), b.max(1)
    meets = ((low_a[:, None] < high_b[None]) & (low_b[None] < high_a[:, None])).all(-1)
    rows, columns = meets.nonzero()
    found[rows, columns] = polygon_iou_pairs(a[rows], b[columns])
    return found


def score_detections(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean average precision at overlaps of 0.5 and 0.75 by VOC 2012's and by VOC 2007's (DOTA's) rule.

    Args:
        records: of an image each: `prediction`, a list of `{"box", "label", "score"}`, and `answer`, a list of `{"box",
            "label"}` with `difficult` where it is. In pixels, a box is xyxy, or cx, cy, width, height, angle in
            radians, or the eight numbers of its corners.

    Raises:
        ValueError: a box has another length. KeyError: something is missing.
    """
    names = sorted({str(one["label"]) for r in records for one in r["answer"]})
    known = {name: n for n, name in enumerate(names)}
    found, truth = [], []
    for record in records:
        # What is of no class of the truth is wrong nowhere: it has no class to be scored in.
        mine = [one for one in record["prediction"] or () if str(one["label"]) in known]
        labels = [np.array([known[str(one["label"])] for one in some], int) for some in (mine, record["answer"])]
        found.append(Detected(_corners(mine), np.array([float(one["score"]) for one in mine]), labels[0]))
        difficult = np.array([bool(one.get("difficult")) for one in record["answer"]], bool)
        truth.append(Objects(_corners(record["answer"]), labels[1], difficult))
    at50, at75, voc07 = (
        mean_average_precision(found, truth, len(names), threshold, points)
        for threshold, points in ((0.5, 0), (0.75, 0), (0.5, 11))
    )
    return {
        "map50": at50.mean, "map75": at75.mean, "map50_voc07": voc07.mean, "n": len(records),
        "by": dict(zip(names, at50.by_class.tolist(), strict=True)),
        "unknown_labels": sum(str(one["label"]) not in known for r in records for one in r["prediction"] or ()),
    }  # fmt: skip


def _corners(objects: Sequence[Mapping[str, Any]]) -> np.ndarray:
    found = np.empty((len(objects), 4, 2))
    for n, one in enumerate(objects):
        box = np.asarray(one["box"], float)
        if len(box) == 4:
            box = box if (box[2:] >= box[:2]).all() else np.tile(box[:2], 2)  # no area, as everywhere
            found[n] = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
        elif len(box) == 5:
            found[n] = oriented_corners(box)[0]
        else:
            found[n] = box.reshape(4, 2)
    return found
