"""The commands as people type them."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import records, run
from tests.embedded import EXAMPLES


def test_readme_command_is_right_about_the_example(lhrs, river, trained):
    done = lhrs("ask", river, "What is the land cover in this image?")
    assert "river" in done.stdout.lower() and "bands 1,2,3, uint8 as is" in done.stderr


def test_json_has_every_promised_key(lhrs, river, nano):
    (record,) = records(lhrs("ask", river, "Is there a river in this image?", "--options", "yes,no", "--json"))
    assert set(record) >= {
        "image",
        "question",
        "answer",
        "confidence",
        "boxes",
        "rendering",
        "model",
        "out_of_distribution",
    }
    assert record["image"] == str(river) and record["question"] == "Is there a river in this image?"
    assert record["answer"] in {"yes", "no"} and 0.5 <= record["confidence"] <= 1
    assert record["rendering"] == {
        "bands": [1, 2, 3], "scaling": "uint8 as is", "size": [256, 256], "image_size": [256, 256]
    }  # fmt: skip
    assert record["model"] == nano.name


def test_a_reduced_image_is_told(lhrs, tmp_path):
    Image.new("RGB", (3000, 2000), (60, 110, 50)).save(tmp_path / "large.png")
    done = lhrs("ask", tmp_path / "large.png", "Is there water?")
    assert "3000 x 2000 pixels reduced to 1024 x 683. `lhrs scene`" in " ".join(done.stderr.split())
    assert "reduced" not in lhrs("ask", EXAMPLES / "river.png", "Is there water?").stderr


def test_labels_come_back_exactly_as_given(lhrs, river, pictures):
    labels = ["SeaLake", "River_Bank", "annual crop", "km\u00b2"]
    found = records(lhrs("classify", river, pictures, "--labels", ",".join(labels), "--json"))
    assert len(found) == 12 and {r["answer"] for r in found} <= set(labels)


def test_files_and_folders_keep_their_order(lhrs, pictures, river):
    found = records(lhrs("classify", pictures, river, pictures / "tile_2.png", "--labels", "a thing,b", "--json"))
    names = [f"tile_{n}.png" for n in range(11)]
    assert [r["image"].rpartition("/")[2] for r in found] == [*names, "river.tif", "tile_2.png"]


def test_one_broken_image_does_not_lose_the_others(lhrs, pictures):
    (pictures / "tile_3.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done = lhrs("classify", pictures, "--labels", "forest,water", "--json", code=2)
    assert len(records(done)) == 10 and done.stderr.count("\n") == 1 and "tile_3.png" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "nowhere.tif", "what is it?"], "nowhere.tif"),
        (["ask", "examples/river.tif"], "question"),
        (["ask", "examples/river.tif", "x?", "--nonsense"], "--nonsense"),
        (["ask", "examples/river.tif", "x?", "--seed", "low"], "--seed"),
        (["ask", "examples/river.tif", "x?", "--options", "a,,b"], "empty"),
        (["ask", "examples/river.tif", "\u4ec0\u4e48" * 100 + ".tif"], "question"),
        (["ask", "examples/river.tif", "x?", "--model", "no-such-model"], "no-such-model"),
        (["ask", "examples/river.tif", "x?", "--model", "examples"], "config.json"),
        (["ground", "examples/river.tif", "the buildings", "--out", "x.txt"], ".geojson"),
        (["ground", "examples/river.tif", "the buildings", "--out", "no/such/x.png"], "folder"),
        (["ground", "examples", "the buildings", "--out", "x.png"], "one image"),
        (["ground", "examples/river.png", "the buildings", "--out", "examples/river.png"], "one of the images"),
        (["count", "examples/river.tif", "missing.tif"], "missing.tif"),
        (["chat", "nowhere.tif", "--model", "nowhere"], "nowhere"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments, words, monkeypatch):
    monkeypatch.chdir(EXAMPLES.parent)
    done = run(*arguments, code=2)
    assert done.stdout == "" and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "river.tif", "  "], "question"),
        (["ask", "river.tif", "x? " * 3000], "tokens"),
        (["ask", "river.tif", "x?", "--options", "only"], "two options"),
        (["classify", "river.tif", "--labels", "Sea,sea"], "same"),
    ],
)
def test_wrong_questions_are_one_clear_line(lhrs, arguments, words, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    done = lhrs(*arguments, code=2)
    assert done.stdout == "" and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr


def test_boxes_are_written_as_map_features_and_as_a_picture(lhrs, shared_data, tmp_path, trained):
    tile = sorted((shared_data / "banepa/train/oam").glob("*.tif"))[0]
    record = records(lhrs("ground", tile, "the buildings", "--json", "--out", tmp_path / "b.geojson"))[0]
    found = json.loads((tmp_path / "b.geojson").read_text())["features"]
    assert len(found) == len(record["boxes"]) > 0
    for (lon, lat), box in zip((f["geometry"]["coordinates"][0][0] for f in found), record["boxes"], strict=True):
        assert 85.4 < lon < 85.6 and 27.5 < lat < 27.8 and box["label"] == "buildings"
        x0, y0, x1, y1 = box["xyxy"]
        assert 0 <= x0 < x1 <= 512 and 0 <= y0 < y1 <= 512
    lhrs("ground", tile, "the buildings", "--out", tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").size == (512, 512)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.geojson", "b.png"]


def test_every_odd_raster_gives_an_answer_or_one_line(lhrs, shared_data):
    files = sorted(p for p in (shared_data / "geotiff_fixtures").rglob("*") if p.suffix in {".tif", ".tiff"})
    done = lhrs("classify", *files, "--labels", "land,water,cloud", "--json", code=2)
    complaints = done.stderr.splitlines()
    assert len(records(done)) + len(complaints) == len(files) > 20
    assert any("corrupt.tif" in line for line in complaints)
    assert all(record["rendering"]["scaling"] and len(record["rendering"]["bands"]) == 3 for record in records(done))


def test_drawn_answers_repeat_with_their_seed(talker, pictures):
    def answers(seed: int) -> str:
        labels = ("--labels", "a,b,c,d", "--model", talker)
        return run("classify", pictures, *labels, "--temperature", 5, "--seed", seed).stdout

    assert answers(1) == answers(1) != answers(2)


def test_torch_is_not_needed(river, flags):
    blocked = "import sys; sys.modules.update(torch=None, transformers=None); from lhrs.cli import main; main()"
    ask = [sys.executable, "-c", blocked, "ask", str(river), "Is there a river?", "--options", "yes,no", *flags]
    done = subprocess.run(ask, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() in {"yes", "no"}, done.stderr
    done = subprocess.run([*ask, "--model", "some/model"], capture_output=True, text=True)
    assert done.returncode == 2 and "lhrs[torch]" in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_progress_on_a_terminal_leaves_the_output_alone(pictures, flags):
    pty = pytest.importorskip("pty", reason="needs a Unix terminal")
    import os

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "lhrs", "classify", str(pictures), "--labels", "dark,bright", "--json", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, text=True, check=True)
    os.close(theirs)
    assert len(records(done)) == 11
    assert "asking" in os.read(ours, 100_000).decode()
    os.close(ours)


def test_python_in_three_lines(nano, river):
    import lhrs

    model = lhrs.load(nano)
    answer = model.ask(river, "Is there a river in this image?", ["yes", "no"])
    again = model.ask(str(river), answer.question, ["yes", "no"])
    assert answer.answer == again.answer and np.isclose(answer.confidence, again.confidence)


def test_the_model_knows_the_example(river, trained):
    import lhrs

    assert lhrs.load().ask(river, "Is there a river in this image?").answer == "yes"
