"""`lhrs finetune`: whole runs on real files, killed and resumed, and the model folders that they leave."""

import json
import os
import signal
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from tests.downstream.world import write_masks, write_objects, write_pairs, write_scenes
from tests.training.tiny import TWO, finish, losses, start_lhrs, wait_for_checkpoint, write_run

from lhrs.cli import main
from lhrs.downstream import load_predictor
from lhrs.downstream.backbone import Backbone
from lhrs.downstream.data import (
    ClassificationAugment,
    ClassificationDataset,
    MixupConfig,
    SegmentationAugment,
    SegmentationDataset,
    classification_collate,
)
from lhrs.downstream.inputs import ImageInput, fit_normalization
from lhrs.downstream.labeled_dataset import Item, LabeledDataset, open_labeled
from lhrs.downstream.task import get_task
from lhrs.errors import LHRSError
from lhrs.models.logistic_regression import fit_logistic_regression
from lhrs.models.timm_io import write_timm_folder
from lhrs.training import finetune, finetune_data
from lhrs.training.dispatch import load_run, train
from lhrs.training.optim import make_schedule
from lhrs.training.run_config import OptimConfig


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    return write_masks(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return write_objects(tmp_path_factory.mktemp("objects"))


def settings(kind, data, out, **changes):
    made = {
        "kind": kind, "output_dir": str(out), "device": "cpu", "num_threads": 1, "logging_steps": 1, "save_steps": 3,
        "backbone": {"name": "test_resnet"}, "image_size": 32, "num_evals": 2,
        "data": {"train": {"path": str(data), "split": "train"}, "test": {"path": str(data), "split": "test"},
                 "val_fraction": 0.25},
        "optim": {"batch_size": 8, "steps": 12, "lr": 3e-3, "warmup_ratio": 0.1},
    }  # fmt: skip
    if kind == "segment":
        made |= {"decoder_channels": 16}
    if kind == "detect":
        made |= {
            "image_size": 96,
            "decoder_channels": 16,
            "num_proposals": 40,
            "anchor_scale": 4,
            "tile_size": 96,
            "tile_overlap": 32,
        }
    return {**made, **changes}


def carry_out(folder, **made):
    train(load_run(write_run(folder / "run.yaml", made)))


MIXED = {
    "augment": {"mixup": 0.8, "cutmix": 1.0, "randaugment": "rand-m9-mstd0.5-inc1", "random_erasing": 0.25},
    "dropout": 0.2,
}
FEW = {"optim": {"batch_size": 2, "steps": 12, "lr": 3e-3}}


@pytest.fixture(scope="module")
def classified(tmp_path_factory, scenes):
    out = tmp_path_factory.mktemp("classify") / "run"
    carry_out(out.parent, **settings("classify", scenes, out, **MIXED))
    return out


@pytest.fixture(scope="module")
def detected(tmp_path_factory, objects):
    out = tmp_path_factory.mktemp("detect") / "run"
    carry_out(out.parent, **settings("detect", objects, out, **FEW))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["classify", "detect"])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, request, scenes, objects, kind):
    whole = request.getfixturevalue({"classify": "classified", "detect": "detected"}[kind])
    out = tmp_path / "run"
    data, changes = (objects, FEW) if kind == "detect" else (scenes, MIXED)
    file = write_run(tmp_path / "run.yaml", settings(kind, data, out, **changes))
    process = start_lhrs(file)
    wait_for_checkpoint(process, out)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "model").exists()
    train(load_run(file))
    assert losses(out) == losses(whole) and len(losses(out)) == 12
    for name in ("model/model.safetensors", "model/config.json", "scores.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path, scenes):
    changes = {"backbone": {"name": "test_convnext"}}  # no batch norm: means are of all images either way
    carry_out(tmp_path, **settings("classify", scenes, tmp_path / "one", **changes))
    file = write_run(tmp_path / "two.yaml", settings("classify", scenes, tmp_path / "two", **changes))
    finish(start_lhrs(file, launcher=TWO))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-3, rtol=1e-2, msg=name)


@pytest.mark.slow
def test_two_processes_learn_objects(tmp_path, objects):
    """Not what one does: which anchors a step learns from is drawn by each."""
    changes = {"optim": {"batch_size": 4, "steps": 4, "lr": 3e-3}}
    file = write_run(tmp_path / "run.yaml", settings("detect", objects, tmp_path / "run", **changes))
    finish(start_lhrs(file, launcher=TWO))
    assert len(losses(tmp_path / "run")) == 4 and np.isfinite(losses(tmp_path / "run")).all()
    assert json.loads((tmp_path / "run/scores.json").read_text())["test"]["images"] == 2
    assert load_predictor(tmp_path / "run/model").config.task == "detect"


@pytest.mark.parametrize("kind", ["segment", "change", "detect"])
def test_a_stopped_run_goes_on_and_keeps_the_same_best(tmp_path, masks, pairs, objects, kind, monkeypatch):
    data = {"segment": masks, "change": pairs, "detect": objects}[kind]
    changes = {"num_evals": 6, "optim": {"batch_size": 4, "steps": 6, "lr": 3e-3}}
    carry_out(tmp_path, **settings(kind, data, tmp_path / "whole", **changes))
    real = finetune.SaveBest.on_step_end

    def stop(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 5:  # after step 4 and 5 were scored, two steps behind the checkpoint
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune.SaveBest, "on_step_end", stop)
        carry_out(tmp_path, **settings(kind, data, tmp_path / "stopped", **changes))
    carry_out(tmp_path, **settings(kind, data, tmp_path / "stopped", **changes))
    for name in ("model/model.safetensors", "scores.json", "best.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    found = json.loads((tmp_path / "whole/scores.json").read_text())["test"]
    wanted = {
        "segment": {"miou", "mf1", "oa", "iou"}, "change": {"f1", "iou", "precision", "recall", "batch_mf1"},
        "detect": {"map50", "map75", "map50_voc07", "map50_horizontal", "ap50"},
    }[kind]  # fmt: skip
    assert wanted <= found.keys() and found["images"] == 2
    if kind == "segment":  # all pixels but the four unlabeled rows of each
        assert np.sum(found["confusion"]) == 2 * 76 * 90 and found["classes"] == ["water", "roof"]


def test_colors_are_learned_and_the_folder_answers(tmp_path, scenes, capsys):
    carry_out(tmp_path, **settings("classify", scenes, tmp_path / "run", label_smoothing=0.0))
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
    carry_out(tmp_path, **settings("classify", scenes, tmp_path / "run", label_smoothing=0.0))  # nothing to do
    assert capsys.readouterr().err == f"{tmp_path / 'run'} is finished already\n"
    assert (tmp_path / "run/model/model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(("kind", "name", "least"), [("segment", "miou", 0.7), ("change", "f1", 0.6)])
def test_pixels_and_change_are_learned(tmp_path, masks, pairs, kind, name, least):
    data = masks if kind == "segment" else pairs
    augment = {"scale_range": [0.8, 1.2], "color_jitter": 0.0, "cat_max_ratio": 1.0}
    fit = {"batch_size": 4, "steps": 40 if kind == "change" else 30, "lr": 5e-3}
    carry_out(tmp_path, **settings(kind, data, tmp_path / "run", augment=augment, optim=fit, num_evals=3))
    found = json.loads((tmp_path / "run/scores.json").read_text())["test"]
    assert found[name] > least, found


@pytest.mark.slow
@pytest.mark.parametrize("oriented", [True, False])
def test_objects_are_learned(tmp_path, objects, oriented):
    fit = {"batch_size": 6, "steps": 80, "lr": 5e-3, "max_grad_norm": 10}
    made = settings("detect", objects, tmp_path / "run", oriented=oriented, decoder_channels=32, optim=fit, num_evals=1)
    made["data"]["val"] = made["data"].pop("test")
    carry_out(tmp_path, **made)
    found = json.loads((tmp_path / "run/scores.json").read_text())["validation"]
    assert found["map50"] > 0.5, found


def test_first_stages_stay_as_they_were(tmp_path, objects):
    torch.manual_seed(5)
    model = timm.create_model("test_resnet", num_classes=0)
    write_timm_folder(tmp_path / "b", model.state_dict(), "test_resnet", {}, 32, [0.3] * 3, [0.2] * 3)
    fit = {"batch_size": 2, "steps": 1, "lr": 1e-2}
    carry_out(tmp_path, **settings("detect", objects, tmp_path / "run", optim=fit, num_evals=1, frozen_stages=2,
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
    carry_out(tmp_path, **made)
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
    carry_out(tmp_path, **made)
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
    carry_out(tmp_path, **made)
    found = json.loads((tmp_path / "run/scores.json").read_text(), parse_constant=pytest.fail)
    assert found["step"] == 4 and "miou" not in found["validation"]


def test_tiles_of_a_scene_are_held_out_together():
    items = [Item(f"{n:06d}_P{n}__{left}_0", (), "") for n in range(10) for left in (0, 824, 1648)]
    train, val = finetune_data.split_validation(LabeledDataset(items, ["a"]), 0.2, 0)
    assert len(val.items) == 6 and len(train.items) == 24
    scene = lambda item: item.id.split("__")[0]  # noqa: E731
    assert not {scene(i) for i in train.items} & {scene(i) for i in val.items}
    with pytest.raises(LHRSError, match="do not divide"):
        finetune_data.split_validation(LabeledDataset(items[:3], ["a"]), 0.2, 0)


def test_lower_layers_learn_less(tmp_path, scenes):
    run = load_run(
        write_run(tmp_path / "r.yaml", settings("classify", scenes, tmp_path / "x", train_backbone="layerwise"))
    )
    task = get_task("classify").build_network(Backbone("test_resnet"), 2, None)
    rate = {}
    for group in finetune.make_task_groups(run, task):
        rate |= {id(p): (group["lr"], group["weight_decay"]) for p in group["params"]}
    named = dict(task.named_parameters())
    assert len(rate) == len(named)
    names = ("backbone.model.conv1.0.weight", "backbone.model.layer4.0.conv1.weight", "head.1.weight")
    stem, deep, head = (rate[id(named[name])] for name in names)
    assert head[0] == run.optim.lr and deep[0] == pytest.approx(0.75 * head[0])
    assert stem[0] == pytest.approx(0.75**5 * head[0])  # stem and four stages of one block
    assert rate[id(named["head.1.bias"])] == (run.optim.lr, 0.0)


def test_the_rate_falls_by_steps():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    settings = OptimConfig(lr=0.5, schedule="step", warmup_steps=10, steps=120)
    schedule = make_schedule(optimizer, settings, 120)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(119):
        optimizer.step()
        schedule.step()
        rates.append(schedule.get_last_lr()[0])
    assert rates[0] == pytest.approx(0.005) and rates[5] == pytest.approx(0.5 * 0.505)
    assert [rates[n] for n in (10, 79, 80, 109, 110, 119)] == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])


def test_a_sample_depends_on_its_key_alone(scenes, masks, pairs):
    labeled = open_labeled("classify", scenes, split="train")
    inputs = ImageInput(fit_normalization(labeled, None, None))
    chance = ClassificationAugment(randaugment="rand-m9-mstd0.5-inc1", color_jitter=1.0, random_erasing=0.5)
    one, two = (ClassificationDataset(labeled, inputs, 32, 0, chance) for _ in range(2))
    for key in ((0, 3), (1, 3), (0, 4)):
        two[1, 0], np.random.rand()
        torch.testing.assert_close(one[key]["pixels"], two[key]["pixels"], rtol=0, atol=0)
    assert not torch.equal(one[0, 3]["pixels"], one[1, 3]["pixels"])
    mixing = MixupConfig(2, 0.8, 1.0, 0.1)
    samples = [one[0, n] for n in range(4)]
    first = classification_collate(samples, mixing, 0)
    np.random.seed(9)
    again = classification_collate(samples, mixing, 0)
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    torch.testing.assert_close(first["target"].sum(1), torch.ones(4))
    assert not torch.equal(first["pixels"], torch.stack([s["pixels"] for s in samples]))
    for task, data in (("segment", masks), ("change", pairs)):
        of = open_labeled(task, data, split="train")
        kept, fresh = (
            SegmentationDataset(
                of, ImageInput(fit_normalization(of, None, None)), 48, 0, SegmentationAugment(swap_dates=True)
            )
            for _ in range(2)
        )
        fresh._keeps = lambda number: False  # no room: read window by window
        for key in ((0, 1), (3, 2)):
            torch.testing.assert_close(kept[key], fresh[key], rtol=0, atol=0)


def test_masks_and_dates_turn_with_their_image(pairs, masks):
    of = open_labeled("segment", masks, split="train")
    data = SegmentationDataset(
        of,
        ImageInput(fit_normalization(of, None, None)),
        40,
        0,
        SegmentationAugment(scale_range=(0.7, 1.4), color_jitter=0.0, cat_max_ratio=1.0),
    )
    for n in range(12):
        sample = data[n, n % len(data)]
        red = sample["pixels"][0] > sample["pixels"][2]
        counted = sample["target"] < 2
        assert (red[counted] == (sample["target"] == 1)[counted]).float().mean() > 0.9
    of = open_labeled("change", pairs, split="train")
    data = SegmentationDataset(
        of,
        ImageInput(fit_normalization(of, None, None)),
        40,
        0,
        SegmentationAugment(scale_range=(1, 1), color_jitter=0.0, cat_max_ratio=1.0, swap_dates=True),
    )
    for n in range(8):
        sample = data[n, n % len(data)]
        differs = (sample["pixels"][0] - sample["pixels"][1]).abs().sum(0) > 0
        assert (differs == (sample["target"] == 1)).float().mean() > 0.95


@pytest.mark.parametrize(
    ("kind", "change", "why"),
    [
        (
            "classify",
            {"augment": {"mixup": 1.0}, "optim": {"batch_size": 3, "steps": 2, "lr": 1}},
            "takes 3 images at once, which is odd",
        ),
        ("classify", {"backbone": {"name": "resnet81"}}, "neither a folder nor a model of timm"),
        ("classify", {"data": {"train": {"path": "nowhere"}}}, "nowhere does not exist"),
        ("classify", {"optim": {"batch_size": 8, "lr": 1}}, "either `epochs` or `steps`"),
        ("classify", {"augment": {"randaugment": "rand-q7"}}, "timm has no policy"),
        (
            "classify",
            {"train_backbone": "linear_probe", "optim": {"batch_size": 1, "steps": 2, "lr": 1}},
            "at least two images",
        ),
        ("classify", {"lp_ft": True, "train_backbone": "none"}, "`lp_ft` is for a trained backbone"),
        ("segment", {"optim": {"batch_size": 1, "steps": 2, "lr": 1}}, "at least two images"),
        ("segment", {"data": {"train": {"path": "DATA"}, "max_value": 2}}, r"a band's mean is \d.*set data.max_value"),
        ("segment", {"optim": {"batch_size": 4, "steps": 9, "lr": 1e20}}, "the loss is not finite at step"),
        ("segment", {"class_weights": [1, 2, 3]}, "class_weights has 3 values, there are 2 classes"),
        ("segment", {"train_backbone": "half"}, "train_backbone"),
        ("change", {"head": "upernet"}, "head"),
        ("detect", {"classes": ["bar"]}, "objects of class 'boat', which is not among `classes`"),
        ("detect", {"tile_size": 64}, "has 96 x 96 pixels, more than `tile_size` 64"),
        ("detect", {"tile_size": 96, "tile_overlap": 96}, "cannot overlap by 96"),
        ("detect", {"train_backbone": "linear_probe"}, "train_backbone"),
        ("leak", {}, r"is in data\.train and in data\.test"),
        ("bands", {}, "there is no band 4"),
    ],
)
def test_mistakes_are_one_line(tmp_path, scenes, masks, pairs, objects, kind, change, why):
    data = {"segment": masks, "change": pairs, "detect": objects}.get(kind, scenes)
    made = settings("classify" if kind in ("leak", "bands") else kind, data, tmp_path / "run")
    if change.get("data", {}).get("max_value"):
        made["data"]["max_value"], change = change["data"]["max_value"], {}
    if kind == "leak":
        made["data"]["test"] = {"path": str(scenes), "split": "train"}
    if kind == "bands":
        made["data"]["bands"] = [1, 4]
    with pytest.raises(LHRSError, match=why) as error:
        train(load_run(write_run(tmp_path / "run.yaml", {**made, **change})))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run/model").exists()


def test_the_command_wants_its_own_kind(tmp_path, scenes, monkeypatch, capsys):
    file = write_run(tmp_path / "run.yaml", settings("classify", scenes, tmp_path / "run"))
    monkeypatch.setattr(sys, "argv", ["lhrs", "finetune", "segment", str(file)])
    with pytest.raises(SystemExit) as error:
        main()
    assert error.value.code == 2 and "is a run of kind 'classify'" in capsys.readouterr().err


def test_images_are_resized_as_the_backbone_has_seen_them(tmp_path, scenes):
    made = settings(
        "classify", scenes, tmp_path / "run", backbone={"name": "lhrs-nano"}, train_backbone="none", num_evals=1,
        optim={"batch_size": 4, "steps": 1, "lr": 1e-3},
    )  # fmt: skip
    carry_out(tmp_path, **made)
    predictor = load_predictor(tmp_path / "run/model")
    assert predictor.config.interpolation == predictor.image_input.interpolation == "bilinear"
    labeled = open_labeled("classify", scenes, split="test")
    pixels = torch.from_numpy(np.array(Image.open(labeled.items[0].images[0][0]))).permute(2, 0, 1) / 255
    small = torch.nn.functional.interpolate(pixels[None], (20, 20), mode="bilinear", antialias=True)[0]
    seen = ClassificationDataset(labeled, predictor.image_input, 20)[0, 0]["pixels"]
    torch.testing.assert_close(seen, predictor.image_input.standardize(small), atol=1e-5, rtol=0)
    assert Backbone("test_resnet").interpolation == "bicubic"
