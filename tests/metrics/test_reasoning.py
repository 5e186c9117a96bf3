"""Reasoning blocks and end tokens are not part of an answer: every metric scores what stands after them."""

import pytest

from lhrs.evaluation.score import score
from lhrs.metrics.metric import load_metrics
from lhrs.metrics.scoring import score_per_sample, score_records

OPTIONS = ["river", "forest", "city"]
RECORDS = {
    "choice": ("B", {"answer": 1, "options": OPTIONS}),
    "classify": ("forest", {"answer": "forest", "options": OPTIONS}),
    "vqa": ("yes", {"answer": "yes"}),
    "count": ("12", {"answer": "12"}),
    "grounding": ("[10, 10, 50, 50]", {"answer": [10, 10, 50, 50]}),
    "caption": ("a river", {"answer": ["a river"]}),
    "honesty": ("There is no ship.", {"answer": "red", "answerable": False}),
}
WRAPPERS = {
    "block": "<think>[0, 0, 1, 1], 7 of them, A or C, river, yes, no.</think>\n{}",
    "only closed": "It could be A. It could be 3 rivers.</think>{}",
    "end token": "{}<|im_end|>",
    "block and end token": "<think>no</think> {}</s>",
}


def test_no_metric_of_texts_is_forgotten():
    assert set(RECORDS) == set(load_metrics()) - {"detection", "retrieval"}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("metric", RECORDS)
def test_the_answer_after_reasoning_is_scored(metric, wrapper):
    answer, truth = RECORDS[metric]
    plain, wrapped = ({"prediction": p, **truth} for p in (answer, WRAPPERS[wrapper].format(answer)))
    expected, scores = score_records([plain] * 3, metric), score_records([wrapped] * 3, metric)
    assert scores.pop("reasoning_blocks", 0) == (0 if wrapper == "end token" else 3)
    assert scores == expected and scores["parse_failure_rate"] == 0
    assert (score_per_sample([wrapped], metric) == score_per_sample([plain], metric)).all()


@pytest.mark.parametrize("metric", RECORDS)
def test_reasoning_alone_is_no_answer(metric):
    answer, truth = RECORDS[metric]
    scores = score_records([{"prediction": f"<think>surely {answer}, {answer}", **truth}], metric)
    assert scores["parse_failure_rate"] == 1 and scores["reasoning_blocks"] == 1
    assert scores.get("accuracy", 0) == scores.get("cider", 0) == 0


def test_strictness_is_kept_after_reasoning():
    for text in ("A or B", "A, B, C", "It shows a forest", ""):
        record = {"prediction": f"<think>B</think>{text}", "answer": 1, "options": OPTIONS}
        assert score_records([record], "choice")["accuracy"] == 0, text


def test_captions_with_facts():
    record = {"prediction": "<think>nine ships</think>A river.", "facts": [{"kind": "river", "count": 1}]}
    scores = score([record], metric="facts")
    assert scores["fact_f1"] == 1 and scores["reasoning_blocks"] == 1
