"""Missing and broken images: a run leaves some out and says so, and ends when there are too many."""

import shutil

import pytest
import torch
from tests.training.tiny import NUM_SAMPLES, finish, losses, stage_settings, start_lhrs, write_run

from lhrs.errors import DataError
from lhrs.training.dispatch import load_run, train
from lhrs.training.vlm import build_vlm, make_dataset, open_sources


@pytest.fixture
def damaged(tmp_path, data):
    """The conversations, with one image missing and one cut off."""
    folder = shutil.copytree(data.parent, tmp_path / "damaged")
    (folder / "3.png").unlink()
    (folder / "4.png").write_bytes((folder / "4.png").read_bytes()[:60])
    return folder / data.name


def run_of(tmp_path, data, parts, name="run", **changes):
    settings = stage_settings(1, data, model=parts, output_dir=str(tmp_path / name), **changes)
    return load_run(write_run(tmp_path / f"{name}.yaml", settings))


def test_unreadable_images_are_replaced_counted_and_named(tmp_path, damaged, parts, capsys):
    run = run_of(tmp_path, damaged, parts, max_unreadable=0.1, optim={"lr": 1e-3, "batch_size": 4, "epochs": 2})
    train(run)
    said = capsys.readouterr().err
    assert said.count("replaced by another sample: ") == 2 and "3.png does not exist" in said and "4.png" in said
    assert f"2 of {NUM_SAMPLES} samples were replaced: their images cannot be read" in said


def test_a_replacement_depends_on_seed_epoch_and_index_only(tmp_path, damaged, parts):
    run = run_of(tmp_path, damaged, parts, max_unreadable=0.1)
    stage, processor, _ = build_vlm(run, None)
    first, second = (make_dataset(run, open_sources(run), stage.model, processor) for _ in range(2))
    for n in range(NUM_SAMPLES):  # what was read before does not matter
        first[0, n]
    replaced = {epoch: second[epoch, 3]["input_ids"] for epoch in range(6)}
    assert all(torch.equal(first[epoch, 3]["input_ids"], ids) for epoch, ids in replaced.items())
    assert len({tuple(ids.tolist()) for ids in replaced.values()}) > 1
    assert first.unreadable.nonzero()[:, 0].tolist() == [3, 4] and second.unreadable.nonzero()[:, 0].tolist() == [3]


@pytest.mark.parametrize("fraction", [0.0, 0.01])
def test_more_than_the_limit_end_the_run(tmp_path, damaged, parts, fraction):
    run = run_of(tmp_path, damaged, parts, max_unreadable=fraction)
    stage, processor, _ = build_vlm(run, None)
    rows = make_dataset(run, open_sources(run), stage.model, processor)
    with pytest.raises(DataError, match=rf"of {NUM_SAMPLES} samples have images that cannot be read, .*lhrs data lint"):
        [rows[0, n] for n in range(NUM_SAMPLES)]


def test_a_source_without_a_readable_image_ends_the_run(tmp_path, damaged, parts):
    for image in damaged.parent.glob("*.png"):
        image.unlink()
    kept = [line for line in damaged.read_text().splitlines() if '"images": []' not in line]
    damaged.write_text("\n".join(kept))
    run = run_of(tmp_path, damaged, parts, max_unreadable=1.0)
    stage, processor, _ = build_vlm(run, None)
    with pytest.raises(DataError, match="cannot be read"):
        make_dataset(run, open_sources(run), stage.model, processor)[0, 0]


def test_cached_features_leave_the_same_samples_out(tmp_path, damaged, parts):
    found = {}
    for name, changes in {"pixels": {}, "cached": {"cache_features": str(tmp_path / "cache")}}.items():
        train(run_of(tmp_path, damaged, parts, name, max_unreadable=0.1, **changes))
        found[name] = losses(tmp_path / name)
    assert found["cached"] == pytest.approx(found["pixels"], abs=1e-5)


def test_processes_that_read_data_share_the_count(tmp_path, damaged, parts):
    run_of(tmp_path, damaged, parts, max_unreadable=0.1, num_workers=2, sample_generations={"num": 0})
    said = finish(start_lhrs(tmp_path / "run.yaml"))
    assert f"2 of {NUM_SAMPLES} samples were replaced" in said


def test_the_first_steps_are_logged_with_the_time_left(tmp_path, data, parts, capsys):
    train(run_of(tmp_path, data, parts, logging_steps=50))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["1/6", "2/6", "5/6"]
    assert all(" s a step, about " in line and line.endswith(" left)") for line in lines)
