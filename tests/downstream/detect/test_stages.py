"""Codes go there and back, regions are sampled as torchvision samples them, objects find their anchors."""

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.ops import MultiScaleRoIAlign, box_iou, roi_align

from lhrs.downstream.detect.box_coder import decode_delta, decode_midpoint, encode_delta, encode_midpoint
from lhrs.downstream.detect.matcher import BACKGROUND, IGNORED, match_anchors, sample_matches
from lhrs.downstream.detect.rotated_boxes import hbb_to_obb, obb_to_corners, obb_to_hbb, rotated_iou, to_le90
from lhrs.downstream.detect.rotated_roi_align import pyramid_align, rotated_roi_align
from lhrs.downstream.detect.rpn import make_anchors


def random_boxes(count, seed, least=4.0):
    random = torch.Generator().manual_seed(seed)
    place, sides, turn = (torch.rand(count, n, generator=random) for n in (2, 2, 1))
    return to_le90(torch.cat([place * 200, least + sides * 80, turn * 10 - 5], 1))


def turned_boxes(count, seed):
    """More than a degree from straight."""
    boxes = random_boxes(10 * count, seed)
    off = torch.remainder(boxes[:, 4], math.pi / 2)
    return boxes[(off > 0.02) & (off < math.pi / 2 - 0.02)][:count]


def test_midpoint_code_goes_there_and_back():
    boxes = turned_boxes(500, 0)
    anchors = obb_to_hbb(random_boxes(500, 1))
    code = encode_midpoint(anchors, boxes)
    assert code[:, 4:].abs().max() <= 0.5
    assert rotated_iou(boxes, decode_midpoint(anchors, code)).diagonal().min() > 0.999


def test_midpoint_code_by_hand():
    """A square on its tip: corners on the middles of the sides; a straight box: at their right and lower ends."""
    anchor = torch.tensor([[0.0, 0, 10, 10]])
    code = encode_midpoint(anchor, torch.tensor([[6.0, 5, math.sqrt(50), math.sqrt(50), math.pi / 4]]))
    torch.testing.assert_close(code, torch.tensor([[0.1, 0, 0, 0, 0, 0]]), atol=1e-5, rtol=0)
    for angle in (0.0, 0.01, -0.01, math.pi / 2 - 0.01):
        straight = encode_midpoint(anchor, torch.tensor([[5.0, 5, 20, 20, angle]]))
        torch.testing.assert_close(
            straight, torch.tensor([[0, 0, math.log(2), math.log(2), 0.5, 0.5]]), atol=1e-3, rtol=0
        )
    untrained = decode_midpoint(anchor, torch.tensor([[0.0, 0, 99, 99, 9, -9]]))
    assert untrained.isfinite().all() and untrained[0, 2] < 1000


def test_delta_code_goes_there_and_back():
    boxes, proposals = random_boxes(500, 2), random_boxes(500, 3)
    code = encode_delta(proposals, boxes)
    assert (code[:, 4] * 0.1).abs().max() <= math.pi / 4 + 1e-6
    assert rotated_iou(boxes, decode_delta(proposals, code)).diagonal().min() > 0.999
    assert encode_delta(boxes, boxes).abs().max() < 1e-4
    turned = boxes + torch.tensor([0, 0, 0, 0, 0.7])
    shift = boxes - torch.tensor([0, 0, 0, 0, 0.0])
    shift[:, :2] += torch.stack([boxes[:, 4].cos(), boxes[:, 4].sin()], 1) * boxes[:, 2:3]
    torch.testing.assert_close(encode_delta(boxes, shift)[:, 0], torch.full((500,), 10.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(encode_delta(boxes, turned)[:, 4].abs(), torch.full((500,), 7.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("samples", [1, 2])
def test_straight_regions_are_torchvisions(samples):
    random = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 20, 30, generator=random)
    corner = torch.rand(60, 2, generator=random) * 260 - 60  # many reach outside, some lie there
    xyxy = torch.cat([corner, corner + torch.rand(60, 2, generator=random) * 150], 1)
    xyxy[:3, 2:] = xyxy[:3, :2]  # without area
    parts = [xyxy[:25], xyxy[25:]]
    theirs = roi_align(features, parts, 7, 1 / 8, samples, aligned=True)
    boxes = torch.cat([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2], torch.zeros(60, 1)], 1)
    mine = rotated_roi_align(features, [boxes[:25], boxes[25:]], 8, samples=samples)
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)


def test_turning_image_and_region_together_changes_nothing():
    random = torch.Generator().manual_seed(1)
    features = torch.randn(1, 4, 32, 32, generator=random)
    boxes = torch.tensor([[60.0, 50, 40, 20, 0.3], [64, 64, 60, 10, -1.2]])
    turned = torch.stack([boxes[:, 1], 128 - boxes[:, 0], *boxes[:, 2:4].T, boxes[:, 4] - math.pi / 2], 1)
    mine = rotated_roi_align(features, [boxes], 4)
    torch.testing.assert_close(mine, rotated_roi_align(features.rot90(1, (2, 3)), [turned], 4), atol=1e-4, rtol=0)
    x = (torch.arange(32) + 0.5) * 4
    plane = torch.stack([x.expand(32, 32), x[:, None].expand(32, 32)])[None]  # each cell knows its x and y
    grid = rotated_roi_align(plane, [boxes[:1]], 4)[0]
    first = obb_to_corners(boxes[:1])[0, 0]
    along, across = ((obb_to_corners(boxes[:1])[0, k] - first) / 14 for k in (1, 3))
    torch.testing.assert_close(grid[:, 0, 0], first + along + across, atol=1e-4, rtol=0)
    torch.testing.assert_close(grid[:, 0, 6], first + 13 * along + across, atol=1e-4, rtol=0)


def test_each_region_is_read_from_the_map_that_torchvision_reads():
    maps = [torch.full((1, 1, 256 // 2**n, 256 // 2**n), float(n)) for n in range(4)]
    sides = torch.tensor([5.0, 60, 111, 113, 230, 500, 900])
    xyxy = torch.stack([0 * sides, 0 * sides, sides, sides], 1)
    names = [str(n) for n in range(4)]
    theirs = MultiScaleRoIAlign(names, 7, 2)(dict(zip(names, maps, strict=True)), [xyxy], [(1024, 1024)])
    mine = pyramid_align(maps, [hbb_to_obb(xyxy)], (4, 8, 16, 32))
    torch.testing.assert_close(mine[:, 0, 3, 3], theirs[:, 0, 3, 3])
    assert mine[:, 0, 3, 3].unique().tolist() == [0, 1, 2, 3]
    assert pyramid_align(maps, [torch.zeros(0, 5)], (4, 8, 16, 32)).shape == (0, 1, 7, 7)


def test_gradients_reach_the_map():
    features = torch.randn(1, 2, 16, 16, requires_grad=True)
    pyramid_align([features], [torch.tensor([[30.0, 30, 20, 10, 0.5]])], (4,)).sum().backward()
    assert features.grad is not None
    assert features.grad.sum().item() == pytest.approx(2 * 49, rel=1e-4)


def test_assignment_by_hand(monkeypatch):
    overlap = torch.tensor([[0.9, 0.1], [0.5, 0.2], [0.2, 0.1], [0.1, 0.4], [0.1, 0.4], [0.6, 0.3]])
    table = lambda regions, objects: overlap[:, objects]  # noqa: E731
    objects = torch.arange(2)
    expected = [0, IGNORED, BACKGROUND, 1, 1, IGNORED]
    assert match_anchors(torch.zeros(6, 4), objects, table, 0.7, 0.3, 0.3).tolist() == expected
    without = [0, IGNORED, BACKGROUND, IGNORED, IGNORED, IGNORED]
    assert match_anchors(torch.zeros(6, 4), objects, table, 0.7, 0.3).tolist() == without
    assert match_anchors(torch.zeros(6, 4), objects, table, 0.7, 0.3, 0.45).tolist() == without
    monkeypatch.setattr("lhrs.downstream.detect.matcher._TOGETHER", 1)
    assert match_anchors(torch.zeros(6, 4), objects, table, 0.7, 0.3, 0.3).tolist() == expected
    assert match_anchors(torch.zeros(6, 4), objects[:0], table, 0.7, 0.3, 0.3).tolist() == [BACKGROUND] * 6


def test_assignment_is_torchvisions():
    anchors = make_anchors((16, 16), 8, 8, torch.device("cpu"))
    objects = obb_to_hbb(random_boxes(12, 5)) / 2
    rpn = FasterRCNN(_Nothing(), 2).rpn
    theirs = rpn.proposal_matcher(box_iou(objects, anchors))
    mine = match_anchors(anchors, objects, box_iou, 0.7, 0.3, 1e-9)  # torchvision forces whatever the overlap is
    known = (theirs >= 0) & (mine >= 0)
    assert torch.equal(mine >= 0, theirs >= 0) and known.any()
    assert torch.equal(mine == BACKGROUND, theirs == -1)


class _Nothing(torch.nn.Module):
    out_channels = 8


def test_samples_follow_the_seed():
    assigned = torch.tensor([0] * 50 + [BACKGROUND] * 500 + [IGNORED] * 50)
    torch.manual_seed(3)
    first = sample_matches(assigned, 40, 0.25)
    torch.manual_seed(3)
    again, other = sample_matches(assigned, 40, 0.25), sample_matches(assigned, 40, 0.25)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    assert [len(part) for part in first] == [10, 30]
    assert (assigned[first[0]] == 0).all() and (assigned[first[1]] == BACKGROUND).all()
    assert [len(part) for part in sample_matches(assigned[48:52], 40, 0.25)] == [2, 2]


def test_anchors_lie_on_the_centres_of_cells():
    anchors = make_anchors((2, 3), 4, 8, torch.device("cpu"))
    assert anchors.shape == (18, 4)
    np.testing.assert_allclose((anchors[:, :2] + anchors[:, 2:]).numpy()[3] / 2, [6, 2], atol=1e-6)
    np.testing.assert_allclose((anchors[1]).numpy(), [2 - 16, 2 - 16, 2 + 16, 2 + 16], atol=1e-5)
    sides = anchors[:3, 2:] - anchors[:3, :2]
    np.testing.assert_allclose((sides[:, 1] / sides[:, 0]).numpy(), [0.5, 1, 2], rtol=1e-5)
