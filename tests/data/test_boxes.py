"""One check of boxes: what lint names, builders leave out, cut and count."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from lhrs.cli.data import app as data_app
from lhrs.cli.instruct import app as instruct_app
from lhrs.data.boxes import check_boxes, usable_boxes, usable_polygons
from lhrs.data.dataset import ObjectPolygon, box_corners, open_dataset
from lhrs.dropped import Dropped
from lhrs.schema import Box

GOOD = (10.0, 10.0, 40.0, 30.0)
CASES = {
    "good": (GOOD, GOOD, {}),
    "on the edge": ((0.0, 0.0, 128.0, 96.0), (0.0, 0.0, 128.0, 96.0), {}),
    "rounded out": ((-0.5, 3.0, 128.9, 9.0), (0.0, 3.0, 128.0, 9.0), {}),
    "partly outside": ((100.0, 80.0, 160.0, 120.0), (100.0, 80.0, 128.0, 96.0),
                       {"parts of boxes beyond the image's edge": 1}),
    "reversed": ((50.0, 50.0, 30.0, 40.0), None, {"reversed boxes": 1}),
    "empty": ((10.0, 10.0, 10.0, 10.0), None, {"empty boxes": 1}),
    "a line": ((10.0, 10.0, 60.0, 10.0), None, {"empty boxes": 1}),
    "outside": ((200.0, 10.0, 250.0, 30.0), None, {"boxes outside their image": 1}),
    "outside, left": ((-30.0, 10.0, 0.0, 30.0), None, {"boxes outside their image": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_boxes_are_kept_cut_or_left_out(name):
    box, kept, counts = CASES[name]
    dropped = Dropped()
    boxes = usable_boxes([Box(label="ship", xyxy=box), Box(label="other", xyxy=GOOD)], (128, 96), dropped, "i")
    assert [b.xyxy for b in boxes] == [*([kept] if kept else []), GOOD]
    assert dropped.to_dict() == counts


def test_polygons_stay_whole():
    dropped = Dropped()
    polygons = [ObjectPolygon("a", box_corners(CASES[name][0])) for name in ("partly outside", "empty", "outside")]
    assert usable_polygons(polygons, (128, 96), dropped, "i") == polygons[:1]
    assert dropped.to_dict() == {"boxes outside their image": 1, "empty boxes": 1}


def test_without_a_size_nothing_is_outside():
    faults = check_boxes(np.array([[200.0, 0, 300, 10]]), np.full((1, 2), np.nan))
    assert not (faults.reversed | faults.empty | faults.leaves | faults.outside).any()


@pytest.fixture
def coco(tmp_path):
    """A good image, one with every fault, one that is missing and one that is broken."""
    for name in ("good.png", "bad.png"):
        Image.new("RGB", (128, 96)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    images = [{"id": n, "file_name": f"{name}.png"} for n, name in enumerate(("good", "bad", "gone", "broken"))]
    boxes = [[0, GOOD]] + [[1, box] for box, _, _ in CASES.values()] + [[2, GOOD], [3, GOOD]]
    rows = [
        {"id": n, "image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for n, (image, (x1, y1, x2, y2)) in enumerate(boxes)
    ]
    names = [{"id": 1, "name": "ship"}, {"id": 2, "name": "harbor"}]
    (tmp_path / "coco.json").write_text(json.dumps({"images": images, "annotations": rows, "categories": names}))
    return tmp_path / "coco.json"


def run(app, *arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def test_instructions_are_built_of_what_lint_accepts(coco, tmp_path):
    out = tmp_path / "out.jsonl"
    stderr = run(instruct_app, "build", coco, "--out", out, "--max-per-image", 10).stderr
    assert "1 empty boxes" not in stderr and "2 empty boxes (" in stderr and "1 reversed boxes" in stderr
    manifest = json.loads((tmp_path / "out.manifest.json").read_text())
    assert manifest["dropped"] == {
        "boxes outside their image": 2, "empty boxes": 2, "parts of boxes beyond the image's edge": 1,
        "reversed boxes": 1, "samples whose image cannot be read": 1, "samples whose image does not exist": 1,
    }  # fmt: skip
    assert manifest["num_images"] == 2 and manifest["num_samples"] == len(out.read_text().splitlines())
    for sample in open_dataset(out):
        assert sample.images[0].endswith(("good.png", "bad.png"))
        for box in (box for turn in sample.turns for box in turn.boxes):
            x1, y1, x2, y2 = box.xyxy
            assert 0 <= x1 < x2 <= 128 and 0 <= y1 < y2 <= 96
    findings = run(data_app, "lint", coco, "--json", code=1).stdout
    codes = {json.loads(line)["code"] for line in findings.splitlines()}
    assert {"box-reversed", "box-empty", "box-outside", "missing-image", "broken-image"} <= codes
    again = run_error(instruct_app, "build", coco, "--out", out)
    assert "exists already" in again


def run_error(app, *arguments):
    with pytest.raises(Exception) as error:
        run(app, *arguments)
    return str(error.value)


def test_numbered_classes_are_not_asked_about(tmp_path):
    Image.new("RGB", (128, 96)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    assert "numbers its classes: name them in" in run_error(
        instruct_app, "build", tmp_path, "--out", tmp_path / "o.jsonl"
    )
    (tmp_path / "classes.txt").write_text("ship\n")
    run(instruct_app, "build", tmp_path, "--out", tmp_path / "o.jsonl")
    assert {box.label for s in open_dataset(tmp_path / "o.jsonl") for t in s.turns for box in t.boxes} == {"ship"}


def test_every_command_tells_what_was_left_out(tmp_path):
    root = tmp_path / "dota"
    for name in ("P1", "P2"):
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (128, 96)).save(root / f"images/{name}.png")
    (root / "labelTxt").mkdir()
    (root / "labelTxt/P1.txt").write_text("1 1 20 1 20 9 1 9 ship 0\n5 5 5 5 5 5 5 5 ship 0\n")
    told = "1 images without an annotation (images/P2.png)"
    assert run(data_app, "show", root).stdout.endswith(f"\nleft out 1: {told}\n")
    assert f"left out 1: {told}" in run(data_app, "lint", root, code=1).stderr
    assert told in run(data_app, "view", root, "--out", tmp_path / "page.html").stderr
    assert told in run(data_app, "export", root, "--out", tmp_path / "shards").stderr
    stderr = run(data_app, "tile", root, "--out", tmp_path / "tiles", "--size", 64, "--overlap", 8).stderr
    assert told in stderr and "1 empty boxes (dota/P1)" in stderr
