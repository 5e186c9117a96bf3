"""Packed rows and batches of similar length teach what padded rows in any order teach."""

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.training.tiny import NUM_SAMPLES, losses, stage_settings, write_parts, write_run

from lhrs.data.chat_dataset import IGNORE
from lhrs.data.collate import Collator, pack_sequences
from lhrs.data.deterministic import DeterministicSampler, group_by_length
from lhrs.errors import ConfigError
from lhrs.models.timm_io import write_timm_folder
from lhrs.training.dispatch import load_run, train
from lhrs.training.trainer import WeightedLengthSampler
from lhrs.training.vlm import build_vlm, load_previous_stage, make_dataset, open_sources


@pytest.fixture(scope="module")
def ready(tmp_path_factory, data, parts, stage1):
    """A stage-2 model with LoRA, and its encoded samples."""
    folder = tmp_path_factory.mktemp("rows")
    settings = stage_settings(2, data, init_from=str(stage1), output_dir=str(folder / "run"))
    settings["lora"]["dropout"] = 0.0
    run = load_run(write_run(folder / "run.yaml", settings))
    stage, processor, _ = build_vlm(run, load_previous_stage(run))
    with torch.no_grad():  # LoRA begins without effect
        for name, weight in stage.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    dataset = make_dataset(run, open_sources(run), stage.model, processor)
    return stage.train(), [dataset[0, n] for n in range(NUM_SAMPLES)]


def learn(module, batch):
    module.zero_grad()
    count = (batch["labels"][:, 1:] != IGNORE).sum()
    loss = module(**batch, num_items_in_batch=count)["loss"]
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("capacity", [1, 300, 500, 10_000])
def test_packed_samples_teach_what_padded_ones_teach(ready, capacity):
    module, rows = ready
    padded, packed = (Collator(0, pack)(rows) for pack in (None, capacity))
    assert len(packed["input_ids"]) < len(rows) or capacity == 1
    one, two = learn(module, padded), learn(module, packed)
    assert two[0] == pytest.approx(one[0], rel=1e-5)
    for name, gradient in one[1].items():
        torch.testing.assert_close(two[1][name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_a_sample_does_not_see_its_neighbours_in_a_packed_row(ready):
    module, rows = ready
    module.eval()
    first = max(rows[:4], key=lambda row: len(row["input_ids"]))  # placed first
    length = len(first["input_ids"])
    with torch.no_grad():
        alone, together = (module.model(**Collator(0, 9999)(part)).logits[0, :length] for part in ([first], rows[:4]))
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)
    module.train()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 80))
def test_lines_hold_every_sample_once_and_are_nearly_equal(lengths, tokens):
    lines = pack_sequences(lengths, tokens)
    assert sorted(n for line in lines for n in line) == list(range(len(lengths)))
    filled = [sum(lengths[n] for n in line) for line in lines]
    assert min(filled) and max(filled) <= sum(lengths) / len(lines) + max(lengths)


@given(st.integers(1, 60), st.integers(1, 8), st.integers(0, 99))
def test_grouping_is_a_permutation_that_pads_less(batches, batch, seed):
    """Of whole batches; training has no other."""
    rng, size = np.random.default_rng(seed), batches * batch
    lengths, order = rng.integers(1, 400, size), rng.permutation(size)
    grouped = group_by_length(order, lengths, batch, np.random.default_rng(seed))
    assert sorted(grouped) == list(range(size))
    waste = lambda o: sum((p.max() - p).sum() for p in np.split(lengths[o], range(batch, size, batch)))  # noqa: E731
    assert batches > 50 or waste(grouped) <= waste(order)
    if size > 1:  # what is left over after the last whole batch is kept too
        assert sorted(group_by_length(order[:-1], lengths, batch, rng)) == sorted(order[:-1])


def test_grouped_order_is_a_function_of_seed_and_epoch():
    lengths = np.arange(200)
    sampler, again, other = (WeightedLengthSampler(np.ones(200), seed, lengths, 4) for seed in (0, 0, 1))
    assert list(sampler) == list(again) != list(other)
    again.set_epoch(1)
    assert [i for _, i in sampler] != [i for _, i in again]


def test_runs_with_packing_have_the_losses_of_runs_without(tmp_path, data, parts, stage1):
    found = {}
    for name, changes in {"packed": {"packing_length": 200}, "grouped": {"group_by_length": True}}.items():
        settings = stage_settings(1, data, model=parts, output_dir=str(tmp_path / name), **changes)
        run = load_run(write_run(tmp_path / f"{name}.yaml", settings))
        train(run)
        found[name] = losses(tmp_path / name)
    assert found["packed"] == pytest.approx(losses(stage1), abs=1e-4)
    assert len(found["grouped"]) == len(losses(stage1)) and found["grouped"] != pytest.approx(losses(stage1), abs=1e-4)


def test_kept_features_teach_what_pixels_teach_and_are_computed_once(tmp_path, data, parts, stage1):
    cache = tmp_path / "cache"
    settings = stage_settings(1, data, model=parts, output_dir=str(tmp_path / "run"), cache_features=str(cache))
    train(load_run(write_run(tmp_path / "run.yaml", settings)))
    assert losses(tmp_path / "run") == pytest.approx(losses(stage1), abs=1e-5)
    files = {file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")}
    images = {path for path in data.parent.glob("*.png") if path.stem.isdecimal() and int(path.stem) % 5}
    assert len(files) == len(images | {data.parent / "0.png"})
    again = stage_settings(
        2,
        data,
        init_from=str(stage1),
        output_dir=str(tmp_path / "again"),
        cache_features=str(cache),
        packing_length=300,
    )
    train(load_run(write_run(tmp_path / "again.yaml", again)))
    assert {file: file.stat().st_mtime_ns for file in cache.rglob("*.safetensors")} == files


def test_features_of_a_pyramid_teach_what_pixels_teach(tmp_path, data, parts):
    torch.manual_seed(0)
    encoder = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    write_timm_folder(tmp_path / "cnn", encoder.state_dict(), "tf_efficientnet_lite0", {}, 64, [0.5] * 3, [0.5] * 3)
    model = {**parts, "encoder": str(tmp_path / "cnn"), "vision_feature_layers": [2, 3, 4]}
    for name, changes in {"pixels": {}, "cached": {"cache_features": str(tmp_path / "cache")}}.items():
        settings = stage_settings(1, data, model=model, output_dir=str(tmp_path / name), **changes)
        train(load_run(write_run(tmp_path / f"{name}.yaml", settings)))
    assert losses(tmp_path / "cached") == pytest.approx(losses(tmp_path / "pixels"), abs=1e-5)


def test_features_of_an_encoder_that_learns_are_not_kept(tmp_path, data, parts):
    settings = stage_settings(
        1, data, model=parts, output_dir=str(tmp_path / "run"), cache_features=str(tmp_path / "c")
    )
    with pytest.raises(ConfigError, match="cache_features"):
        load_run(
            write_run(
                tmp_path / "run.yaml", {**settings, "recipe": "lhrs-bot-nova", "trainable": ["vision_tower", "bridge"]}
            )
        )


@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_a_language_model_in_few_bits_learns_nearly_the_same_and_is_handed_on_exact(tmp_path, data, bits):
    pytest.importorskip("bitsandbytes")
    parts = write_parts(tmp_path / "parts", hidden_size=64, intermediate_size=128, num_key_value_heads=2)
    train(
        load_run(write_run(tmp_path / "1.yaml", stage_settings(1, data, model=parts, output_dir=str(tmp_path / "1"))))
    )
    settings = stage_settings(2, data, init_from=str(tmp_path / "1"), output_dir=str(tmp_path / "rough"), quantize=bits)
    settings["lora"]["dropout"] = 0.0
    train(load_run(write_run(tmp_path / "rough.yaml", settings)))
    exact = {**settings, "output_dir": str(tmp_path / "exact"), "quantize": None}
    train(load_run(write_run(tmp_path / "exact.yaml", exact)))
    rough, fine = losses(tmp_path / "rough"), losses(tmp_path / "exact")
    assert rough == pytest.approx(fine, rel=0.05) and rough != pytest.approx(fine, abs=1e-6)
    one, two = (load_file(tmp_path / n / "model" / "model.safetensors") for n in ("rough", "exact"))
    assert one.keys() == two.keys() and {v.dtype for v in one.values()} == {torch.float32}
    embedding = "model.language_model.embed_tokens.weight"
    torch.testing.assert_close(one[embedding], two[embedding])


@given(st.lists(st.integers(0, 2), min_size=1, max_size=120), st.integers(1, 20), st.integers(0, 3))
def test_every_batch_has_the_groups_of_the_whole(groups, batch, seed):
    groups = np.array(groups)
    order = [index for _, index in DeterministicSampler(len(groups), seed, groups)]
    assert sorted(order) == list(range(len(groups)))
    for start in range(0, len(order) - batch + 1, batch):
        found = groups[order[start : start + batch]]
        for group in range(3):
            assert abs((found == group).sum() - (groups == group).mean() * batch) <= 2
