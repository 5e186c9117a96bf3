"""`lhrs train` of kind perception: class folders, masks and boxes teach one encoder with dense heads."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tests.downstream.world import write_masks, write_scenes
from tests.training.perception_world import run_file, write_roofs

from lhrs.data.augment import D4
from lhrs.data.rendering_augment import RenderingAugment
from lhrs.downstream.backbone import Backbone
from lhrs.errors import ConfigError
from lhrs.models.dense_heads import DenseOutput
from lhrs.perception.settings import read_settings
from lhrs.schema import Box, Sample
from lhrs.training.dispatch import load_run, train
from lhrs.training.perception import PerceptionNetwork, allowed_loss, extent_loss, load_perception
from lhrs.training.perception_data import UNKNOWN, PerceptionDataset, open_sources
from lhrs.training.perception_fit import match
from lhrs.training.perception_targets import object_targets, turn_extents


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_scenes(folder / "scenes")
    write_masks(folder / "masks")
    write_roofs(folder / "roofs")
    return folder


@pytest.fixture
def dataset(world):
    run = load_run(run_file(world))
    return PerceptionDataset(run, open_sources(run), RenderingAugment())


def test_a_run_leaves_a_model_that_predicts_the_same(world):
    train(load_run(run_file(world)))
    folder = world / "run" / "model"
    settings = read_settings(folder)
    assert settings.scenes == ("colors/blue", "colors/red")
    assert settings.temperatures.keys() >= {"scene", "tags"}
    assert 0.1 <= settings.min_scores["building"] <= 0.7
    encoder, heads = load_perception(folder)
    run = load_run(run_file(world))
    network = PerceptionNetwork(encoder, heads, run).eval()
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        out = network.predict(pixels, torch.tensor([0.0, 0.5]))
    assert out.scene.shape == (2, 2)
    assert out.cover.shape == (2, 3, 16, 24)
    assert out.centers.shape == (2, 1, 16, 24)
    assert "conv_head.weight" not in dict(encoder.model.named_parameters())
    assert json.loads((world / "run" / "scores.json").read_text())["scenes accuracy"]["images"] > 0
    train(load_run(run_file(world)))  # a finished run is not repeated


def test_the_encoder_is_a_backbone_of_other_tasks(world):
    backbone = Backbone(str(world / "run" / "model")).eval()
    encoder, _ = load_perception(world / "run" / "model")
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(backbone(pixels), encoder.eval()(pixels))
    assert backbone.normalization is not None


def test_it_starts_from_another_run(world):
    run = run_file(world, encoder=None, init_from=str(world / "run"), output_dir=str(world / "second"))
    train(load_run(run))
    assert (world / "second" / "model" / "dense_heads.safetensors").exists()


def test_frozen_batch_norms_keep_their_statistics(world):
    run = load_run(run_file(world, freeze_bn=True))
    network = PerceptionNetwork(*load_perception(world / "run" / "model"), run).train()
    before = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
    network.predict(torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)).scene.sum().backward()
    assert before
    assert all(torch.equal(dict(network.named_buffers())[name], value) for name, value in before.items())
    assert next(network.heads.neck[1].parameters()).grad is not None
    assert network.heads.training


def test_a_sample_depends_on_its_key_alone(dataset, world):
    run = load_run(run_file(world))
    again = PerceptionDataset(run, open_sources(run), RenderingAugment())
    again[(0, 3)]
    for key in ((0, 5), (1, 5), (0, len(dataset) - 1)):
        first, second = dataset[key], again[key]
        assert all(torch.equal(first[name], second[name]) or first[name].isnan().any() for name in first)
    assert not torch.equal(dataset[(0, 5)]["pixels"], dataset[(1, 5)]["pixels"])


def test_targets_say_what_labels_say(dataset):
    scenes, masks, roofs = dataset.sources
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        sample = dataset.draw(scenes, scenes.indices[0], rng)
        seen.add(int(sample["scene"]))
        assert set(sample["cover"].unique().tolist()) <= {0, 0b001, 0b110}  # 0 under a margin
    assert UNKNOWN in seen  # mosaics have no scene class
    assert len(seen) == 2
    sample = dataset.draw(roofs, roofs.indices[0], rng)
    assert set(sample["cover"].unique().tolist()) <= {0, 0b100, 0b011}
    assert sample["known"].tolist() == [True]
    sample = dataset.draw(masks, masks.indices[0], rng)
    assert set(sample["cover"].unique().tolist()) <= {0, 0b001, 0b100}
    assert sample["known"].tolist() == [False]


def test_validation_images_are_not_trained_on(dataset):
    for source in dataset.sources:
        assert source.val
        assert not set(source.val) & set(source.indices)


def test_regions_are_boxes_of_possible_classes(tmp_path):
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "a.png")
    sample = Sample(
        id="a", images=[str(tmp_path / "a.png")], labels=["water"], source="s", license="CC0",
        boxes=[Box(label="sea|soil", xyxy=(0, 0, 32, 32)), Box(label="other", xyxy=(32, 0, 64, 32))],
    )  # fmt: skip
    (tmp_path / "s.jsonl").write_text(sample.model_dump_json())
    labels = {"sea": {"land_cover": ["water"]}, "soil": {"land_cover": ["grass"]}, "water": {"present": ["water"]}}
    source = {"name": "s", "path": str(tmp_path / "s.jsonl"), "side": 64, "crop": [1, 1], "labels": labels}
    run = load_run(run_file(tmp_path, sources=[source], val_fraction=0))
    dataset = PerceptionDataset(run, open_sources(run), None)
    opened = dataset.sources[0]
    cover = opened.cover(0)
    both = opened.bits(["sea", "soil"])
    assert (cover[:32, :32] == both).all()
    assert (cover[34:, :] == 0).all()
    assert (cover[:, 34:] == 0).all()
    assert 1 in dataset.draw(opened, 0, np.random.default_rng(0))["tags"].tolist()
    source["crop"] = [0.3, 0.6]
    run = load_run(run_file(tmp_path, sources=[source], val_fraction=0))
    crops = PerceptionDataset(run, open_sources(run), None)
    tags = crops.draw(crops.sources[0], 0, np.random.default_rng(0))["tags"]
    assert set(tags.tolist()) == {UNKNOWN}  # what is there may be outside a small crop


def test_nothing_is_learned_under_a_margin(dataset):
    always = PerceptionDataset(dataset.config, dataset.sources, RenderingAugment(unchanged=0, border=1))
    roofs = dataset.sources[2]
    samples = [always.draw(roofs, roofs.indices[0], np.random.default_rng(seed)) for seed in range(8)]
    sample = max(samples, key=lambda sample: int((sample["cover"] == 0).sum()))
    hidden = sample["cover"] == 0
    assert 0 < hidden.float().mean() < 0.8
    assert sample["ignore"][hidden].all()
    assert sample["extent"][:, hidden].isnan().all()


@pytest.mark.parametrize("d4", [D4(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)])
def test_extents_turn_with_the_image(d4):
    boxes = np.array([[8.0, 4.0, 30.0, 50.0]])
    _, extent, _ = object_targets(boxes, np.array([0]), np.array([False]), 16, 1, set())
    turned = turn_extents(d4.apply(torch.from_numpy(extent)), d4)
    mask = torch.zeros(64, 64)
    mask[4:50, 8:30] = 1
    rows, columns = d4.apply(mask).numpy().nonzero()
    row, column = (~turned[0].isnan()).nonzero()[0].tolist()
    left, top, right, bottom = (turned[:, row, column].exp() * 4).tolist()
    x, y = (column + 0.5) * 4, (row + 0.5) * 4
    found = [x - left, y - top, x + right, y + bottom]
    assert found == pytest.approx(list(map(float, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))))


def test_the_loss_is_zero_for_any_possible_class():
    logits = torch.full((1, 3, 2, 2), -20.0)
    logits[:, 1] = 20
    allowed = torch.tensor([[[0b010, 0b011], [0b110, 0]]], dtype=torch.uint8)
    assert allowed_loss(logits, allowed)[0] == pytest.approx(0, abs=1e-4)
    wrong = torch.tensor([[[0b100, 0b111], [0, 0]]], dtype=torch.uint8)
    total, count = allowed_loss(logits, wrong)
    assert total == pytest.approx(40, abs=0.1)
    assert count == 1


def test_extents_are_right_where_boxes_agree():
    boxes = np.array([[8.0, 4.0, 30.0, 50.0]])
    _, extent, _ = object_targets(boxes, np.array([0]), np.array([False]), 16, 1, set())
    cells = ~np.isnan(extent[0])
    assert cells[4:9, 3:6].all()  # the middle half of both sides
    assert cells.sum() < 40
    target = torch.from_numpy(extent)[None]
    out = DenseOutput(*[torch.zeros(1)] * 4, extents=target.nan_to_num(), features=torch.zeros(1))
    total, count = extent_loss(out, {"extent": target})
    assert count == cells.sum()
    assert total == pytest.approx(0, abs=1e-4)
    out.extents = out.extents + 1
    assert extent_loss(out, {"extent": target})[0] > count


def test_points_match_by_their_center():
    truth = np.array([[10.0, 10, 20, 20]])
    assert match(np.array([[12.0, 12, 40, 40]]), truth, by_center=True).tolist() == [False]
    assert match(np.array([[13.0, 13, 21, 21], [10, 10, 20, 20]]), truth, by_center=True).tolist() == [True, False]


def test_unknown_classes_are_refused(world):
    sources = yaml.safe_load(run_file(world).read_text())["sources"]
    sources[0]["labels"]["blue"]["land_cover"] = ["lava"]
    with pytest.raises(ConfigError, match="lava"):
        load_run(run_file(world, sources=sources))
