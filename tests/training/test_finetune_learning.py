"""`lhrs finetune`: what whole runs on real files learn, and the model folders that they leave."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.training.finetuning import finetune_in, settings

from lhrs.downstream import load_predictor
from lhrs.downstream.data import (
    ClassificationDataset,
)
from lhrs.models.logistic_regression import fit_logistic_regression
from lhrs.models.timm_io import write_timm_folder
from lhrs.training import finetune_data
from lhrs.training.dispatch import load_run


def test_colors_are_learned_and_the_folder_answers(tmp_path, scenes, capsys):
    finetune_in(tmp_path, **settings("classify", scenes, tmp_path / "run", label_smoothing=0.0))
    said = capsys.readouterr().err
    assert "test accuracy=1 mf1=1" in said and said.endswith(f"finished: {tmp_path / 'run'}\n")
    found = json.loads((tmp_path / "run/scores.json").read_text())
    assert found["test"]["accuracy"] == 1.0 and found["test"]["images"] == 10 and found["step"] in (6, 12)
    predictor = load_predictor(tmp_path / "run/model")
    assert predictor(scenes / "test/red/red0.png").label == "red"
    card = predictor.config
    assert card.classes == ["blue", "red"] and card.image_size == 32 and card.scores["accuracy"] == 1.0
    assert card.normalization.mean[2] == pytest.approx(
        (90 + 90 + 14.6) / 255 / 2, abs=0.1
    )  # blue and red images, half each
    assert any((tmp_path / "run/tensorboard").iterdir())
    before = (tmp_path / "run/model/model.safetensors").stat().st_mtime_ns
    finetune_in(tmp_path, **settings("classify", scenes, tmp_path / "run", label_smoothing=0.0))  # nothing to do
    assert capsys.readouterr().err == f"{tmp_path / 'run'} is finished already\n"
    assert (tmp_path / "run/model/model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(("kind", "name", "least"), [("segment", "miou", 0.7), ("change", "f1", 0.6)])
def test_pixels_and_change_are_learned(tmp_path, masks, pairs, kind, name, least):
    data = masks if kind == "segment" else pairs
    augment = {"scale_range": [0.8, 1.2], "color_jitter": 0.0, "cat_max_ratio": 1.0}
    fit = {"batch_size": 4, "steps": 40 if kind == "change" else 30, "lr": 5e-3}
    finetune_in(tmp_path, **settings(kind, data, tmp_path / "run", augment=augment, optim=fit, num_evals=3))
    found = json.loads((tmp_path / "run/scores.json").read_text())["test"]
    assert found[name] > least, found


@pytest.mark.slow
@pytest.mark.parametrize("oriented", [True, False])
def test_objects_are_learned(tmp_path, objects, oriented):
    fit = {"batch_size": 6, "steps": 80, "lr": 5e-3, "max_grad_norm": 10}
    made = settings("detect", objects, tmp_path / "run", oriented=oriented, decoder_channels=32, optim=fit, num_evals=1)
    made["data"]["val"] = made["data"].pop("test")
    finetune_in(tmp_path, **made)
    found = json.loads((tmp_path / "run/scores.json").read_text())["validation"]
    assert found["map50"] > 0.5, found


def test_first_stages_stay_as_they_were(tmp_path, objects):
    torch.manual_seed(5)
    model = timm.create_model("test_resnet", num_classes=0)
    write_timm_folder(tmp_path / "b", model.state_dict(), "test_resnet", {}, 32, [0.3] * 3, [0.2] * 3)
    fit = {"batch_size": 2, "steps": 1, "lr": 1e-2}
    finetune_in(tmp_path, **settings("detect", objects, tmp_path / "run", optim=fit, num_evals=1, frozen_stages=2,
                                   backbone={"name": str(tmp_path / "b")}))  # fmt: skip
    state = load_file(tmp_path / "run/model/model.safetensors")
    same = {n: torch.equal(state[f"network.pyramid.backbone.encoder.model.{n}"], v)
            for n, v in model.state_dict().items()}  # fmt: skip
    learned = {name.split(".")[0] for name, stays in same.items() if not stays}
    assert learned == {"layer3", "layer4"}  # of a backbone that has learned, no statistics of batch norms either


@pytest.mark.parametrize("tune", ["none", "linear_probe", "layerwise"])
def test_ways_to_tune(tmp_path, scenes, masks, tune):
    torch.manual_seed(5)
    model = timm.create_model("test_resnet", num_classes=0)
    write_timm_folder(tmp_path / "b", model.state_dict(), "test_resnet", {}, 32, [0.3, 0.2, 0.3], [0.2, 0.1, 0.2])
    kind, data = ("segment", masks) if tune == "linear_probe" else ("classify", scenes)
    fit = {"batch_size": 4, "steps": 2, "lr": 1e-2}
    made = settings(
        kind, data, tmp_path / "run", train_backbone=tune, optim=fit, backbone={"name": str(tmp_path / "b")}
    )
    finetune_in(tmp_path, **made)
    card = json.loads((tmp_path / "run/model/config.json").read_text())
    assert card["normalization"]["mean"] == [0.3, 0.2, 0.3] and card["encoder"]["name"] == "test_resnet"
    assert card["head"] == "linear" if tune != "layerwise" else True
    state = load_file(tmp_path / "run/model/model.safetensors")
    same = [torch.equal(state[f"backbone.model.{name}"], value) for name, value in model.state_dict().items()]
    assert all(same) == (tune != "layerwise")
    load_predictor(tmp_path / "run/model")


def test_the_head_begins_as_the_probe_of_the_backbone(tmp_path, scenes):
    torch.manual_seed(5)
    model = timm.create_model("test_resnet", num_classes=0).eval()
    write_timm_folder(tmp_path / "b", model.state_dict(), "test_resnet", {}, 32, [0.3, 0.2, 0.3], [0.2, 0.1, 0.2])
    fit = {"batch_size": 4, "steps": 1, "lr": 1e-7, "min_lr": 0}
    made = settings("classify", scenes, tmp_path / "run", optim=fit, lp_ft=True, num_evals=1, seed=3,
                    backbone={"name": str(tmp_path / "b")})  # fmt: skip
    finetune_in(tmp_path, **made)
    run = load_run(tmp_path / "run.yaml")
    train_part, _, _ = finetune_data.open_splits(run)
    seen = ClassificationDataset(train_part, load_predictor(tmp_path / "run/model").image_input, 32)
    with torch.no_grad():
        features = torch.stack([model.forward_features(seen[0, n]["pixels"][None]).mean((2, 3))[0] for n in range(18)])
    statistics = {name: value for name, value in model.state_dict().items() if "running" in name}
    state = load_file(tmp_path / "run/model/model.safetensors")
    assert all(torch.equal(state[f"backbone.model.{name}"], value) for name, value in statistics.items()) and statistics
    weight, bias = fit_logistic_regression(features.numpy(), np.array([seen[0, n]["target"] for n in range(18)]), 2, 3)
    assert torch.allclose(state["head.1.weight"], torch.from_numpy(weight), atol=1e-3 * float(abs(weight).max()))
    assert torch.allclose(state["head.1.bias"], torch.from_numpy(bias), atol=1e-3)
    assert json.loads((tmp_path / "run/scores.json").read_text())["test"]["accuracy"] == 1.0


def test_the_last_weights_are_kept_where_nothing_can_be_chosen(tmp_path, masks):
    for mask in (masks / "test").glob("*_mask.png"):  # a copy: nothing of it counts
        target = tmp_path / "data/val" / mask.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((80, 90), 2, np.uint8)).save(target)
        name = mask.name.replace("_mask", "")
        (target.parent / name).write_bytes((masks / "test" / name).read_bytes())
    (tmp_path / "data/classes.json").write_text((masks / "classes.json").read_text())
    fit = {"batch_size": 4, "steps": 4, "lr": 1e-3}
    made = settings("segment", masks, tmp_path / "run", optim=fit, num_evals=4)
    made["data"] = {"train": made["data"]["train"], "val": {"path": str(tmp_path / "data")}}
    finetune_in(tmp_path, **made)
    found = json.loads((tmp_path / "run/scores.json").read_text(), parse_constant=pytest.fail)
    assert found["step"] == 4 and "miou" not in found["validation"]
