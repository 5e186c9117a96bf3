"""`lhrs train RECIPE --check`: every recipe with miniature downloads, without weights and without training."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("tensorboard")

from tests.data.miniature_sets import write_given  # noqa: E402
from tests.data.sets_fixtures import hub, served  # noqa: E402, F401  # fixtures
from tests.training.tiny import RECIPES, write_parts  # noqa: E402

from lhrs.cli import app  # noqa: E402
from lhrs.data.training_sets import get, list_sets  # noqa: E402
from lhrs.errors import DataError  # noqa: E402
from lhrs.training.dispatch import check, load_run, train  # noqa: E402
from lhrs.training.memory import Blocks, estimate_weights  # noqa: E402
from lhrs.training.run_config import OptimConfig  # noqa: E402

VLM = ["lhrs-bot-1-align", "lhrs-bot-2-instruct", "lhrs-bot-3-multitask",
       "lhrs-bot-nova-1-align", "lhrs-bot-nova-2-instruct", "lhrs-bot-nova-3-multitask"]  # fmt: skip
SIZES = {"lhrs-bot": (6738.4, 319.8), "lhrs-bot-nova": (8030.3, 335.5)}
"""Millions of parameters of the language model and its LoRA layers, as published."""


@pytest.fixture
def parts(tmp_path_factory):
    return write_parts(tmp_path_factory.mktemp("parts"))


def download(recipe, folder):
    for row in list_sets():
        if recipe in row.stages:
            get(row.name, write_given(row.folder or row.name, folder))


def report(recipe, *overrides):
    return "\n".join(check(load_run(RECIPES / f"{recipe}.yaml", overrides)))


def gigabytes(text, name):
    return float(re.search(rf"{name} +([\d.]+) GB", text)[1])


@pytest.mark.slow
@pytest.mark.parametrize("recipe", VLM)
def test_a_recipe_is_checked_without_weights_and_without_the_stage_before(hub, tmp_path, recipe):  # noqa: F811
    download(recipe, tmp_path)
    text = report(recipe)
    system = recipe.rpartition("-")[0].rpartition("-")[0]
    names = [row.name for row in list_sets() if recipe in row.stages]
    assert f"data     {len(names)} samples in {len(names)} sets" in text
    assert all(re.search(rf"^  {name} +1 +[\d.]+% ", text, re.M) for name in names)
    language, lora = SIZES[system]
    assert re.search(rf"language_model +{language:.1f} +frozen", text)
    assert bool(re.search(rf"lora +{lora:.1f} +trained", text)) == ("-1-" not in recipe)
    assert re.search(rf"<image> x {144 if system == 'lhrs-bot' else 272} ", text)
    assert re.search(r"⟦.*(A harbor with ships|a town with houses|A dense town).*⟧", text, re.S)
    assert ("has no result yet" in text) == ("-1-" not in recipe) and "published sizes" in text
    assert not (tmp_path / "runs").exists() and not Path(load_run(RECIPES / f"{recipe}.yaml").output_dir).exists()
    shares = [float(share) for share in re.findall(r"^  [\w-]+ +\d+ +([\d.]+)% ", text, re.M)]
    assert sum(shares) == pytest.approx(100, abs=1)


def test_sets_that_are_missing_are_one_line_with_the_command(hub):  # noqa: F811
    with pytest.raises(DataError, match=r"12 training sets are not downloaded: lhrs data get rsitmd rsitmd-detail"):
        report("lhrs-bot-2-instruct")


def test_labels_and_tokens_are_those_that_training_learns(hub, tmp_path, parts):  # noqa: F811
    download("lhrs-bot-1-align", tmp_path)
    text = report("lhrs-bot-1-align", f"model={parts}".replace("None", "null"), "model.chat_template=llava_llama_2")
    assert "⟦a town with houses\n⟧" in text.replace("\n  ", "\n")
    learned = len("a town with houses\n")
    assert re.search(
        rf"{1 + 9 + learned} tokens, {learned} of them with labels", text
    )  # a byte a token, 9 of the image
    assert "steps    1 of 64 samples" in text
    (note,) = re.findall(r"^note +(.*)$", text, re.M)
    assert re.fullmatch(r"the data has 1 samples, fewer than one batch of \d+: training refuses it", note)


@pytest.mark.parametrize(
    ("recipe", "trained"), [("lhrs-bot-1-align", "bridge"), ("lhrs-bot-nova-1-align", "vision_tower")]
)
def test_a_recipe_runs_ten_steps_on_miniature_downloads(hub, tmp_path, parts, recipe, trained):  # noqa: F811
    download(recipe, tmp_path)
    small = ["bf16=false", "device=cpu", "num_threads=1", "gradient_checkpointing=false", "optim.batch_size=1",
             "optim.micro_batch_size=1", "optim.epochs=null", "optim.steps=10", "sample_generations.num=0"]  # fmt: skip
    overrides = [f"model={parts}".replace("None", "null"), *small, f"output_dir={tmp_path / 'run'}"]
    assert re.search(rf"{trained} +[\d.]+ +trained", report(recipe, *overrides))
    train(load_run(RECIPES / f"{recipe}.yaml", overrides))
    assert (tmp_path / "run/model/config.json").is_file()


def test_weights_gradients_and_optimizer_states_are_counted_as_they_are_allocated():
    module = torch.nn.Sequential(torch.nn.Linear(100, 50), torch.nn.Linear(50, 10))
    module[0].requires_grad_(False)
    trained = sum(p.numel() for p in module[1].parameters())
    for name, cls in (("adamw", torch.optim.AdamW), ("sgd", lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))):
        estimate = estimate_weights(module, OptimConfig(optimizer=name, lr=1, steps=1), lambda name: 2)
        optimizer = cls(module[1].parameters())
        module[1](torch.ones(2, 50)).sum().backward()
        optimizer.step()
        held = sum(v.nbytes for state in optimizer.state.values() for v in state.values() if v is not None and v.ndim)
        assert (estimate.optimizer, estimate.gradients, estimate.frozen) == (held, 4 * trained, 2 * 5050)


def test_recomputing_keeps_less_and_more_tokens_keep_more():
    blocks = Blocks(32, 4096, 11008, is_gated=True)
    kept, recomputed = (blocks.activations(1000, 2, recomputes) for recomputes in (False, True))
    assert recomputed < kept / 10 and blocks.activations(2000, 2, True) == 2 * recomputed


def test_the_command_prints_and_does_not_train(hub, tmp_path, parts, monkeypatch):  # noqa: F811
    download("lhrs-bot-1-align", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lhrs", "train", "x"])
    model = f"model={parts}".replace("None", "null")
    done = CliRunner().invoke(app, ["train", str(RECIPES / "lhrs-bot-1-align.yaml"), model, "--check"])
    assert done.exit_code == 0, done.output
    assert (
        "first sample" in done.output and gigabytes(done.output, "together") >= 0 and not (tmp_path / "runs").exists()
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["cmid-resnet50", "cmid-swin-base"])
def test_a_recipe_of_cmid_is_checked(hub, tmp_path, recipe):  # noqa: F811
    get("million-aid")
    text = report(recipe, "num_workers=0")
    assert "data     12 samples" in text and "optimizer states" in text and "activations       not estimated" in text
