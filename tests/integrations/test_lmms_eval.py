"""The tasks for lmms-eval give lhrs's scores: the functions alone, and its own command where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.evaluation.bench import lhrs_bench, picture

from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.benchmark import find_benchmark
from lhrs.metrics.scoring import score_records

TASKS = Path(__file__).parents[2] / "integrations/lmms_eval"
NAMES = sorted(path.stem for path in TASKS.glob("*.yaml"))


def dior_rsvg(folder, num=12):
    (folder / "Annotations").mkdir(parents=True)
    for n in range(num):
        picture(folder / f"JPEGImages/{n}.jpg", (200, 100))
        (folder / f"Annotations/{n:02d}.xml").write_text(
            f"<annotation><filename>{n}.jpg</filename><object><name>ship</name><bndbox><xmin>{n}</xmin><ymin>10</ymin>"
            f"<xmax>{n + 60}</xmax><ymax>50</ymax></bndbox><description>ship {n}</description></object></annotation>"
        )
    (folder / "test.txt").write_text("\n".join(map(str, range(num))))
    return folder


def rsvqa(folder, prefix, num=12):
    said = [
        ("presence", "Is there a road?", "yes"),
        ("presence", "Is there water?", "no"),
        ("count", "How many buildings are there?", "7"),
        ("rural_urban", "Is it a rural or an urban area?", "rural"),
    ]
    rows = [(n, *said[n % 4]) for n in range(num)]
    picture(folder / "images/5.tif")
    content = {
        "questions": [{"id": n, "img_id": 5, "type": t, "question": q, "answers_ids": [n], "active": True}
                      for n, t, q, _ in rows],
        "answers": [{"id": n, "question_id": n, "answer": a, "active": True} for n, *_, a in rows],
        "images": [{"id": 5, "active": True}],
    }  # fmt: skip
    for kind, entries in content.items():
        (folder / f"{prefix}_split_test_{kind}.json").write_text(json.dumps({kind: entries}))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "bench").mkdir()
    return {"lhrs_bench": lhrs_bench(root / "bench", 12), "rsvqa_lr": rsvqa(root / "lr", "LR"),
            "rsvqa_hr": rsvqa(root / "hr", "USGS"), "dior_rsvg": dior_rsvg(root / "dior")}  # fmt: skip


@pytest.fixture
def utils(folders, monkeypatch):
    for name, folder in folders.items():
        monkeypatch.setenv(f"{name.upper()}_DATA", str(folder))
    spec = importlib.util.spec_from_file_location("lmms_eval_utils", TASKS / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(name, folder):
    """Return answers right, wrong, wordy and empty, and the records of them that `lhrs score` takes."""
    rng, said, records = np.random.default_rng(0), [], []
    for item in find_benchmark(name)(folder).items():
        record = {"answer": item.answer, "type": item.type}
        if item.options:
            texts = [f"({'ABCD'[item.answer]})", item.options[0], "Answer: A or B", "(", "A"]
            record["options"] = item.options
        elif isinstance(item.answer, tuple):
            x1, y1, x2, y2 = item.answer
            texts = [f"[{5 * x1:.0f}, {10 * y1:.0f}, {5 * x2:.0f}, {10 * y2:.0f}]", "[0, 0, 900, 900]", "there", "",
                     f"[{5 * x1 + 50:.0f}, {10 * y1:.0f}, {5 * x2 + 50:.0f}, {10 * y2:.0f}]"]  # fmt: skip
            record["size"] = [200, 100]
        else:
            texts = [item.answer, f"{item.answer.title()}.", "yes and no", "", "7"]
        said.append(texts[int(rng.integers(len(texts)))])
        records.append({**record, "prediction": said[-1]})
    return said, records


def scores_of(name, folder):
    said, records = answers(name, folder)
    metric = find_benchmark(name).metric
    scores = score_records(records, metric, "norm1000" if metric == "grounding" else "pixels")
    return said, scores | {"without_looking": scores.get("majority", scores.get("chance"))}


@pytest.mark.parametrize("name", NAMES)
def test_the_functions_give_lhrs_scores(utils, folders, name):
    said, scores = scores_of(name, folders[name])
    assert 0 < scores["accuracy"] < 1 and 0 < scores["parse_failure_rate"] < 1
    rows = utils.rows(name)
    judged = [utils.judged(row, [text]) for row, text in zip(rows, said, strict=True)]
    for metric in judged[0]:
        found = getattr(utils, metric)([one[metric] for one in judged])
        assert found == pytest.approx(scores[metric], abs=1e-4), metric
    assert np.mean([one["accuracy"]["score"] for one in judged]) == pytest.approx(scores["accuracy"])
    assert all(len(utils.images(row)) == 1 for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_names_what_there_is(utils, name):
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: getattr(utils, node.value.removeprefix("utils.")))
    parts = [yaml.load((TASKS / file).read_text(), Loader) for file in ("_lhrs", f"{name}.yaml")]
    task = {**parts[0], **parts[1]}
    assert task["task"] == f"lhrs_strict_{name}" and task["test_split"] == name
    assert [metric["metric"] for metric in task["metric_list"]] == list(utils.METRICS[find_benchmark(name).metric])
    assert all(metric["aggregation"].__name__ == metric["metric"] for metric in task["metric_list"])
    assert (TASKS / task["dataset_kwargs"]["data_files"][name]).exists()
    assert {task["doc_to_text"], task["doc_to_target"]} < set(utils.rows(name)[0])


def test_settings_that_cannot_work_are_refused(utils, monkeypatch, tmp_path):
    monkeypatch.setenv("LHRS_MODEL_FAMILY", "qwen2_5_vl")
    assert utils.rows("lhrs_bench")
    with pytest.raises(ConfigError, match="qwen2_5_vl are in pixels"):
        utils.rows("dior_rsvg")
    monkeypatch.setenv("LHRS_BENCH_DATA", str(tmp_path))
    with pytest.raises(DataError):
        utils.rows("lhrs_bench")
    monkeypatch.delenv("LHRS_BENCH_DATA")
    with pytest.raises(ConfigError, match="set LHRS_BENCH_DATA to the folder"):
        utils.rows("lhrs_bench")


@pytest.mark.slow
def test_its_own_command_gives_lhrs_scores(utils, folders, tmp_path):
    pytest.importorskip("lmms_eval", reason="needs lmms-eval: pip install lmms-eval")
    expected = {}
    for name in NAMES:  # answers given before, which its model `from_log` says again
        said, expected[name] = scores_of(name, folders[name])
        logs = [{"doc_id": n, "resps": [[text]]} for n, text in enumerate(said)]
        log = {"args": {"model": "x", "model_args": "", "limit": None}, "time": "0101_0000", "logs": logs,
               "model_configs": {"task": f"lhrs_strict_{name}"}}  # fmt: skip
        (tmp_path / "logs").mkdir(exist_ok=True)
        (tmp_path / f"logs/{name}.json").write_text(json.dumps(log))
    environment = {**os.environ, "PYTHONPATH": str(TASKS.parents[1] / "src"), "HF_HOME": str(tmp_path / "hf"),
                   "HF_HUB_OFFLINE": "1"}  # fmt: skip
    command = [sys.executable, "-m", "lmms_eval", "--model", "from_log", "--model_args", f"logs={tmp_path / 'logs'}"]
    command += ["--tasks", "lhrs_strict", "--include_path", str(TASKS), "--output_path", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(next((tmp_path / "out").rglob("*results.json")).read_text())["results"]
    for name in NAMES:
        for metric in utils.METRICS[find_benchmark(name).metric]:
            assert results[f"lhrs_strict_{name}"][f"{metric},none"] == pytest.approx(expected[name][metric], abs=1e-4)
