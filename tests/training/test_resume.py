"""A run that is killed and resumed ends with the same weights, bit for bit."""

import json
import os
import signal

import pytest
import torch
from tests.training.tiny import finish, losses, stage_settings, start_lhrs, wait_for_checkpoint, write_run

from lhrs.errors import LHRSError
from lhrs.training.dispatch import load_run, train
from lhrs.training.run_dir import newest_checkpoint


def test_a_checkpoint_that_another_process_was_writing_is_passed_over(tmp_path):
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text("{}")
        for process in (0, 1):
            torch.save({"cpu": torch.get_rng_state()}, tmp_path / f"checkpoint-{step}/rng_state_{process}.pth")
    assert newest_checkpoint(tmp_path).name == "checkpoint-4"
    last = tmp_path / "checkpoint-4/rng_state_1.pth"
    last.write_bytes(last.read_bytes()[:-10])
    assert newest_checkpoint(tmp_path).name == "checkpoint-2"


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, data, stage1, stage2):
    settings = stage_settings(2, data, init_from=str(stage1), output_dir=str(tmp_path / "run"))
    settings["optim"] |= {"steps": 12, "micro_batch_size": 2}
    file, out = write_run(tmp_path / "run.yaml", settings), tmp_path / "run"
    process = start_lhrs(file)
    wait_for_checkpoint(process, out)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stopped_at = newest_checkpoint(out)
    assert 2 <= int(stopped_at.name.split("-")[1]) < 12 and not (out / "model").exists()
    # The same happens to a checkpoint that was being written when the run was killed: it is passed over.
    broken = out / "checkpoint-11"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes((stopped_at / "model.safetensors").read_bytes()[:100])

    assert f"resuming from step {stopped_at.name.split('-')[1]} of 12" in finish(start_lhrs(file))
    assert losses(out) == losses(stage2)
    for name in ("model/model.safetensors", "model/adapter/adapter_model.safetensors"):
        assert (out / name).read_bytes() == (stage2 / name).read_bytes(), name
    steps = [json.loads(line)["step"] for line in (out / "samples.jsonl").read_text().splitlines()]
    assert steps == sorted(steps) and steps.count(12) == 2


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path, data):
    file = write_run(tmp_path / "run.yaml", stage_settings(2, data, output_dir=str(tmp_path / "run")))
    said = finish(start_lhrs(file), code=2)
    assert said.strip().count("\n") == 0 and "starts from the result of stage 1" in said


def test_a_run_that_cannot_begin_leaves_nothing_behind(tmp_path, data, parts):
    for name, changes in {
        "no data": {"data": [{"path": str(tmp_path / "nothing.jsonl")}]},
        "no model": {"model": {**parts, "encoder": str(tmp_path / "nothing")}},
    }.items():
        out = tmp_path / name
        run = load_run(
            write_run(tmp_path / "run.yaml", stage_settings(1, data, model=parts, output_dir=str(out)) | changes)
        )
        with pytest.raises(LHRSError) as error:
            train(run)
        assert "nothing" in str(error.value) and "\n" not in str(error.value)
        assert not out.exists()
