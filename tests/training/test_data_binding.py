"""A run is bound to its data: it neither resumes nor counts as finished with other images or labels."""

import json
import os
import shutil

import pytest
from tests.downstream.world import write_masks, write_scenes
from tests.training.tiny import stage_settings, write_data, write_run

from lhrs.errors import ConfigError
from lhrs.training.dispatch import load_run, train


def finetune_settings(kind, data, out):
    splits = {"train": {"path": str(data), "split": "train"}, "val_fraction": 0.25}
    settings = {
        "kind": kind, "output_dir": str(out), "device": "cpu", "num_threads": 1, "save_steps": 2,
        "backbone": {"name": "test_resnet"}, "image_size": 32, "num_evals": 1, "data": splits,
        "optim": {"batch_size": 4, "steps": 2, "lr": 1e-3},
    }  # fmt: skip
    return {**settings, "decoder_channels": 16} if kind == "segment" else settings


def run_of(tmp_path, settings):
    return load_run(write_run(tmp_path / "run.yaml", settings))


def classify(tmp_path):
    data = write_scenes(tmp_path / "data")
    return data, finetune_settings("classify", data, tmp_path / "run"), sorted((data / "train").rglob("*.png"))


def segment(tmp_path):
    data = write_masks(tmp_path / "data")
    return data, finetune_settings("segment", data, tmp_path / "run"), sorted((data / "train").rglob("*.png"))


def pretrain(tmp_path):
    data = write_scenes(tmp_path / "data")
    settings = {
        "kind": "cmid", "output_dir": str(tmp_path / "run"), "device": "cpu", "num_threads": 1,
        "backbone": {"name": "test_convnext", "size": 64}, "data": {"paths": [str(data / "train")], "window_size": 64},
        "masked_branch": {"mask_grid": 4}, "global_branch": {"weight": 0}, "local_branch": {"weight": 0},
        "optim": {"batch_size": 4, "steps": 1},
    }  # fmt: skip
    return data, settings, sorted((data / "train").rglob("*.png"))


def vlm(tmp_path, parts):
    data = write_data(tmp_path / "data")
    settings = stage_settings(1, data, model=parts, output_dir=str(tmp_path / "run"))
    settings["optim"]["steps"] = 1
    return data.parent, settings, sorted(data.parent.glob("*.png"))


@pytest.fixture(params=["classify", "segment", "cmid", "vlm"])
def finished(request, tmp_path, parts):
    """A finished run: its data folder, its settings and its images."""
    make = {"classify": classify, "segment": segment, "cmid": pretrain, "vlm": lambda path: vlm(path, parts)}
    data, settings, images = make[request.param](tmp_path)
    train(run_of(tmp_path, settings))
    return data, settings, images


def test_a_finished_run_with_other_data_is_refused(finished, tmp_path, capsys):
    _, settings, images = finished
    capsys.readouterr()
    train(run_of(tmp_path, settings))
    assert "is finished already" in capsys.readouterr().err
    os.utime(images[0], ns=(1, 1))  # restored
    train(run_of(tmp_path, settings))
    assert "is finished already" in capsys.readouterr().err
    images[0].write_bytes(images[0].read_bytes() + b"\0")
    with pytest.raises(ConfigError, match=rf"other data: 1 file was changed \(.*{images[0].name}\)") as error:
        train(run_of(tmp_path, settings))
    assert "\n" not in str(error.value)


def test_a_data_folder_may_be_moved(finished, tmp_path, capsys):
    data, settings, _ = finished
    moved = tmp_path / "elsewhere" / data.name
    moved.parent.mkdir()
    shutil.move(data, moved)
    text = json.dumps(settings["data"]).replace(str(data), str(moved))
    capsys.readouterr()
    train(run_of(tmp_path, {**settings, "data": json.loads(text)}))
    assert "is finished already" in capsys.readouterr().err


def test_a_stopped_run_does_not_resume_without_an_image(tmp_path):
    _, settings, images = segment(tmp_path)
    settings["optim"]["steps"] = 4
    train(run_of(tmp_path, settings))
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**record, "finished": False}))
    before = (tmp_path / "run/scores.json").read_bytes()
    mask = next(path for path in images if path.name.endswith("_mask.png"))
    image = mask.with_name(mask.name.replace("_mask", ""))
    mask.unlink()
    image.unlink()
    with pytest.raises(ConfigError, match="removed"):
        train(run_of(tmp_path, settings))
    assert (tmp_path / "run/scores.json").read_bytes() == before


def test_changed_labels_are_other_data(tmp_path, parts):
    data, settings, _ = vlm(tmp_path, parts)
    train(run_of(tmp_path, settings))
    file = data / "talk.jsonl"
    file.write_text(file.read_text().replace("what is 3?", "what was 3?"))
    with pytest.raises(ConfigError, match=r"1 file was changed \(.*labels of 3\)"):
        train(run_of(tmp_path, settings))
