"""`lhrs eval`: any model, asked once, stopped or not, whatever the batch."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tests.evaluation.bench import lhrs_bench, picture, start
from tests.inference.foreign import save
from tests.inference.server import Server
from tests.training.tiny import SRC, finish

from lhrs.errors import ConfigError
from lhrs.evaluation.benchmark import Item, find_benchmark
from lhrs.evaluation.evaluate import FILES
from lhrs.evaluation.metrics import find_metric
from lhrs.evaluation.prompts import build_prompts
from lhrs.evaluation.report import score_answers
from lhrs.evaluation.runner import answer_all
from lhrs.inference.load import load
from lhrs.inference.runtime import Generation
from lhrs.inference.runtimes.openai import RateLimiter

CHOICE = find_metric("choice")


class Knows:
    """Answers from the question alone, or not at all; counts how often it is asked."""

    name = "knows"

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def generate(self, requests, on_text=None):
        self.asked += requests
        return [Generation(self.answer(r), (), (0.5,)) for r in requests]


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = lhrs_bench(tmp_path_factory.mktemp("bench"))
    rng = np.random.default_rng(0)
    for n in range(20):
        from PIL import Image

        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"imgs_png/{n}.png")
    return folder


def test_three_models_on_a_bench_of_sixty_questions(bench, tmp_path):
    running = Server(True, True)
    try:
        models = {"nano": "lhrs-nano", "vlm": str(save("smolvlm", tmp_path / "smolvlm")), "server": running.url}
        for name, model in models.items():
            process = start(f"lhrs-bench={bench}", "--model", model, "--out", tmp_path / name, "--no-baselines")
            finish(process)
            scores = json.loads((tmp_path / name / "scores.json").read_text())["results"][0]
            assert scores["n"] == 60 and 0 <= scores["score"] <= 1 and scores["baselines"]["chance"] == 0.25
            assert set(scores["all"]["by_type"]) == {"identity", "quantity", "location"}
            assert len((tmp_path / name / "lhrs-bench/predictions.jsonl").read_text().splitlines()) == 60
    finally:
        running.server.should_exit = True
    said = [[json.loads(line)["prediction"] for line in (tmp_path / n / "lhrs-bench/predictions.jsonl").open()]
            for n in ("nano", "server")]  # fmt: skip
    assert said[0] == said[1]  # the server serves the same model


def test_a_ray_cluster_answers_as_one_process_does(bench, tmp_path):
    pytest.importorskip("ray")
    common = (f"lhrs-bench={bench}", "--limit", 24, "--batch-size", 4)
    finish(start(*common, "--out", tmp_path / "local"))
    finish(start(*common, "--out", tmp_path / "ray", "--engine", "ray", "--workers", 2))
    assert content(tmp_path / "local") == content(tmp_path / "ray")


def test_a_server_is_asked_no_oftener_than_it_allows(monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    pace = RateLimiter("30")
    for _ in range(3):
        pace.wait()
    assert slept == [0, 2, 4]
    for wrong in ("0", "-3", "many"):
        with pytest.raises(ConfigError, match="LHRS_REQUESTS_PER_MINUTE"):
            RateLimiter(wrong)


def test_answers_of_another_program_are_matched_by_id(bench, tmp_path):
    items = find_benchmark("lhrs-bench")(bench).items()
    rows = [{"id": item.id, "prediction": "ABCD"[int(item.answer)]} for item in items[:15]]

    def score(records):
        path = tmp_path / "p.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in records))
        command = [sys.executable, "-m", "lhrs", "score", str(path), "--benchmark", f"lhrs-bench={bench}", "--json"]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SRC)})

    found = json.loads(score(rows).stdout)
    assert found["n"] == 60 and found["accuracy"] == 0.25 and found["parse_failure_rate"] == 0.75
    for wrong, said in (([*rows, rows[0]], "twice"), ([{"id": "x", "prediction": ""}], "no question"), ([{}], "lacks")):
        done = score(wrong)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_batches_do_not_change_the_file(bench, tmp_path):
    for size in (1, 16):
        finish(start(f"lhrs-bench={bench}", "--out", tmp_path / str(size), "--batch-size", size))
    assert content(tmp_path / "1") == content(tmp_path / "16")
    names = set(content(tmp_path / "1"))
    assert names == {"scores.json", "scores.md", *(f"lhrs-bench/{n}" for n in
                     ("predictions.jsonl", "blind.jsonl", "shuffled.jsonl", "errors.html"))}  # fmt: skip


@pytest.mark.slow
def test_a_killed_evaluation_goes_on_to_the_same_files(bench, tmp_path):
    finish(start(f"lhrs-bench={bench}", "--out", tmp_path / "one"))
    process = start(f"lhrs-bench={bench}", "--out", tmp_path / "two", "--batch-size", 1)
    answers = tmp_path / "two/lhrs-bench/predictions.jsonl"
    while not (answers.exists() and answers.stat().st_size > 500):
        assert process.poll() is None, finish(process)
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with answers.open("a") as file:
        file.write('{"key": "cut of')
    finish(start(f"lhrs-bench={bench}", "--out", tmp_path / "two"))
    assert content(tmp_path / "two") == content(tmp_path / "one")


def run(bench, answer, tmp_path, protocol="free", variants=("normal",), split=None):
    benchmark = find_benchmark("lhrs-bench")(bench)
    model = Knows(answer)
    asked = build_prompts(benchmark.items(), CHOICE, load().runtime.family, protocol)
    rows = {v: answer_all(model, "h", asked, CHOICE, variant=v, path=tmp_path / FILES[v]) for v in variants}
    return benchmark, asked, rows, model


def test_nothing_is_asked_twice(bench, tmp_path):
    *_, first = run(bench, lambda r: "A", tmp_path)
    *_, second = run(bench, lambda r: "B", tmp_path)
    assert len(first.asked) == 60 and not second.asked


def test_answers_of_others_stay_and_any_text_is_read_again(bench, tmp_path):
    run(bench, lambda r: "A\u2028B", tmp_path)
    benchmark = find_benchmark("lhrs-bench")(bench)
    asked = build_prompts(benchmark.items()[:5], CHOICE, load().runtime.family, "free")
    path = tmp_path / "predictions.jsonl"
    answer_all(Knows(lambda r: "C"), "another", asked, CHOICE, variant="normal", path=path)
    *_, again = run(bench, lambda r: "D", tmp_path)
    assert not again.asked
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().split("\n") if line]
    assert [row["prediction"] for row in rows] == ["C"] * 5 + ["A\u2028B"] * 60  # the last run's last


def test_boxes_are_shares_of_the_image_that_was_asked_about(tmp_path):
    picture(tmp_path / "a.png", (100, 50))
    picture(tmp_path / "b.png", (40, 80))
    items = [Item(n, (str(tmp_path / n),), "the box", (0, 0, 1, 1)) for n in ("a.png", "b.png")]
    grounding = find_metric("grounding")
    asked = build_prompts(items, grounding, load().runtime.family, "free")
    model = Knows(None)
    model.generate = lambda requests: [Generation("", ("",), (1.0,), np.array([[0, 0, 0.5, 1]])) for _ in requests]
    for variant, name in FILES.items():
        rows = answer_all(model, "h", asked, grounding, variant=variant, path=tmp_path / name)
        assert [row["boxes"] for row in rows] == [[[0, 0, 50, 50]], [[0, 0, 20, 80]]]


def test_splits_are_scored_apart(tmp_path):
    for split, classes in (("train", 10), ("val", 10)):
        for n in range(classes):
            picture(tmp_path / f"data/{split}/class{n}/a.png")
    given = [f"eurosat:{split}={tmp_path / 'data'}" for split in ("train", "val")]
    finish(start(*given, "--out", tmp_path / "out", "--no-baselines", "--limit", 3))
    scores = json.loads((tmp_path / "out/scores.json").read_text())["results"]
    assert [one["benchmark"] for one in scores] == ["eurosat:train", "eurosat:val"]
    for split in ("train", "val"):
        assert (tmp_path / f"out/eurosat-{split}/predictions.jsonl").exists()
    process = start(given[0], given[0], "--out", tmp_path / "out")
    assert "eurosat:train is listed twice" in process.communicate(timeout=60)[1] and process.returncode == 2


def test_a_constant_letter_is_found_out_by_rotation(bench, tmp_path):
    benchmark, asked, rows, _ = run(bench, lambda r: "A", tmp_path, "circular")
    assert len(asked) == 240
    found = score_answers(benchmark, CHOICE, asked, rows, "circular")
    assert found["score"] == 0 and found["n"] == 60 and found["all"]["accuracy"] == 0.25

    def know(request):
        number = next(i for i in benchmark.items() if i.question == request.question.splitlines()[0])
        return number.options[number.answer]

    benchmark, asked, rows, _ = run(bench, know, tmp_path / "b", "circular")
    assert score_answers(benchmark, CHOICE, asked, rows, "circular")["score"] == 1


def test_letters_learnt_by_heart_do_not_help_when_options_are_reordered(bench, tmp_path):
    items = find_benchmark("lhrs-bench")(bench).items()
    letters = {item.question: "ABCD"[item.answer] for item in items}
    texts = {item.question: item.options[item.answer] for item in items}
    for known, least, most in ((letters, 0.05, 0.6), (texts, 1, 1)):
        learnt = lambda r: known[r.question.splitlines()[0]]  # noqa: E731, B023
        benchmark, asked, rows, _ = run(bench, learnt, tmp_path / str(most), "shuffled-options")
        assert least <= score_answers(benchmark, CHOICE, asked, rows, "shuffled-options")["score"] <= most
    # an order is the question's own
    backwards = build_prompts(items[::-1], CHOICE, load().runtime.family, "shuffled-options")
    assert [a.item.options for a in asked] == [a.item.options for a in backwards][::-1]


def test_controls_see_nothing_and_something_else(bench, tmp_path):
    images = {}

    def remember(request):
        images.setdefault(len(images), [i.tobytes() for i in request.images])
        return "A"

    run(bench, remember, tmp_path, variants=("normal", "blind", "shuffled"))
    seen = list(images.values())
    asked, blind, shuffled = seen[:60], seen[60:120], seen[120:]
    assert all(not one for one in blind)
    assert sorted(map(str, asked)) == sorted(map(str, shuffled))
    assert not any(a == s for a, s in zip(asked, shuffled, strict=True))


def test_constrained_answers_are_always_options(tmp_path):
    for n in range(10):
        picture(tmp_path / f"data/class{n}/a.png")
    finish(
        start(f"eurosat={tmp_path / 'data'}", "--out", tmp_path / "out", "--protocol", "constrained", "--no-baselines")
    )
    scores = json.loads((tmp_path / "out/scores.json").read_text())["results"][0]
    assert scores["parse_failure_rate"] == 0 and scores["baselines"]["majority"] == 0.1


def test_two_models_are_compared_sample_by_sample(bench, tmp_path):
    finish(start(f"lhrs-bench={bench}", "--out", tmp_path / "a", "--no-baselines"))
    done = start(f"lhrs-bench={bench}", "--out", tmp_path / "b", "--no-baselines", "--compare-to", tmp_path / "a")
    stdout, stderr = done.communicate(timeout=120)
    assert done.returncode == 0 and "lhrs-bench: +0.000" in stdout and "p = 1.0000" in stdout, stderr
    done = start(f"lhrs-bench={bench}", "--out", tmp_path / "c", "--protocol", "shuffled-options", "--no-baselines",
                 "--compare-to", tmp_path / "a")  # fmt: skip
    assert "in another order" in done.communicate(timeout=120)[1] and done.returncode == 2
    page = (tmp_path / "b/lhrs-bench/errors.html").read_text()
    assert "ground truth: " in page and "<script" not in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "name a benchmark and its data"),
        (("aid",), "where is aid? Write aid=PATH. Download AID from its homepage"),
        (("eurosatt=x",), "no benchmark is called 'eurosatt'"),
        (("eurosat=nowhere",), "nowhere does not exist"),
        (("eurosat=.", "--protocol", "loud"), "protocol is one of free"),
        (("eurosat=.", "--model", "no-such-model"), "eurosat has 10"),
    ],
)
def test_wrong_words_are_one_line(words, line, tmp_path):
    for n in range(3):
        picture(tmp_path / f"{n}/a.png")
    words = [w.replace("eurosat=.", f"eurosat={tmp_path}") for w in words]
    process = start(*words, "--out", tmp_path / "out")
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and len(stderr.splitlines()) == 1 and line in stderr, stderr
    assert not (tmp_path / "out").exists()
