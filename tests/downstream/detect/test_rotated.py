"""Oriented boxes agree with shapely, torchvision and what can be counted, on random and on odd boxes."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou, nms

from lhrs.boxes import polygon_iou_pairs
from lhrs.downstream.detect.rotated_boxes import (
    hbb_to_obb,
    min_area_rect,
    obb_to_corners,
    obb_to_hbb,
    rotated_iou,
    rotated_nms,
    to_le90,
    wrap,
)
from lhrs.metrics.iou import oriented_corners


def random_boxes(count, seed, size=60.0):
    rng = np.random.default_rng(seed)
    sides = np.exp(rng.uniform(-3, 5, (count, 2)))
    return torch.tensor(np.concatenate([rng.uniform(0, size, (count, 2)), sides, rng.uniform(-9, 9, (count, 1))], 1))


def every_pair(a, b):
    """The scorer's overlap, which is shapely's."""
    first, second = np.repeat(a.numpy(), len(b), 0), np.tile(b.numpy(), (len(a), 1))
    return polygon_iou_pairs(*map(oriented_corners, (first, second))).reshape(len(a), len(b))


def test_le90_names_the_same_rectangle():
    boxes = random_boxes(500, 0)
    normal = to_le90(boxes)
    assert (normal[:, 2] >= normal[:, 3]).all()
    assert (normal[:, 4] >= -math.pi / 2).all() and (normal[:, 4] < math.pi / 2).all()
    torch.testing.assert_close(obb_to_hbb(normal), obb_to_hbb(boxes), atol=1e-9, rtol=0)
    np.testing.assert_allclose(obb_to_corners(boxes).numpy(), oriented_corners(boxes.numpy()), atol=1e-9)
    torch.testing.assert_close(
        obb_to_hbb(boxes), torch.cat([obb_to_corners(boxes).amin(1), obb_to_corners(boxes).amax(1)], 1)
    )
    edge = torch.tensor([math.pi / 2, -math.pi / 2, 1.5 * math.pi, -1e-9 - math.pi / 2])
    assert (wrap(edge) < math.pi / 2).all() and (wrap(edge) >= -math.pi / 2).all()


def test_overlap_agrees_with_shapely():
    a, b = random_boxes(150, 1), random_boxes(170, 2)
    a[:20] = b[:20]
    a[20:40, :2] = b[20:40, :2]  # one inside the other, or crossed
    a[40:60] = b[40:60] + 1e-9
    np.testing.assert_allclose(rotated_iou(a, b).numpy(), every_pair(a, b), atol=1e-4)
    assert rotated_iou(a, b).diagonal()[:20].min() == pytest.approx(1, abs=1e-6)


ODD = {
    "touching": ([0, 0, 2, 2, 0], [2, 0, 2, 2, 0], 0),
    "touching turned": ([0, 0, 2, 2, math.pi / 4], [math.sqrt(2) * 2, 0, 2, 2, math.pi / 4], 0),
    "inside": ([5, 5, 10, 10, 0.3], [5, 5, 2, 5, 1.1], 0.1),
    "a quarter turn": ([0, 0, 4, 2, 0], [0, 0, 2, 4, math.pi / 2], 1),
    "a half turn": ([3, 4, 4, 2, 0.7], [3, 4, 4, 2, 0.7 - math.pi], 1),
    "a cross": ([0, 0, 10, 2, 0.4], [0, 0, 10, 2, 0.4 + math.pi / 2], 4 / 36),
    "octagon": ([0, 0, 2, 2, 0], [0, 0, 2, 2, math.pi / 4], 1 / math.sqrt(2)),
    "no width": ([0, 0, 0, 5, 0.2], [0, 0, 5, 5, 0], 0),
    "no area, the same": ([1, 1, 0, 0, 0], [1, 1, 0, 0, 0], 0),
    "shares an edge's line": ([0, 0, 4, 2, 0.5], [math.cos(0.5), math.sin(0.5), 2, 2, 0.5], 0.5),
    "needles": ([0, 0, 1e5, 1, 0.1], [0, 0, 1e5, 1, 0.1], 1),
    "needles apart by half their width": ([0, 0, 1e5, 1, 0], [0, 0.5, 1e5, 1, 0], 1 / 3),
    "far from the origin": ([1e6, 1e6, 20, 10, 0], [1e6, 1e6 + 5, 20, 10, 0], 1 / 3),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_overlap_of_odd_boxes(name):
    a, b, expected = ODD[name]
    a, b = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    assert rotated_iou(a, b).item() == pytest.approx(expected, abs=1e-4)
    assert rotated_iou(b, a).item() == pytest.approx(expected, abs=1e-4)


side = st.sampled_from([0.0, 1e-6, 1.0, 2.0, 3.0, 4.0, 1e4])
place = st.integers(-4, 4).map(float)
turn = st.integers(-8, 8).map(lambda n: n * math.pi / 8)
odd_box = st.tuples(place, place, side, side, turn)


@given(st.lists(odd_box, min_size=1, max_size=6), st.lists(odd_box, min_size=1, max_size=6))
def test_overlap_of_boxes_on_a_grid_agrees_with_shapely(first, second):
    """Edges coincide, corners lie on edges, sides are 0: where clipping polygons goes wrong."""
    a, b = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    found = rotated_iou(a, b).numpy()
    large = (a[:, 2] * a[:, 3] > 1e-3).numpy()[:, None] | (b[:, 2] * b[:, 3] > 1e-3).numpy()[None]
    np.testing.assert_allclose(found[large], every_pair(a, b)[large], atol=1e-4)
    assert (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(found, rotated_iou(b, a).numpy().T, atol=1e-4)


def test_overlap_agrees_with_counted_points():
    a, b = torch.tensor([[50.0, 50, 60, 20, 0.5]]), torch.tensor([[55.0, 45, 30, 40, -0.9]])
    grid = (np.stack(np.meshgrid(np.arange(1000), np.arange(1000)), -1) + 0.5) / 10
    inside = []
    for x, y, w, h, angle in torch.cat([a, b]).tolist():
        shifted = grid - [x, y]
        along = shifted @ [math.cos(angle), math.sin(angle)]
        across = shifted @ [-math.sin(angle), math.cos(angle)]
        inside.append((abs(along) <= w / 2) & (abs(across) <= h / 2))
    counted = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    assert rotated_iou(a, b).item() == pytest.approx(counted, abs=2e-3)


def test_straight_boxes_are_torchvisions():
    xyxy = obb_to_hbb(random_boxes(300, 3)).float()
    boxes = hbb_to_obb(xyxy)
    torch.testing.assert_close(rotated_iou(boxes, boxes), box_iou(xyxy, xyxy), atol=1e-5, rtol=0)
    scores = torch.rand(300, generator=torch.Generator().manual_seed(0))
    kept = rotated_nms(boxes, scores, torch.zeros(300), 0.3)
    assert kept.tolist() == nms(xyxy, scores, 0.3).tolist()


def test_blocks_do_not_change_the_result(monkeypatch):
    a, b = random_boxes(90, 4), random_boxes(70, 5)
    labels, scores = torch.arange(90) % 3, torch.rand(90, generator=torch.Generator().manual_seed(1))
    whole, kept = rotated_iou(a, b), rotated_nms(a, scores, labels, 0.2)
    monkeypatch.setattr("lhrs.downstream.detect.rotated_boxes._CELLS", 500)
    monkeypatch.setattr("lhrs.downstream.detect.rotated_boxes._BLOCK", 7)
    monkeypatch.setitem(rotated_iou.__globals__["_PAIRS"], "cpu", 17)
    assert torch.equal(whole, rotated_iou(a, b))
    assert torch.equal(kept, rotated_nms(a, scores, labels, 0.2))


@pytest.mark.parametrize("seed", range(3))
def test_suppression_agrees_with_the_greedy_rule(seed):
    boxes = random_boxes(150, seed, size=30)
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 20, 150) / 20, rng.integers(0, 3, 150)  # with equal scores
    overlap = every_pair(boxes, boxes)
    kept: list[int] = []
    for n in sorted(range(150), key=lambda n: (-scores[n], n)):
        if all(labels[k] != labels[n] or overlap[k, n] <= 0.3 for k in kept):
            kept.append(n)
    assert rotated_nms(boxes, torch.tensor(scores), torch.tensor(labels), 0.3).tolist() == kept


def test_nothing_and_broken_boxes():
    empty, one = torch.zeros(0, 5), torch.tensor([[1.0, 1, 2, 2, 0]])
    assert rotated_iou(empty, one).shape == (0, 1) and rotated_iou(one, empty).shape == (1, 0)
    assert rotated_nms(empty, torch.zeros(0), torch.zeros(0), 0.5).tolist() == []
    for broken in ([math.nan, 1, 2, 2, 0], [1, 1, math.inf, 2, 0], [1, 1, -2, 2, 0]):
        with pytest.raises(ValueError, match="finite"):
            rotated_iou(one, torch.tensor([broken]))
        with pytest.raises(ValueError, match="finite"):
            rotated_nms(torch.tensor([broken]), torch.ones(1), torch.zeros(1), 0.5)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=12), st.integers(0, 7))
def test_smallest_rectangle_agrees_with_every_angle(points, turned):
    """No rectangle among those of 1,800 angles is smaller, and every point is inside."""
    angle = turned * 0.2
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    cloud = np.array(points, float) @ rotation + 1000
    box = min_area_rect(cloud)
    angles = np.linspace(0, np.pi / 2, 1801)
    axes = np.stack([np.cos(angles), np.sin(angles)])
    along, across = cloud @ axes, cloud @ np.stack([-axes[1], axes[0]])
    assert box[2] * box[3] <= (np.ptp(along, 0) * np.ptp(across, 0)).min() + 1e-6
    shifted = cloud - box[:2]
    axis = np.array([math.cos(box[4]), math.sin(box[4])])
    assert (abs(shifted @ axis) <= box[2] / 2 + 1e-6).all()
    assert (abs(shifted @ [-axis[1], axis[0]]) <= box[3] / 2 + 1e-6).all()
    assert box[2] >= box[3] and -math.pi / 2 <= box[4] < math.pi / 2


def test_smallest_rectangle_of_a_rectangle_is_itself():
    for box in to_le90(random_boxes(50, 6)).numpy():
        found = min_area_rect(oriented_corners(box)[0])
        assert polygon_iou_pairs(*map(oriented_corners, (found, box))) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="0 points"):
        min_area_rect(np.empty((0, 2)))


def test_two_thousand_boxes_take_seconds():
    """Far under the promise of `benchmarks/rotated.py`, so that other load does not fail it."""
    boxes = random_boxes(1000, 7, size=500).float()
    started = time.process_time()
    rotated_iou(boxes, boxes)
    assert time.process_time() - started < 6
