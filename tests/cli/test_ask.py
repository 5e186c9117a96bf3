"""The commands as people type them, with the embedded model."""

import json

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import lhrs, records


def test_readme_command_is_right_about_the_example(river):
    assert "river" in lhrs("ask", river, "What is the land cover in this image?").stdout.lower()


def test_json_has_every_promised_key(river):
    (record,) = records(lhrs("ask", river, "Is there a river in this image?", "--json"))
    assert set(record) >= {"image", "question", "answer", "confidence", "boxes", "view", "model"}
    assert record["answer"] == "yes" and 0.5 < record["confidence"] <= 1
    assert record["view"] == {"bands": [1, 2, 3], "scaling": "uint8 as is"} and record["model"] == "lhrs-nano"


def test_labels_come_back_exactly_as_given(river):
    labels = ["SeaLake", "River_Bank", "annual crop"]
    (record,) = records(lhrs("classify", river, "--labels", ",".join(labels), "--json"))
    assert record["answer"] in labels


def test_options_are_obeyed_whatever_they_are(river):
    done = lhrs("ask", river, "Which colour is it?", "--options", "Zyx,qqq", "--json")
    assert records(done)[0]["answer"] in {"Zyx", "qqq"}


def test_folders_are_answered_in_natural_order(pictures):
    names = [r["image"].rsplit("_", 1)[1] for r in records(lhrs("classify", pictures, "--json"))]
    assert names == [f"{n}.png" for n in range(11)]


def test_one_broken_image_does_not_lose_the_others(pictures):
    (pictures / "tile_3.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    done = lhrs("caption", pictures, "--json", code=2)
    assert len(records(done)) == 10 and done.stderr.count("\n") == 1 and "tile_3.png" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ask", "nowhere.tif", "what is it?"], "nowhere.tif"),
        (["ask", "examples/river.tif"], "question"),
        (["ask", "examples/river.tif", "  "], "question"),
        (["ask", "examples/river.tif", "x?", "--options", "only"], "two options"),
        (["ask", "examples/river.tif", "x?", "--options", "a,,b"], "empty"),
        (["ask", "examples/river.tif", "x?", "--model", "no-such-model"], "no-such-model"),
        (["classify", "examples/river.tif", "--labels", "Sea,sea"], "same"),
        (["ground", "examples/river.tif", "the buildings", "--out", "x.txt"], ".geojson"),
        (["ground", "examples/river.tif", "the buildings", "--out", "no/such/x.png"], "folder"),
        (["count", "examples/river.tif", "missing.tif"], "missing.tif"),
    ],
)
def test_wrong_input_is_one_clear_line(arguments, words, monkeypatch):
    from tests.cli.conftest import EXAMPLES

    monkeypatch.chdir(EXAMPLES.parent)
    done = lhrs(*arguments, code=2)
    assert done.stdout == "" and done.stderr.count("\n") == 1 and words in done.stderr, done.stderr


def test_unknown_flags_and_commands_exit_with_2(river):
    lhrs("ask", river, "x?", "--nonsense", code=2)
    lhrs("nonsense", code=2)


def test_boxes_are_written_as_map_features_and_as_a_picture(shared_data, tmp_path):
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


def test_a_picture_without_a_place_has_no_geojson(shared_data, tmp_path):
    tile = sorted((shared_data / "banepa/train/oam").glob("*.tif"))[0]
    from lhrs.imagery.open import open_image

    Image.fromarray(open_image(tile).pixels).save(tmp_path / "plain.png")
    done = lhrs("ground", tmp_path / "plain.png", "the buildings", "--out", tmp_path / "b.geojson", code=2)
    assert "not georeferenced" in done.stderr and not (tmp_path / "b.geojson").exists()


def test_every_odd_raster_gives_an_answer_or_one_line(shared_data):
    files = sorted(p for p in (shared_data / "geotiff_fixtures").rglob("*") if p.suffix in {".tif", ".tiff"})
    done = lhrs("ask", *files, "what is it?", "--json", code=2)
    complaints = done.stderr.splitlines()
    assert len(records(done)) + len(complaints) == len(files) > 20
    assert any("corrupt.tif" in line for line in complaints)


def test_drawn_answers_repeat_with_their_seed(pictures):
    run = lambda seed: lhrs("caption", pictures, "--json", "--temperature", 1.5, "--seed", seed).stdout  # noqa: E731
    assert run(1) == run(1) != run(2)


def test_torch_is_not_needed(river):
    blocked = "import sys; sys.modules.update(torch=None, transformers=None); from lhrs.cli import main; main()"
    import subprocess
    import sys

    command = [sys.executable, "-c", blocked, "ask", str(river), "Is there a river?"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "yes", done.stderr
    done = subprocess.run([*command, "--device", "cuda"], capture_output=True, text=True)
    assert done.returncode == 2 and "lhrs[torch]" in done.stderr and "Traceback" not in done.stderr


def test_chat_keeps_going_switches_images_and_saves(river, pictures, tmp_path):
    typed = f"is there a river?\n/image {pictures / 'tile_0.png'}\n/nonsense\nwhat is it?\n/save {tmp_path}/t.jsonl\n"
    done = lhrs("chat", river, stdin=typed)
    assert done.stdout.splitlines()[0] == "yes" and "/nonsense" in done.stderr
    saved = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [r["question"] for r in saved] == ["what is it?"] and saved[0]["image"].endswith("tile_0.png")


def test_python_in_three_lines(river):
    import lhrs as package

    model = package.load()
    answer = model.ask(river, "Is there a river in this image?")
    assert answer.answer == "yes" and np.isclose(answer.confidence, model.ask(str(river), answer.question).confidence)
