"""Two processes learn what one does, each with the whole model or with half of it, and go on after being killed."""

import pytest
import torch
from tests.training.tiny import (
    TWO,
    finish,
    kill_tree,
    load_model_files,
    losses,
    stage_settings,
    start_lhrs,
    wait_for_checkpoint,
    write_run,
)

from lhrs.training.dispatch import load_run, train
from lhrs.training.run_dir import newest_checkpoint

WAYS = {"whole": {}, "sharded": {"fsdp": True}}


def assert_same_weights(one, two):
    one, two = (load_model_files(folder / "model") for folder in (one, two))
    assert one.keys() == two.keys()
    for name in one:
        # Attention does not depend on the bias of keys, so its gradient is rounding and the optimizer's step noise.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_have_the_losses_of_one_at_the_same_global_batch(tmp_path, data, parts, stage1, way):
    settings = stage_settings(1, data, model=parts, output_dir=str(tmp_path / "run"), **WAYS[way])
    finish(start_lhrs(write_run(tmp_path / "run.yaml", settings), launcher=TWO))
    # Rows hold unequal numbers of answer tokens, so a mean of the processes' means would differ.
    assert losses(tmp_path / "run") == pytest.approx(losses(stage1), abs=1e-4)
    assert_same_weights(stage1, tmp_path / "run")
    sharded = (tmp_path / "run" / "checkpoint-6" / "pytorch_model_fsdp.bin").exists()
    assert sharded == (way == "sharded")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_killed_processes_go_on_to_the_losses_and_weights_of_one_that_was_not(tmp_path, data, stage1, way):
    """Stage 2: LoRA on a frozen language model, and a bridge that learns."""
    settings = stage_settings(2, data, init_from=str(stage1), output_dir=str(tmp_path / "one"), save_steps=4)
    settings["lora"]["dropout"] = 0.0  # processes draw their own
    settings["optim"]["steps"] = 12
    train(load_run(write_run(tmp_path / "one.yaml", settings)))
    out = tmp_path / "two"
    file = write_run(tmp_path / "two.yaml", {**settings, **WAYS[way], "output_dir": str(out)})
    process = start_lhrs(file, launcher=TWO)
    wait_for_checkpoint(process, out)
    kill_tree(process)
    stopped_at = int(newest_checkpoint(out).name.split("-")[1])
    assert stopped_at < 12 and not (out / "model").exists()
    assert f"resuming from step {stopped_at} of 12" in finish(start_lhrs(file, launcher=TWO))
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    assert_same_weights(tmp_path / "one", out)
