"""A stage-1 and a stage-2 run of a tiny LHRS-Bot, done once."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")
pytest.importorskip("tensorboard")

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
