"""What a score says of the data it is of: two people see that they scored the same, or that they did not."""

import hashlib
import json
import shutil

import numpy as np
import pytest
from tests.evaluation.bench import lhrs_bench, picture, start

from lhrs.evaluation.benchmark import data_hash, data_provenance, find_benchmark, image_digest
from lhrs.evaluation.benchmarks.dior_rsvg import _SPLITS


@pytest.fixture(autouse=True)
def fresh_digests():
    image_digest.cache_clear()


def test_the_hash_is_of_questions_answers_and_images_wherever_they_lie(tmp_path):
    found = {}
    lhrs_bench(tmp_path / "a", 9)
    for name in ("a", "same", "question", "answer", "image", "fewer"):
        folder = tmp_path / name
        if name != "a":
            shutil.copytree(tmp_path / "a", folder)
        content = json.loads((folder / "qa.json").read_text())
        pair = content["data"][0]["qa_pairs"][0]
        pair |= {"question": {"question": "What?"}, "answer": {"answer": "B."}}.get(name, {})
        (folder / "qa.json").write_text(json.dumps(content))
        if name == "image":
            picture(folder / "imgs_png/0.png", (81, 60))
        items = find_benchmark("lhrs-bench")(folder).items()
        found[name] = data_hash(items[1:] if name == "fewer" else items)
    assert found["a"] == found.pop("same") and len(set(found.values())) == len(found)


def test_pinned_or_not_or_nobody_knows(tmp_path, monkeypatch):
    bench = find_benchmark("lhrs-bench")
    benchmark = bench(lhrs_bench(tmp_path, 9))
    items = benchmark.items()
    told = data_provenance(benchmark, items, True)
    assert told == {"data_hash": data_hash(items), "pinned": None}
    monkeypatch.setattr(bench, "expected_hash", {"": told["data_hash"], "val": "f" * 16})
    assert data_provenance(benchmark, items, True)["pinned"] is True
    assert data_provenance(benchmark, items[1:], False)["pinned"] is None  # a part cannot be compared
    assert data_provenance(bench(tmp_path, "val"), items, True) == {
        "data_hash": told["data_hash"], "pinned": False, "expected_hash": "f" * 16
    }  # fmt: skip
    assert data_provenance(bench(tmp_path, "test"), items, True)["pinned"] is None


def test_a_report_holds_the_hash(tmp_path):
    process = start(f"lhrs-bench={lhrs_bench(tmp_path / 'data', 9)}", "--out", tmp_path / "out", "--no-baselines")
    assert process.wait(timeout=60) == 0, process.stderr.read()
    found = json.loads((tmp_path / "out/scores.json").read_text())["results"][0]
    items = find_benchmark("lhrs-bench")(tmp_path / "data").items()
    assert found["data_hash"] == data_hash(items) and found["pinned"] is None
    assert set(found["all"]["by_group"]) == {"recognition", "quantity", "position"}  # of its eleven kinds, three


def test_a_group_counts_a_question_of_two_of_its_kinds_once(tmp_path):
    groups = find_benchmark("lhrs-bench").groups
    assert len(groups) == 5 and len({kind for kinds in groups.values() for kind in kinds}) == 11
    assert sum(map(len, groups.values())) == 11


def diorrsvg(folder, numbers, split="test"):
    (folder / "Annotations").mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.txt").write_text("".join(f"{n}\n" for n in numbers))
    return find_benchmark("dior-rsvg")(folder, split)


def test_the_splits_of_dior_rsvg_are_told_apart(tmp_path):
    # Both are partitions of the same 38,320 numbers: sizes and characters add up to theirs.
    every = sum(len(f"{n}\n") for n in range(38_320))
    for named in set(_SPLITS.values()):
        parts = [key for key, value in _SPLITS.items() if value == named]
        assert sum(size for size, _ in parts) == 38_320 and sum(characters for _, characters in parts) == every
    # A list of as many numbers with as many characters is taken for the split, whatever its order; others are not.
    numbers = np.random.default_rng(0).permutation(range(10_000, 38_320))[:7500].tolist()
    short = 7500 * 6 - 42_873
    numbers[:short] = range(1000, 1000 + short)
    told = diorrsvg(tmp_path, numbers).metadata()
    text = "".join(f"{n}\n" for n in sorted(numbers))
    assert told == {
        "split": "present (26,991 / 3,829 / 7,500)", "split_hash": hashlib.sha256(text.encode()).hexdigest()
    }  # fmt: skip
    numbers[0] = 99
    other = diorrsvg(tmp_path, numbers).metadata()
    assert other["split"] == "unknown" and other["split_hash"] != told["split_hash"]
