"""Settings of `lhrs finetune`: what is held out, rates, augmentation by key, and mistakes in one line."""

import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from tests.training.finetuning import finetune_in, settings
from tests.training.tiny import write_run

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
from lhrs.models.timm_io import write_timm_folder
from lhrs.training import finetune, finetune_data
from lhrs.training.dispatch import load_run, train
from lhrs.training.optim import make_schedule
from lhrs.training.run_config import OptimConfig


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
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    write_timm_folder(tmp_path / "encoder", state, "test_resnet", {}, 64, [0.5] * 3, [0.5] * 3, None, "bilinear")
    made = settings(
        "classify", scenes, tmp_path / "run", backbone={"name": str(tmp_path / "encoder")}, train_backbone="none",
        num_evals=1,
        optim={"batch_size": 4, "steps": 1, "lr": 1e-3},
    )  # fmt: skip
    finetune_in(tmp_path, **made)
    predictor = load_predictor(tmp_path / "run/model")
    assert predictor.config.interpolation == predictor.image_input.interpolation == "bilinear"
    labeled = open_labeled("classify", scenes, split="test")
    pixels = torch.from_numpy(np.array(Image.open(labeled.items[0].images[0][0]))).permute(2, 0, 1) / 255
    small = torch.nn.functional.interpolate(pixels[None], (20, 20), mode="bilinear", antialias=True)[0]
    seen = ClassificationDataset(labeled, predictor.image_input, 20)[0, 0]["pixels"]
    torch.testing.assert_close(seen, predictor.image_input.standardize(small), atol=1e-5, rtol=0)
    assert Backbone("test_resnet").interpolation == "bicubic"
