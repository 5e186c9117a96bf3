"""Mean average precision of oriented boxes, by hand and beside plain loops after the published rules."""

import numpy as np
import pytest
import shapely

from lhrs.metrics.detection import Detections, GroundTruth, average_precision, mean_average_precision
from lhrs.metrics.iou import oriented_corners


def square(x, y=0.0, side=10.0):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side]]


def objects(*corners, labels=None, difficult=None):
    return GroundTruth(
        np.array(corners, float).reshape(-1, 4, 2), np.array(labels or [0] * len(corners), int),
        None if difficult is None else np.array(difficult, bool),
    )  # fmt: skip


def detected(*rows, labels=None):
    return Detections(
        np.array([r[0] for r in rows], float).reshape(-1, 4, 2), np.array([r[1] for r in rows], float),
        np.array(labels or [0] * len(rows), int),
    )  # fmt: skip


def test_by_hand():
    """Hit, miss, hit of three objects: precision 1 up to recall 1/3, then 2/3 up to 2/3."""
    truth = [objects(square(0), square(100)), objects(square(0))]
    found = [detected((square(100), 0.7), (square(1), 0.9)), detected((square(50), 0.8))]
    assert mean_average_precision(found, truth, 1).mean == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    # recalls 0 to 0.3 see precision 1, 0.4 to 0.6 see 2/3, the other four nothing
    assert mean_average_precision(found, truth, 1, points=11).mean == pytest.approx((4 + 3 * 2 / 3) / 11)
    assert mean_average_precision(found, truth, 1, threshold=0.9).mean == pytest.approx(1 / 3 * 1 / 3)


def test_difficult_objects_neither_count_nor_harm():
    truth = [objects(square(0), square(100), difficult=[False, True])]
    assert mean_average_precision([detected((square(100), 0.9), (square(0), 0.8))], truth, 1).mean == 1
    twice = [detected((square(100), 0.9), (square(100), 0.85), (square(0), 0.8))]
    assert mean_average_precision(twice, truth, 1).mean == 1
    assert np.isnan(mean_average_precision(twice, [objects(square(100), difficult=[True])], 1).mean)


def test_each_object_is_hit_once_and_by_the_best():
    truth = [objects(square(0), square(4))]
    twice = [detected((square(0), 0.9), (square(0.5), 0.8))]
    assert mean_average_precision(twice, truth, 1).mean == pytest.approx(0.5)
    # VOC: the second meets the object it overlaps most, which is taken, though it overlaps the other enough too
    between = [detected((square(0), 0.9), (square(1.9), 0.8))]
    assert mean_average_precision(between, truth, 1, threshold=0.3).mean == pytest.approx(0.5)


def test_a_hit_must_exceed_the_threshold_and_classes_do_not_mix():
    half = [detected((square(0, side=10), 0.9))]
    tall = [objects([[0, 0], [10, 0], [10, 20], [0, 20]])]
    assert mean_average_precision(half, tall, 1, threshold=0.5).mean == 0
    assert mean_average_precision(half, tall, 1, threshold=0.4999).mean == 1
    mixed = mean_average_precision([detected((square(0), 0.9), labels=[1])], [objects(square(0), labels=[0])], 3)
    assert mixed.by_class[0] == 0 and np.isnan(mixed.by_class[1:]).all() and mixed.mean == 0
    nothing = mean_average_precision([detected()], [objects(square(0))], 1)
    assert nothing.mean == 0
    broken = [detected((square(np.nan), 0.9), (square(0), 0.8))]
    assert mean_average_precision(broken, [objects(square(0))], 1).mean == pytest.approx(0.5)


@pytest.mark.parametrize("points", [0, 11])
def test_agrees_with_plain_loops(points):
    rng = np.random.default_rng(points)
    truth, found = [], []
    for _ in range(12):
        count = int(rng.integers(0, 9))
        boxes = rng.uniform([0, 0, 4, 4, -2], [60, 60, 30, 30, 2], (count, 5))
        if count > 2:
            boxes[0, 3] = 0  # without area
            boxes[1] = boxes[2]  # twice the same
        guesses = np.concatenate([boxes, boxes[:3], rng.uniform(1, 40, (3, 5))])
        guesses[:, :5] += rng.normal(0, 1, guesses.shape) * [2, 2, 1, 1, 0.1]
        guesses[:, 2:4] = np.abs(guesses[:, 2:4])
        labels = rng.integers(0, 2, count)
        truth.append(GroundTruth(oriented_corners(boxes), labels, rng.random(count) < 0.25))
        guessed = np.concatenate([labels, labels[:3], rng.integers(0, 2, 3)])
        found.append(Detections(oriented_corners(guesses), rng.permutation(len(guesses)) / 97 + rng.random(), guessed))
    mine = mean_average_precision(found, truth, 2, points=points)
    np.testing.assert_allclose(mine.by_class, [plain(found, truth, c, points) for c in range(2)], atol=1e-4)
    assert 0.1 < mine.mean < 0.9


def plain(found, truth, label, points):
    """All detections of a class in one list, each compared with every object of its image."""
    rows = sorted(
        (-f.scores[k], i, k) for i, f in enumerate(found) for k in range(len(f.labels)) if f.labels[k] == label
    )  # fmt: skip
    total = sum(int(((t.labels == label) & ~t.difficult).sum()) for t in truth)
    met, true, false, curve = set(), 0, 0, []
    for _, i, k in rows:
        overlaps = [
            (_iou(found[i].corners[k], truth[i].corners[m]), -m) for m in range(len(truth[i].labels))
            if truth[i].labels[m] == label
        ]  # fmt: skip
        overlap, m = max(overlaps, default=(0, 0))
        if overlap > 0.5 and truth[i].difficult[-m]:
            continue
        if overlap > 0.5 and (i, m) not in met:
            met.add((i, m))
            true += 1
        else:
            false += 1
        curve.append((true / total, true / (true + false)))
    if points:
        return sum(max((p for r, p in curve if r >= at), default=0) for at in np.linspace(0, 1, 11)) / 11
    area, before = 0.0, 0.0
    for n, (recall, _) in enumerate(curve):
        area += (recall - before) * max(p for _, p in curve[n:])
        before = recall
    return area


def _iou(a, b):
    one, two = shapely.Polygon(a).buffer(0), shapely.Polygon(b).buffer(0)
    union = one.union(two).area
    return one.intersection(two).area / union if union else 0


def test_straight_boxes_apart_agree_with_the_scorer_of_boxes():
    """Where no two objects compete for a detection, VOC's rule and COCO's are the same."""
    rng = np.random.default_rng(4)
    truth, found = [], []
    for _ in range(10):
        low = np.stack([np.arange(5) * 100.0, np.zeros(5)], 1)
        boxes = np.concatenate([low, low + rng.uniform(20, 40, (5, 2))], 1)
        guesses = boxes + rng.normal(0, 4, boxes.shape)
        truth.append(boxes)
        found.append((guesses, rng.random(5)))
    turn = lambda b: np.stack([b[:, [0, 1]], b[:, [2, 1]], b[:, [2, 3]], b[:, [0, 3]]], 1)  # noqa: E731
    zero = np.zeros(5, int)
    mine = mean_average_precision(
        [Detections(turn(b), s, zero) for b, s in found], [GroundTruth(turn(b), zero) for b in truth], 1, points=11
    )
    assert mine.mean == pytest.approx(average_precision(found, truth, 0.5, points=11))
