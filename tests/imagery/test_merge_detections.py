"""Objects that several windows see are merged into one; what one window sees alone stays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhrs.boxes import iou
from lhrs.imagery.merge_detections import merge_detections
from lhrs.imagery.windows import make_windows


def seen_in_windows(objects, windows):
    """What a perfect detector boxes: the visible part of each object, truncated at the edges of its window."""
    boxes, numbers, truncated = [], [], []
    for one in windows:
        left, top, width, height = one.window
        edges = np.array([left, top, left + width, top + height], float)
        for x1, y1, x2, y2 in objects:
            part = np.array([max(x1, edges[0]), max(y1, edges[1]), min(x2, edges[2]), min(y2, edges[3])])
            if (part[2:] - part[:2] > 1).all():
                boxes.append(part)
                numbers.append(one.number)
                truncated.append((part == edges) & np.array(one.has_neighbor))
    return np.array(boxes).reshape(-1, 4), np.array(numbers, int), np.array(truncated, bool).reshape(-1, 4)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 999), overlap=st.sampled_from((0, 16, 32)))
def test_separate_objects_are_whole_and_once_wherever_seams_are(seed, overlap):
    rng = np.random.default_rng(seed)
    cells = [(x, y) for x in range(5, 280, 70) for y in range(5, 210, 70)]
    objects = np.array([[x, y, x + rng.integers(8, 60), y + rng.integers(8, 60)] for x, y in cells], float)
    boxes, numbers, truncated = seen_in_windows(objects, make_windows(300, 230, 64, overlap))
    order = rng.permutation(len(boxes))
    scores = rng.uniform(0.1, 1, len(boxes))
    labels = np.zeros(len(boxes), int)
    merged = merge_detections(
        boxes[order], scores[order], labels, numbers[order], "join_cut", truncated=truncated[order]
    )
    overlaps = iou(objects, merged.boxes)
    assert len(merged.boxes) <= 2 * len(objects)
    assert (overlaps.max(1) > 0.5).mean() > 0.9


def test_halves_are_joined_and_labels_do_not_meet():
    boxes = np.array([[50.0, 10, 64, 30], [64, 10, 80, 30], [64, 10, 80, 30]])
    truncated = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [1, 0, 0, 0]], bool)
    scores, windows = np.array([0.5, 0.9, 0.7]), np.array([0, 1, 1])
    merged = merge_detections(boxes, scores, np.array([0, 0, 1]), windows, "join_cut", truncated=truncated)
    assert merged.boxes.tolist() == [[50, 10, 80, 30], [64, 10, 80, 30]]
    assert merged.scores.tolist() == [0.9, 0.7] and merged.labels.tolist() == [0, 1]
    assert merged.truncated.tolist() == [[False] * 4, [True, False, False, False]]


def test_suppression_is_that_of_the_boxes():
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]])
    best_first = lambda boxes, scores, labels: np.argsort(-scores)[:2]  # noqa: E731
    merged = merge_detections(
        boxes, np.array([0.2, 0.9, 0.5]), np.zeros(3, int), np.arange(3), "nms", suppress=best_first
    )
    assert merged.scores.tolist() == [0.9, 0.5] and merged.windows.tolist() == [1, 2]
    with pytest.raises(ValueError, match="needs a suppression"):
        merge_detections(boxes, np.zeros(3), np.zeros(3, int), np.arange(3), "nms")


def test_nothing_stays_nothing():
    none = np.zeros((0, 4))
    merged = merge_detections(none, np.zeros(0), np.zeros(0, int), np.zeros(0, int), "join_cut", truncated=none > 0)
    assert merged.boxes.shape == (0, 4)
