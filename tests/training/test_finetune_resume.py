"""Runs of `lhrs finetune` that are killed, stopped, resumed and distributed give the same bits."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.training.finetuning import FEW, MIXED, finetune_in, settings
from tests.training.tiny import TWO, finish, losses, start_lhrs, wait_for_checkpoint, write_run

from lhrs.downstream import load_predictor
from lhrs.training import finetune
from lhrs.training.dispatch import load_run, train


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
    finetune_in(tmp_path, **settings("classify", scenes, tmp_path / "one", **changes))
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
    finetune_in(tmp_path, **settings(kind, data, tmp_path / "whole", **changes))
    real = finetune.SaveBest.on_step_end

    def stop(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 5:  # after step 4 and 5 were scored, two steps behind the checkpoint
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finetune.SaveBest, "on_step_end", stop)
        finetune_in(tmp_path, **settings(kind, data, tmp_path / "stopped", **changes))
    finetune_in(tmp_path, **settings(kind, data, tmp_path / "stopped", **changes))
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
