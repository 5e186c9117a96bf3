"""A metric from one file of another package: `lhrs score` and `lhrs eval` use it, and nothing else changes."""

import json
import os
import subprocess
import sys

import pytest
from tests.evaluation.bench import picture
from tests.training.tiny import SRC

METRIC = '''
import numpy as np
from lhrs.metrics.metric import Metric, Prompt

class Length(Metric):
    """How long answers are."""

    name = "length"
    main_score = "mean_length"
    max_new_tokens = 4

    def prompt(self, question):
        return Prompt("short_answer", question.question)

    def compute(self, records, box_format):
        return {"mean_length": float(self.compute_per_sample(records).mean()), "n": len(records)}

    def compute_per_sample(self, records):
        return np.array([len(record["prediction"]) for record in records], float)
'''
BENCHMARK = '''
from lhrs.evaluation.benchmark import Benchmark, Item

class Words(Benchmark):
    """One question per image."""

    metric = "length"
    homepage = "https://example.org"
    license = "CC0-1.0"
    layout = "a folder of images"
    download_hint = "Make it."

    def items(self):
        return [Item(p.name, (str(p),), "What is this?", "x") for p in sorted(self.root.glob("*.png"))]
'''


@pytest.fixture
def plugin(tmp_path):
    """A folder with an installed package that defines a metric and a benchmark."""
    folder = tmp_path / "site"
    info = folder / "toy-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "toy_metric.py").write_text(METRIC)
    (folder / "toy_words.py").write_text(BENCHMARK)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lhrs.metrics]\nlength = toy_metric:Length\n[lhrs.evaluation.benchmarks]\nwords = toy_words:Words\n"
    )
    return folder


def lhrs(plugin, *words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), str(plugin)])}
    command = [sys.executable, "-m", "lhrs", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


def test_score_uses_it(plugin, tmp_path):
    rows = [{"prediction": "<think>long</think>abc", "answer": "x"}, {"prediction": "abcde", "answer": "x"}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = lhrs(plugin, "score", tmp_path / "p.jsonl", "--metric", "length", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"mean_length": 4, "n": 2, "reasoning_blocks": 1}


def test_eval_uses_it(plugin, tmp_path):
    for name in "ab":
        picture(tmp_path / f"data/{name}.png")
    done = lhrs(plugin, "eval", f"words={tmp_path / 'data'}", "--out", tmp_path / "out", "--no-baselines")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "out/scores.json").read_text())["results"]
    rows = [json.loads(line) for line in (tmp_path / "out/toy-words/predictions.jsonl").open()]
    assert result["metric"] == "mean_length" and result["n"] == len(rows) == 2
    assert result["score"] == sum(len(row["prediction"]) for row in rows) / 2
