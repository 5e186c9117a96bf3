"""`lhrs score` on files, right and wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lhrs.metrics.iou import oriented_corners

SRC = Path(__file__).parents[2] / "src"


def score(path, *options):
    command = [sys.executable, "-m", "lhrs", "score", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SRC)})


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_one_json_object(tmp_path):
    records = [
        {"prediction": "Yes.", "answer": "yes", "type": "presence", "confidence": 0.9},
        {"prediction": "", "answer": "no", "type": "presence", "confidence": 0.2},
        {"prediction": "7", "answer": "9", "type": "count", "confidence": 0.5},
    ]
    done = score(write(tmp_path / "p.jsonl", records), "--metric", "vqa", "--json", "--legacy", "rsevalkit-substring")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["accuracy"] == pytest.approx(1 / 3) and found["parse_failure_rate"] == pytest.approx(1 / 3)
    assert found["by_type"] == {"count": 0, "presence": 0.5} and found["count_mae"] == 2 and found["n"] == 3
    assert found["legacy rsevalkit-substring"] == pytest.approx(1 / 3) and "ece" in found
    assert len(found["interval"]) == 2


@pytest.mark.parametrize(
    ("metric", "record", "options"),
    [
        ("classify", {"prediction": "Sea_Lake", "answer": "sea lake"}, ()),
        ("count", {"prediction": "twelve", "answer": "12"}, ()),
        ("choice", {"prediction": "(b)", "answer": "B", "options": ["x", "y"]}, ()),
        ("choice", {"prediction": "y", "answer": 1, "options": ["x", "y"]}, ()),
        ("grounding", {"prediction": "[10, 10, 50, 50]", "answer": [10, 10, 50, 50]}, ()),
        ("grounding", {"prediction": [10, 10, 50, 50], "answer": "[10, 10, 50, 50]"}, ()),
        ("grounding", {"prediction": "(100,100),(500,500)", "answer": [10, 10, 50, 50], "size": [100, 100]},
         ("--boxes", "qwen")),
    ],
)  # fmt: skip
def test_every_metric_knows_a_right_answer(tmp_path, metric, record, options):
    done = score(write(tmp_path / "p.jsonl", [record]), "--metric", metric, "--json", *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["accuracy"] == 1


def test_captions_and_circular_choices(tmp_path):
    captions = [{"prediction": "a river", "answer": ["a river", "the water"]}, {"prediction": "x", "answer": "y"}]
    found = json.loads(score(write(tmp_path / "c.jsonl", captions), "--metric", "caption", "--json").stdout)
    assert found["n"] == 2 and 0 < found["bleu1"] < 1
    turned = [{"prediction": "A", "answer": letter, "options": ["x", "y"], "group": "q"} for letter in "AB"]
    found = json.loads(score(write(tmp_path / "q.jsonl", turned), "--metric", "choice", "--json").stdout)
    assert found["accuracy"] == 0.5 and found["circular"] == 0 and found["chance"] == 0.5


@pytest.mark.parametrize(
    ("text", "metric", "line"),
    [
        ("", "vqa", "no records"),
        ("{", "vqa", "not valid JSON"),
        ('{"prediction": "a"}', "vqa", "record 1 has no 'answer'"),
        ('{"prediction": "a", "answer": "b"}', "choice", "does not fit the metric 'choice'"),
        ('{"prediction": "a", "answer": "many"}', "count", "does not fit the metric 'count'"),
        ('{"prediction": "a", "answer": "b"}', "beauty", "no metric 'beauty'; known: caption, choice"),
        ('{"prediction": "a", "answer": "C", "options": ["x", "y"]}', "choice", "is no index, letter or text"),
    ],
)
def test_wrong_files_are_one_line(tmp_path, text, metric, line):
    (tmp_path / "p.jsonl").write_text(text)
    done = score(tmp_path / "p.jsonl", "--metric", metric)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and line in done.stderr, done.stderr


def test_legacy_scorers_are_listed(tmp_path):
    assert "lhrs-bot-grounding" in score(tmp_path, "--metric", "vqa", "--legacy", "list").stdout


def test_facts_bear_out_captions_or_do_not(tmp_path):
    boxes = [{"label": "airplane", "xyxy": [0, 0, 9, 9]}] * 3 + [{"label": "tennis court", "xyxy": [0, 0, 9, 9]}]
    texts = ["Three airplanes beside a tennis court.", "Two airplanes and a ship.", "", "A lake."]
    records = [{"prediction": text, "boxes": boxes} for text in texts]
    found = json.loads(score(write(tmp_path / "f.jsonl", records), "--metric", "facts", "--json").stdout)
    # said: all 3 claims right and both kinds named; airplanes right, their count and the ship not; nothing; no lake
    assert found["fact_recall"] == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert found["fact_precision"] == pytest.approx((1 + 1 / 3 + 0) / 3, abs=1e-4)
    assert found["parse_failure_rate"] == 0.25 and found["contradicted"] == 1
    assert found["fact_f1"] == pytest.approx((1 + 0.4) / 4, abs=1e-4)
    facts = [{"prediction": "Two houses.", "facts": [{"kind": "house", "count": 2}]}]
    assert json.loads(score(write(tmp_path / "g.jsonl", facts), "--metric", "facts", "--json").stdout)["fact_f1"] == 1
    bad = score(write(tmp_path / "h.jsonl", [{"prediction": "x"}]), "--metric", "facts")
    assert bad.returncode == 2 and "boxes" in bad.stderr and "Traceback" not in bad.stderr


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program, there is no Java here")
def test_meteor_is_the_reference_programs(tmp_path):
    same = {"prediction": "many green trees", "answer": ["many green trees"]}
    records = [same, {"prediction": "", "answer": ["a river"]}]
    path = write(tmp_path / "c.jsonl", records)
    found = json.loads(score(path, "--metric", "caption", "--extra-metric", "meteor", "--json").stdout)
    assert found["meteor"] == pytest.approx(0.5, abs=0.02)
    assert score(path, "--metric", "caption", "--extra-metric", "bleurt").returncode == 2


def test_oriented_boxes_polygons_and_masks(tmp_path):
    turned = [50, 50, 40, 20, 0.3]
    corners = [[x, y] for x, y in oriented_corners(np.array(turned, float))[0]]
    flat = [v for corner in corners for v in corner]
    mask = {"size": [4, 5], "counts": [4, 8, 8]}  # columns 1 and 2, written column by column
    records = [
        {"prediction": flat, "answer": turned},
        {"prediction": [0, 0, 10, 10], "answer": [0, 0, 10, 0, 10, 5, 0, 5]},
        {"prediction": {"size": [4, 5], "counts": [8, 8, 4]}, "answer": mask},
        {"prediction": "here", "answer": turned},
        {"prediction": turned, "answer": mask},
        {"prediction": {"size": [4, 5], "counts": [9]}, "answer": mask},
        {"prediction": mask, "answer": mask},
    ]
    found = json.loads(score(write(tmp_path / "s.jsonl", records), "--metric", "grounding", "--json").stdout)
    assert found["mean_iou"] == pytest.approx((1 + 0.5 + 4 / 12 + 0 + 0 + 0 + 1) / 7)
    assert found["parse_failure_rate"] == pytest.approx(3 / 7) and found["acc@0.5"] == pytest.approx(3 / 7)


def test_detections_are_scored_by_vocs_rules(tmp_path):
    answer = [{"box": [0, 0, 10, 10], "label": "ship"}, {"box": [20, 0, 30, 10], "label": "ship"},
              {"box": [5, 5, 4, 4, 0.5], "label": "plane", "difficult": True},
              {"box": [50, 50, 8, 8, 0], "label": "plane"}]  # fmt: skip
    prediction = [{"box": [20, 0, 30, 0, 30, 10, 20, 10], "label": "ship", "score": 0.5},
                  {"box": [40, 40, 44, 44], "label": "ship", "score": 0.9},
                  {"box": [46, 46, 54, 54], "label": "plane", "score": 0.2},
                  {"box": [0, 0, 9, 9], "label": "dog", "score": 1}]  # fmt: skip
    path = write(
        tmp_path / "d.jsonl", [{"prediction": prediction, "answer": answer}, {"prediction": None, "answer": []}]
    )
    found = json.loads(score(path, "--metric", "detection", "--json").stdout)
    # ships: a false one first, then one of two found: recall 1/2 at precision 1/2; planes: the one that counts
    assert found["by_type"] == {"plane": 1, "ship": pytest.approx(0.25)} and found["map50"] == pytest.approx(0.625)
    assert found["map50_voc07"] == pytest.approx((1 + 6 / 11 / 2) / 2) and found["unknown_labels"] == 1
    bad = score(
        write(tmp_path / "e.jsonl", [{"prediction": [], "answer": [{"box": [1], "label": "x"}]}]),
        "--metric",
        "detection",
    )
    assert bad.returncode == 2 and "Traceback" not in bad.stderr


@pytest.mark.parametrize(
    ("metric", "record", "why"),
    [
        ("grounding", {"prediction": "[1, 1, 5, 5]", "answer": [1, 1, 5]}, "the answer of record 1 has no box"),
        ("grounding", {"prediction": "[1, 1, 5, 5]", "answer": "none"}, "the answer of record 1 has no box"),
        ("classify", {"prediction": "forest", "answer": None}, "the answer of record 1 is null"),
        ("choice", {"prediction": "B", "answer": "B", "options": "ship, plane"}, "`options` is a list of texts"),
        ("choice", {"prediction": "B", "answer": 7, "options": ["ship", "plane"]}, "answer 7 is no index"),
        ("choice", {"prediction": "B", "answer": "B"}, "it has no 'options'"),
    ],
)
def test_answers_that_are_none_are_one_line(tmp_path, metric, record, why):
    from lhrs.errors import DataError
    from lhrs.metrics.scoring import score_records

    with pytest.raises(DataError, match=why):
        score_records([record], metric)


def test_true_and_false_of_json_are_yes_and_no():
    from lhrs.metrics.scoring import score_records

    pairs = [("yes", True), (False, "no"), (True, True), ("no", True), (None, False), (True, "yes")]
    scores = score_records([{"prediction": p, "answer": a} for p, a in pairs], "vqa")
    assert scores["accuracy"] == pytest.approx(4 / 6) and scores["majority"] == pytest.approx(4 / 6)
