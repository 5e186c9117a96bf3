"""Every recipe loads, names an earlier one where it needs one, and says what its stage declares."""

import runpy
from itertools import product
from pathlib import Path
from typing import get_args

import pytest

from lhrs.config import load_config, save_config
from lhrs.errors import ConfigError
from lhrs.training.dispatch import load_run
from lhrs.training.finetune_config import FinetuneConfig
from lhrs.training.perception_config import PerceptionConfig
from lhrs.training.vlm_config import VLMConfig

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
DOWNSTREAM = sorted(FOLDER.glob("downstream/*.yaml"))
NANO = sorted(FOLDER.glob("lhrs-nano/*.yaml"))


def test_all_systems_and_stages_have_a_recipe():
    papers = [path for path in RECIPES if path.stem != "own-model"]
    runs = [run for run in map(load_run, papers) if isinstance(run, VLMConfig)]
    systems, stages = (get_args(VLMConfig.model_fields[name].annotation) for name in ("recipe", "stage"))
    assert len(systems) > 1 and len(stages) == 3
    assert sorted((run.recipe, run.stage) for run in runs) == sorted(product(systems, stages))


def test_every_recipe_is_tested():
    assert sorted(RECIPES + DOWNSTREAM + NANO) == sorted(FOLDER.rglob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_resolves_and_its_resolved_form_says_the_same(path, tmp_path):
    run = load_run(path)
    assert run.output_dir == Path("runs") / path.stem
    save_config(run, tmp_path / "run.yaml")
    assert load_config(type(run), tmp_path / "run.yaml") == run


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_begins_where_the_one_before_it_ends(path):
    run = load_run(path)
    begin = getattr(run, "init_from", None)
    first = path.stem.startswith("cmid-") or path.stem in (
        "lhrs-bot-1-align",
        "lhrs-bot-nova-1-align",
        "own-model",
    )
    assert first == (begin is None)
    if begin is not None:
        before = load_run(FOLDER / f"{begin.name}.yaml")
        assert before.output_dir == begin
        if isinstance(run, VLMConfig) and isinstance(before, VLMConfig):
            assert (before.recipe, before.stage) == (run.recipe, run.stage - 1)


@pytest.mark.parametrize(
    ("name", "lr", "min_lr", "batch_size", "train"),
    [
        ("lhrs-bot-1-align", 2e-4, 2e-5, 64, ["bridge"]),
        ("lhrs-bot-2-instruct", 2e-4, 8e-5, 32, ["bridge", "lora"]),
        ("lhrs-bot-3-multitask", 1e-4, 8e-5, 32, ["lora"]),
        ("lhrs-bot-nova-1-align", 2e-4, 2e-5, 128, ["vision_tower", "bridge"]),
        ("lhrs-bot-nova-2-instruct", 1e-4, 2e-5, 64, ["bridge", "lora"]),
        ("lhrs-bot-nova-3-multitask", 1e-4, 2e-5, 64, ["bridge", "lora"]),
    ],
)
def test_a_stage_has_the_numbers_of_its_paper(name, lr, min_lr, batch_size, train):
    run = load_run(FOLDER / f"{name}.yaml")
    assert isinstance(run, VLMConfig)
    assert (run.optim.lr, run.optim.min_lr, run.optim.batch_size, run.trainable) == (lr, min_lr, batch_size, train)
    assert (run.optim.steps, run.optim.epochs) == ((1200, None) if name == "lhrs-bot-3-multitask" else (None, 1))
    if "lora" in train:
        assert run.lora is not None
        assert (run.lora.rank, run.lora.alpha, run.lora.dropout) == (128, 256, 0.05)
    assert bool(run.system_prompt) == (run.stage > 1)
    assert (run.experts is not None) == (run.recipe == "lhrs-bot-nova" and run.stage > 1)


def test_the_language_model_of_lhrs_nano_gets_its_encoder():
    build = runpy.run_path(str(FOLDER / "lhrs-nano/build.py"))
    perception = load_run(FOLDER / "lhrs-nano/perception.yaml", build["SECOND"])
    language = load_run(FOLDER / "lhrs-nano/language.yaml")
    assert isinstance(perception, PerceptionConfig) and perception.init_from == build["PERCEPTION"]
    assert isinstance(language, VLMConfig) and language.model is not None
    assert Path(str(language.model.encoder)) == perception.output_dir / "model"
    assert language.model.bridge is None


def test_an_override_reaches_a_recipe_and_a_wrong_one_is_told():
    assert load_run(FOLDER / "lhrs-bot-2-instruct.yaml", ["optim.lr=1e-5", "data.rsicd.weight=2"]).optim.lr == 1e-5
    with pytest.raises(ConfigError, match="Did you mean 'optim'"):
        load_run(FOLDER / "lhrs-bot-2-instruct.yaml", ["optimm=1"])


@pytest.mark.parametrize("path", DOWNSTREAM, ids=lambda p: p.stem)
def test_a_downstream_recipe_resolves_and_begins_with_a_recipes_backbone(path, tmp_path):
    run = load_run(path)
    assert isinstance(run, FinetuneConfig) and run.output_dir == Path("runs") / path.stem
    save_config(run, tmp_path / "run.yaml")
    assert load_config(type(run), tmp_path / "run.yaml") == run
    begins = Path(run.backbone.name)
    assert (
        run.backbone.name in ("resnet18", "lhrs-nano")
        or load_run(FOLDER / f"{begins.parent.name}.yaml").output_dir == begins.parent
    )


@pytest.mark.parametrize(
    ("name", "optimizer", "lr", "weight_decay", "batch_size", "epochs", "size", "drop_path"),
    [
        ("ucm-resnet50", "adan", 0.003125, 0.02, 16, 200, 224, None),
        ("ucm-swin-base", "adan", 0.003125, 0.02, 16, 200, 224, 0.5),
        ("potsdam-resnet50", "sgd", 0.01, 1e-4, 8, 50, 512, None),
        ("potsdam-swin-base", "adamw", 6e-5, 0.01, 8, 50, 512, 0.3),
        ("cdd-resnet50", "sgd", 0.002, 5e-4, 8, 200, 256, None),
        ("cdd-swin-base", "adamw", 6e-5, 0.01, 8, 200, 256, 0.3),
        ("dota-oriented-rcnn-r50", "sgd", 0.005, 1e-4, 2, 12, 1024, None),
        ("dota-oriented-rcnn-swin-b", "adamw", 1e-4, 0.05, 2, 12, 1024, 0.3),
    ],
)
def test_downstream_recipes_have_the_published_numbers(
    name, optimizer, lr, weight_decay, batch_size, epochs, size, drop_path
):
    run = load_run(FOLDER / "downstream" / f"{name}.yaml")
    optim = run.optim
    assert (optim.optimizer, optim.lr, optim.weight_decay, optim.batch_size) == (
        optimizer,
        lr,
        weight_decay,
        batch_size,
    )
    assert (optim.epochs, run.image_size, run.backbone.args.get("drop_path_rate")) == (epochs, size, drop_path)
