"""Both detectors learn a handful of images by heart, boxes and angles, and repeat themselves under a seed."""

import math

import numpy as np
import pytest
import torch
from tests.downstream.detect.scenes import ToyBackbone, draw_scene, tensors

from lhrs.downstream.backbone import Backbone, FeaturePyramid
from lhrs.downstream.detect.faster_rcnn import HorizontalRCNN
from lhrs.downstream.detect.oriented_rcnn import OrientedRCNN
from lhrs.downstream.detect.rotated_boxes import obb_to_hbb, rotated_iou
from lhrs.metrics.detection import Detections, GroundTruth, mean_average_precision
from lhrs.metrics.iou import oriented_corners

SMALL = {"width": 48}
RPN = {"anchor_scale": 6, "proposals": 150, "samples": 128}
HEAD = {"hidden": 128, "samples": 64}


@pytest.fixture(autouse=True)
def one_thread():
    """So small convolutions are no faster on two, and far slower where others use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def learn(model, pixels, targets, steps):
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    model.train()
    for step in range(steps):
        torch.manual_seed(step)
        loss = sum(model(pixels, targets).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.no_grad():
        return model(pixels)


def score(found, targets, to_corners, threshold=0.5):
    predictions = [Detections(to_corners(f["boxes"].numpy()), f["scores"].numpy(), f["labels"].numpy()) for f in found]
    truth = [GroundTruth(to_corners(t["boxes"].numpy()), t["labels"].numpy()) for t in targets]
    return mean_average_precision(predictions, truth, 2, threshold).mean


def straight_corners(xyxy):
    x1, y1, x2, y2 = np.asarray(xyxy).T
    return np.stack([np.stack(p, -1) for p in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], 1)


@pytest.mark.slow
def test_oriented_boxes_are_learnt():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pixels, targets = tensors([draw_scene(rng) for _ in range(3)])
    found = learn(OrientedRCNN(ToyBackbone(), 2, rpn=RPN, head=HEAD, **SMALL), pixels, targets, 70)
    assert score(found, targets, oriented_corners) >= 0.9
    assert score(found, targets, oriented_corners, 0.7) >= 0.8  # a box whose angle is wrong overlaps less
    for one, target in zip(found, targets, strict=True):
        best = rotated_iou(target["boxes"], one["boxes"]).argmax(1)
        turned = torch.remainder(one["boxes"][best, 4] - target["boxes"][:, 4] + math.pi / 2, math.pi) - math.pi / 2
        assert turned.abs().max() < math.radians(12)
        assert (one["scores"].diff() <= 0).all() and one["labels"].dtype == torch.int64


@pytest.mark.slow
def test_horizontal_boxes_are_learnt():
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    pixels, targets = tensors([draw_scene(rng, objects=4) for _ in range(3)])
    targets = [{**t, "boxes": obb_to_hbb(t["boxes"])} for t in targets]
    tops = {f"rpn_{when}_nms_top_n_{mode}": 150 for when in ("pre", "post") for mode in ("train", "test")}
    settings = {"anchor_scale": 6, "box_batch_size_per_image": 64, **tops}
    found = learn(HorizontalRCNN(ToyBackbone(), 2, **SMALL, **settings), pixels, targets, 50)
    assert score(found, targets, straight_corners) >= 0.9


@pytest.mark.parametrize("kind", [OrientedRCNN, HorizontalRCNN])
def test_a_seed_means_the_same_losses(kind):
    rng = np.random.default_rng(2)
    pixels, targets = tensors([draw_scene(rng, 64, 1) for _ in range(2)])
    if kind is HorizontalRCNN:
        targets = [{**t, "boxes": obb_to_hbb(t["boxes"])} for t in targets]
    torch.manual_seed(0)
    model = kind(ToyBackbone(), 2, width=16).train()

    def losses(seed):
        torch.manual_seed(seed)
        return {name: value.item() for name, value in model(pixels, targets).items()}

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


@pytest.mark.parametrize("kind", [OrientedRCNN, HorizontalRCNN])
def test_images_without_objects(kind):
    torch.manual_seed(0)
    columns = 5 if kind is OrientedRCNN else 4
    model = kind(ToyBackbone(), 3, width=16).train()
    pixels = torch.randn(2, 3, 64, 96)
    empty = {"boxes": torch.zeros(0, columns), "labels": torch.zeros(0, dtype=torch.int64)}
    flat = [30.0, 30, 20, 0.5, 0] if kind is OrientedRCNN else [30.0, 30, 50, 30.5]
    line = {"boxes": torch.tensor([flat]), "labels": torch.tensor([0])}  # under a pixel: nobody can learn it
    torch.manual_seed(1)
    without = model(pixels, [empty, empty])
    torch.manual_seed(1)
    losses = model(pixels, [empty, line])
    assert {n: v.item() for n, v in losses.items()} == {n: v.item() for n, v in without.items()}
    loss = sum(losses.values())
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    with torch.no_grad():
        found = model(pixels)
    assert len(found) == 2 and all(one["boxes"].shape[1] == columns for one in found)
    assert all((one["labels"] >= 0).all() and (one["labels"] < 3).all() for one in found)


def test_statistics_of_a_pretrained_backbone_stay():
    encoder = Backbone("test_resnet")
    encoder.fixed_norm = True
    model = OrientedRCNN(FeaturePyramid(encoder), 2, width=16).train()
    before = {name: value.clone() for name, value in model.pyramid.backbone.named_buffers()}
    model(torch.randn(1, 3, 64, 64), [{"boxes": torch.zeros(0, 5), "labels": torch.zeros(0, dtype=torch.int64)}])
    assert all(torch.equal(before[name], value) for name, value in model.pyramid.backbone.named_buffers())
    free = OrientedRCNN(FeaturePyramid(Backbone("test_resnet")), 2, width=16).train()
    assert all(part.training for part in free.pyramid.backbone.modules())
