"""`lhrs.evaluate` and `lhrs.score` do what the commands do, and count what is left out."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.bench import lhrs_bench

import lhrs
from lhrs.errors import ConfigError, DataError


@pytest.fixture
def bench(tmp_path):
    folder = lhrs_bench(tmp_path / "bench", 12)
    rng = np.random.default_rng(0)
    for n in range(4):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"imgs_png/{n}.png")
    return folder


def test_evaluate_returns_what_it_writes(bench, tmp_path):
    steps = []

    class Steps:
        def __init__(self, description, total):
            steps.append([description, total, 0])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, n=1):
            steps[-1][2] += n

    done = lhrs.evaluate([f"lhrs-bench={bench}"], output_dir=tmp_path / "out", batch_size=5, progress=Steps)
    assert steps == [[f"lhrs-bench {variant}", 12, 12] for variant in ("normal", "blind", "shuffled")]
    assert json.loads((tmp_path / "out/scores.json").read_text()) == {"model": "lhrs-nano", "results": done.results}
    assert (tmp_path / "out/scores.md").read_text() == done.table() and "| lhrs-bench |" in done.table()
    (result,) = done.results
    assert result["n"] == 12 and set(result["baselines"]) == {"chance", "blind", "shuffled"}
    assert "dropped" not in result and done.comparisons() == []


def test_missing_and_broken_images_are_counted(bench, tmp_path):
    whole = lhrs.evaluate([f"lhrs-bench={bench}"], output_dir=tmp_path / "whole").results[0]
    (bench / "imgs_png/1.png").unlink()
    (bench / "imgs_png/2.png").write_bytes(b"not an image")
    lines = []
    (result,) = lhrs.evaluate([f"lhrs-bench={bench}"], output_dir=tmp_path / "out", log=lines.append).results
    assert result["n"] == result["all"]["n"] == 6 and result["data_hash"] != whole["data_hash"]
    assert result["dropped"] == {"questions whose image cannot be read": 3, "questions without their image": 3}
    assert len(lines) == 1 and lines[0].startswith("lhrs-bench: left out 6") and "1.png" in lines[0]
    for variant in ("predictions", "blind", "shuffled"):
        assert len((tmp_path / f"out/lhrs-bench/{variant}.jsonl").read_text().splitlines()) == 6
    for n in (0, 3):
        (bench / f"imgs_png/{n}.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match="no image can be read"):
        lhrs.evaluate([f"lhrs-bench={bench}"], output_dir=tmp_path / "none")
    for path in (bench / "imgs_png").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"has none of the images of lhrs-bench: .*0\.png does not exist"):
        lhrs.evaluate([f"lhrs-bench={bench}"], output_dir=tmp_path / "none")


def test_score_takes_records_and_files(tmp_path):
    records = [{"prediction": "yes", "answer": "yes"}, {"prediction": "no", "answer": "yes"}]
    scores = lhrs.score(records, metric="vqa", legacy=["rsthinker-contains"])
    assert scores["accuracy"] == scores["legacy rsthinker-contains"] == 0.5
    (tmp_path / "p.json").write_text(json.dumps(records))
    assert lhrs.score(tmp_path / "p.json", metric="vqa")["accuracy"] == 0.5


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "either --metric, or --benchmark"),
        ({"metric": "vqa", "benchmark": "aid=."}, "either --metric, or --benchmark"),
        ({"metric": "beauty"}, "no metric 'beauty'"),
        ({"metric": "vqa", "extra_metrics": ["meteor"]}, "'meteor' is no extra metric of 'vqa'; it has none"),
        ({"metric": "caption", "extra_metrics": ["bleurt"]}, "known: meteor, spice"),
        ({"metric": "grounding", "box_format": "feet"}, "boxes are written as one of pixels"),
        ({"metric": "vqa", "legacy": ["x"]}, "no legacy scorer 'x'"),
    ],
)
def test_wrong_options_are_named(options, line):
    with pytest.raises(ConfigError, match=line):
        lhrs.score([{"prediction": "a", "answer": "a"}], **options)
    with pytest.raises(ConfigError, match="protocol is one of free"):
        lhrs.evaluate(["aid=."], protocol="loud")
