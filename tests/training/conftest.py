"""A stage-1 and a stage-2 run of a tiny LHRS-Bot, and finetuning of a tiny backbone, done once."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("tensorboard")

from tests.downstream.world import write_masks, write_objects, write_pairs, write_scenes  # noqa: E402
from tests.training.finetuning import FEW, MIXED, finetune_in, settings  # noqa: E402
from tests.training.tiny import stage_settings, write_data, write_parts, write_run  # noqa: E402

from lhrs.training.dispatch import load_run, train  # noqa: E402


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def parts(tmp_path_factory) -> dict:
    return write_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def stage1(tmp_path_factory, data, parts) -> Path:
    """The folder of a finished stage 1."""
    folder = tmp_path_factory.mktemp("stage1")
    settings = stage_settings(1, data, model=parts, output_dir=str(folder / "run"))
    train(load_run(write_run(folder / "run.yaml", settings)))
    return folder / "run"


@pytest.fixture(scope="session")
def stage2(tmp_path_factory, data, stage1) -> Path:
    """The folder of a finished stage 2, never interrupted."""
    folder = tmp_path_factory.mktemp("stage2")
    settings = stage_settings(2, data, init_from=str(stage1), output_dir=str(folder / "run"))
    settings["optim"] |= {"steps": 12, "micro_batch_size": 2}
    train(load_run(write_run(folder / "run.yaml", settings)))
    return folder / "run"


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def masks(tmp_path_factory) -> Path:
    return write_masks(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="session")
def objects(tmp_path_factory) -> Path:
    return write_objects(tmp_path_factory.mktemp("objects"))


@pytest.fixture(scope="session")
def classified(tmp_path_factory, scenes) -> Path:
    out = tmp_path_factory.mktemp("classify") / "run"
    finetune_in(out.parent, **settings("classify", scenes, out, **MIXED))
    return out


@pytest.fixture(scope="session")
def detected(tmp_path_factory, objects) -> Path:
    out = tmp_path_factory.mktemp("detect") / "run"
    finetune_in(out.parent, **settings("detect", objects, out, **FEW))
    return out
