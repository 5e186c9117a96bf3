"""Model folders whose answers are known or at least differ from place to place, and the command on them."""

import sys

import numpy as np
import pytest
import torch

from lhrs.cli import main
from lhrs.downstream.backbone import Backbone
from lhrs.downstream.detect.rotated_boxes import min_area_rect
from lhrs.downstream.model_config import ModelConfig
from lhrs.downstream.predict import save
from lhrs.downstream.task import get_task
from lhrs.imagery.normalization import Normalization


def make_model(folder, kind, classes=("water", "roof", "tree"), bands=4, **settings):
    torch.manual_seed(1)
    encoder = Backbone("test_resnet", bands)
    layers = {"decoder_channels": 16, "aux_loss_weight": 0.0} if kind == "segment" else {}
    network = get_task(kind).build_network(encoder, len(classes), None, **layers)
    with torch.no_grad():
        list(network.head.children())[-1].weight.mul_(8)  # opinions that differ from place to place
    config = ModelConfig(task=kind, encoder=encoder.settings, head=network.heads[0], head_args=layers,
                classes=list(classes),
                normalization=Normalization(max_value=255, mean=(0.4,) * bands, std=(0.2,) * bands),
                **{"image_size": 64, **settings})  # fmt: skip
    save(folder, config, network)
    return folder


def find_bright(self, pixels, targets=None):
    """Stand in for a detector that knows, so that only the way there and back is tested."""
    scipy = pytest.importorskip("scipy.ndimage")
    out = []
    for image in pixels:
        regions, count = scipy.label(image[0].numpy() > 0.5)
        points = [np.argwhere(regions == n + 1)[:, ::-1] + 0.5 for n in range(count)]
        boxes = [min_area_rect(p) for p in points if len(p) > 20]
        out.append({
            "boxes": torch.tensor(np.array(boxes).reshape(-1, 5)),
            "scores": torch.tensor([min(len(p) / 2000, 1.0) for p in points if len(p) > 20]),
            "labels": torch.zeros(len(boxes), dtype=torch.int64),
        })  # fmt: skip
    return out


def make_detector(folder, head="oriented"):
    encoder = Backbone("test_resnet")
    layers = {"decoder_channels": 16, "anchor_scale": 4, "num_proposals": 20}
    network = get_task("detect").build_network(encoder, 1, head, **layers)
    config = ModelConfig(task="detect", encoder=encoder.settings, head=head, head_args=layers, classes=["ship"],
                normalization=Normalization(max_value=255, mean=(0.4,) * 3, std=(0.2,) * 3),
                image_size=128, inference={"tile_size": 128, "tile_overlap": 64})  # fmt: skip
    save(folder, config, network)
    return folder


BARS = np.array([[40, 30, 44, 16, 0.5], [128, 100, 46, 14, -1.0], [210, 60, 40, 20, 1.3], [250, 180, 44, 12, 0.0]])


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["lhrs", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as error:
        main()
    said = capsys.readouterr()
    return error.value.code or 0, said.out, said.err


def turns_left(ring):
    x, y = ring.T
    return np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0
