"""Benchmarks in their official formats become questions with answers, or one clear line."""

import json

import pytest
from tests.evaluation.bench import lhrs_bench, picture

from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.benchmark import benchmark_names, find_benchmark
from lhrs.evaluation.benchmarks._options import split_options
from lhrs.metrics.metric import load_metrics


@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_says_what_it_is(name, tmp_path):
    found = find_benchmark(name)
    assert found.name() == name and found.metric in load_metrics() and (found.__doc__ or "").strip()
    assert found.homepage.startswith("http") and found.license and found.layout and found.download_hint.endswith(".")
    with pytest.raises(DataError, match=r"does not exist\. Expected") as error:
        found(tmp_path / "nowhere")
    assert found.download_hint in str(error.value)
    with pytest.raises(DataError):
        found(tmp_path).items()


def test_unknown_names_name_their_neighbour():
    with pytest.raises(ConfigError, match="eurosat"):
        find_benchmark("eurosatt")


def test_lhrs_bench(tmp_path):
    items = find_benchmark("lhrs-bench")(lhrs_bench(tmp_path)).items()
    assert len(items) == 60 and len({item.id for item in items}) == 60
    assert items[1].options == ("a river", "roads", "the U.S. base", "trees")
    assert items[1].answer == 1 and items[1].type == "identity|quantity" and items[0].type == "location"
    content = json.loads((tmp_path / "qa.json").read_text())
    content["data"][0]["qa_pairs"][0]["answer"] = "E."
    (tmp_path / "qa.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="answer E of 4 options in question 0"):
        find_benchmark("lhrs-bench")(tmp_path).items()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("A. one; B. two; C. three.", ["one", "two", "three"]),
        ("A) one\nB) two", ["one", "two"]),
        ("A. 3 m B. 4.5 m C. A. Smith's", ["3 m", "4.5 m", "A. Smith's"]),
    ],
)
def test_options_are_split_at_their_letters(text, options):
    assert split_options(text) == options


def test_dior_rsvg_counts_every_expression_of_its_split(tmp_path):
    (tmp_path / "Annotations").mkdir()
    for n in range(3):
        thing = ("<object><name>ship</name><bndbox><xmin>{}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
                 "<description>The ship {}</description></object>")  # fmt: skip
        body = thing.format(n, 2 * n) + thing.format(n + 5, 2 * n + 1)
        (tmp_path / f"Annotations/{n:05d}.xml").write_text(
            f"<annotation><filename>{n:05d}.jpg</filename>{body}</annotation>"
        )
    (tmp_path / "test.txt").write_text("1\n4\n5\n")
    items = find_benchmark("dior-rsvg")(tmp_path).items()
    assert [(i.id, i.question, i.answer) for i in items] == [
        ("1", "The ship 1", (5, 2, 30, 40)),
        ("4", "The ship 4", (2, 2, 30, 40)),
        ("5", "The ship 5", (7, 2, 30, 40)),
    ]
    (tmp_path / "test.txt").write_text("99")
    with pytest.raises(DataError, match=r"names 1 expressions, .* has 6"):
        find_benchmark("dior-rsvg")(tmp_path).items()


def test_rsvg_is_scored_in_pixels(tmp_path):
    picture(tmp_path / "RSVG_Image/1.jpg")
    row = {"img": "1.jpg", "question": "[VG] the white car", "answer": "[0.25, 0.50, 0.75, 1.00]"}
    (tmp_path / "RSVG_test.json").write_text(json.dumps([row]))
    (item,) = find_benchmark("rsvg")(tmp_path).items()
    assert item.question == "the white car" and item.answer == pytest.approx((20, 30, 60, 60))
    (tmp_path / "RSVG_test.json").write_text(json.dumps([{**row, "answer": "somewhere"}]))
    with pytest.raises(DataError, match="entry 0 is not one box"):
        find_benchmark("rsvg")(tmp_path).items()


def test_a_scene_benchmark_has_all_its_classes(tmp_path):
    for n in range(10):
        picture(tmp_path / f"class{n}/a.png")
    items = find_benchmark("eurosat")(tmp_path).items()
    assert len(items) == 10 and len(items[0].options) == 10
    with pytest.raises(DataError, match="has 10 classes, aid has 30"):
        find_benchmark("aid")(tmp_path).items()


def test_real_data(shared_data):
    counts = {"eurosat": ("eurosat", None, 2000), "ucmerced": ("ucmerced", None, 164),
              "ucm-captions": ("ucmerced", None, 164), "rsvqa-lr": ("rsvqa/RSVQA-LR", "val", 100),
              "rsvqa-hr": ("rsvqa/RSVQA-HR", "val", 100)}  # fmt: skip
    for name, (path, split, least) in counts.items():
        items = find_benchmark(name)(shared_data / path, split).items()
        assert len(items) >= least and len({item.id for item in items}) == len(items), name
        if name == "ucm-captions":  # and no answers to questions
            assert all(len(item.answer) == 5 and min(map(len, item.answer)) > 15 for item in items)


def test_vrsbench(tmp_path):
    picture(tmp_path / "Images_val/P1.png", (200, 100))
    one = {"image_id": "P1.png"}
    rows = {
        "vqa": [{**one, "question": "Is it day?", "ground_truth": "Yes", "type": "scene", "question_id": 7}],
        "referring": [{**one, "question": "The ship", "ground_truth": "{<10><20><50><60>}", "is_unique": 1}],
        "Cap": [{**one, "question": "Describe the image in detail", "ground_truth": "A port."}],
    }
    for name, content in rows.items():
        (tmp_path / f"VRSBench_EVAL_{name}.json").write_text(json.dumps(content))
    (item,) = find_benchmark("vrsbench-vqa")(tmp_path).items()
    assert (item.id, item.answer, item.type) == ("7", "Yes", "scene")
    (item,) = find_benchmark("vrsbench-referring")(tmp_path).items()
    assert item.answer == pytest.approx((20, 20, 100, 60)) and item.type == "unique"
    (item,) = find_benchmark("vrsbench-caption")(tmp_path).items()
    assert item.answer == ("A port.",) and item.question == "Describe the image in detail"
    rows["referring"][0]["ground_truth"] = "[10, 20, 50, 60]"
    (tmp_path / "VRSBench_EVAL_referring.json").write_text(json.dumps(rows["referring"]))
    with pytest.raises(DataError, match="entry 0 is not VRSBench's"):
        find_benchmark("vrsbench-referring")(tmp_path).items()
