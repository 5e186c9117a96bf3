"""Scores, renderings and reports of the tables of lhrs-nano."""

import json

import numpy as np
import pytest
from dev.nano_tables.renderings import CHANGES
from dev.nano_tables.report import Section, markdown, read_scores, write
from dev.nano_tables.scores import (
    as_number,
    balanced_accuracy,
    balanced_interval,
    f1,
    f1_interval,
    fold,
    majority_by_set,
    match_boxes,
    others,
)
from dev.nano_tables.subject import read_coco, read_samples, sample
from dev.nano_tables.windows import COVERS, judged_shares, shares_of

from lhrs.perception.evidence import Evidence
from lhrs.perception.vocabulary import COVER


def test_spellings_of_a_class_are_the_same():
    assert fold("Sea_or Lake.") == fold("seaorlake") == "seaorlake"
    assert fold("river") != fold("rivers")


def test_balanced_accuracy_ignores_how_frequent_an_answer_is():
    right = ["yes"] * 9 + ["no"]
    assert balanced_accuracy(right, ["yes"] * 10) == 0.5
    assert balanced_accuracy(right, right) == 1
    assert balanced_accuracy(["yes", "no"], ["Yes.", "I can't tell."]) == 0.5
    low, high = balanced_interval(["yes", "no"] * 50, ["yes", "yes", "no", "no"] * 25)
    assert low < 0.5 < high and high - low < 0.3


def test_the_majority_is_that_of_each_set():
    assert majority_by_set(["a", "a", "a", "b", "b"], ["yes", "no", "no", "yes", "no"]) == ["no"] * 3 + ["no"] * 2
    assert majority_by_set(["a", "b"], ["yes", "no"]) == ["yes", "no"]


def test_a_box_is_matched_once():
    real = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], float)
    twice = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]], float)
    assert match_boxes(twice, real) == 1
    assert match_boxes(real, real) == 2
    assert match_boxes(real[:0], real) == 0


def test_f1_is_of_all_boxes_of_all_images():
    counts = np.array([[1, 1, 1], [0, 3, 1]])
    assert f1(counts) == pytest.approx(2 / 6)
    low, high = f1_interval(counts)
    assert low == 0 and high == 1
    assert f1(np.zeros((2, 3), int)) == 0


@pytest.mark.parametrize(("text", "number"), [("12", 12), (" 3. ", 3), ("There are 5 of them.", 0), ("none", 0)])
def test_a_count_is_a_number_alone(text, number):
    assert as_number(text) == number


def test_every_row_gets_the_image_of_another():
    for count in (2, 3, 50):
        rows = others(count, 1)
        assert sorted(rows) == list(range(count))
        assert (rows != np.arange(count)).all()


def test_a_sample_depends_on_the_limit_alone_and_keeps_the_order():
    items = list("abcdefghij")
    assert sample(items, None) == items
    assert sample(items, 4) == sample(items, 4) == sorted(sample(items, 4))
    assert len(sample(items, 4)) == 4


def test_changes_keep_the_type_and_change_the_image():
    pixels = np.random.default_rng(0).integers(20, 200, (32, 48, 3), dtype=np.uint8)
    results = {name: change(pixels) for name, change in CHANGES.items()}
    for name, result in results.items():
        assert result.dtype == np.uint8 and result.shape[2] == 3
        assert (name == "as it is") == np.array_equal(result, pixels)
    assert results["scale x0.25"].shape == (8, 12, 3) and results["scale x4"].shape == (128, 192, 3)
    assert results["black border"].shape == (44, 60, 3) and not results["black border"][:6].any()
    assert (results["gray"] == results["gray"][..., :1]).all()
    bands = np.percentile(results["stretch 2-98 % per band"], (2, 98), axis=(0, 1))
    assert (bands[0] <= 2).all() and (bands[1] >= 253).all()
    symmetries = [results[name].tobytes() + bytes(results[name].shape) for name in ["as it is", *list(CHANGES)[-7:]]]
    assert len(set(symmetries)) == 8


def test_shares_are_of_the_judged_covers():
    cover = np.zeros((len(COVER), 2, 2), np.float32)
    cover[COVER.index("water"), 0] = 1
    cover[COVER.index("crops"), 1, 0] = 1
    cover[COVER.index("paved"), 1, 1] = 1
    model = shares_of(Evidence({}, {}, COVER, cover))
    assert model.tolist() == [50, 0, 25, 25, 0]
    judged = judged_shares([{"shares": dict(zip(COVERS, (10, 20, 30, 40, 0), strict=True))}])
    assert judged.tolist() == [[10, 20, 30, 40, 0]]


def test_boxes_of_prepared_files(tmp_path):
    coco = {"images": [{"id": 7, "file_name": "a.png"}, {"id": 8, "file_name": "b.png"}],
            "annotations": [{"image_id": 7, "bbox": [1, 2, 3, 4]}]}  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(coco))
    files, boxes = read_coco(tmp_path / "c.json", None)
    assert files == [tmp_path / "a.png", tmp_path / "b.png"]
    assert boxes[0].tolist() == [[1, 2, 4, 6]] and boxes[1].shape == (0, 4)
    rows = [{"images": ["a.png"], "boxes": [{"xyxy": [0, 0, 1, 1]}], "split": s} for s in ("train", "test")]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files, boxes = read_samples(tmp_path / "s.jsonl", None)
    assert files == [tmp_path / "a.png"] and boxes[0].tolist() == [[0, 0, 1, 1]]


def test_a_section_is_written_with_intervals_and_read_again(tmp_path):
    section = Section("Presence", notes=["A note."])
    section.add_accuracy("water", [True] * 8 + [False] * 2, blind=0.5)
    section.add_mean("count", [1.0, 3.0], "error")
    text = markdown(section, "nano", "python -m dev.nano_tables", "abc")
    assert "| water | accuracy | 10 | **0.800** | 0.490 - 0.943 | blind 0.500 |" in text
    assert "python -m dev.nano_tables" in text and "`abc`" in text and text.endswith("- A note.\n")
    write(section, "presence", tmp_path, "nano", "python", "abc")
    assert read_scores(tmp_path / "presence.json") == {("water", "accuracy"): 0.8, ("count", "error"): 2.0}
    assert read_scores(tmp_path / "missing.json") == {}
