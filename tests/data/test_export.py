"""What is exported to another tool's format comes back from our reader of that format."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from lhrs.cli.data import app
from lhrs.data.dataset import ObjectPolygon, box_corners, detect_format, open_dataset
from lhrs.data.export import export_dataset, export_names
from lhrs.data.exporters.geojson import Geojson
from lhrs.data.oriented_boxes import as_rectangle, obb_corners, outline_box, turn_rectangle
from lhrs.data.writers import write_samples
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.schema import Box, Sample

READERS = {
    "coco": "coco_boxes", "yolo": "yolo", "yolo-obb": "yolo", "voc": "voc", "labelme": "labelme",
    "label-studio": "label_studio", "geojson": "geojson_boxes",
}  # fmt: skip
KEEPS = {
    "coco": {"corners", "crowd", "confidence"}, "yolo": set(), "yolo-obb": {"corners"}, "voc": {"corners"},
    "labelme": {"corners", "crowd", "confidence", "labels"},
    "label-studio": {"corners", "crowd", "confidence", "labels"}, "geojson": {"corners", "crowd", "confidence"},
}  # fmt: skip
SIZES = [(100, 60), (37, 90)]
PNG = [f"{n}.png" for n in range(len(SIZES))]


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """Two images of different sides, georeferenced by a world file."""
    folder = tmp_path_factory.mktemp("images")
    for name, size in zip(PNG, SIZES, strict=True):
        Image.new("RGB", size).save(folder / name)
        (folder / name).with_suffix(".pgw").write_text("0.5\n0\n0\n-0.5\n500000\n5200000\n")
        (folder / name).with_suffix(".prj").write_text("EPSG:32632")
    return folder


def write_dataset(folder, images, rows):
    """Write samples of our own format: lists of boxes for each image, with a split and scene classes."""
    samples = [
        Sample(id=f"s/{n}", images=[str(images / PNG[n])], boxes=boxes, labels=labels, split=split, source="s",
               license="CC0-1.0")
        for n, (boxes, split, labels) in enumerate(rows)
    ]  # fmt: skip
    write_samples(samples, folder / "data.jsonl")
    return open_dataset(folder / "data.jsonl")


def written(box: Box, target: str) -> Box | None:
    """Return the box as the format keeps it."""
    lost = {"corners", "confidence"} - KEEPS[target]
    if box.crowd and "crowd" not in KEEPS[target]:
        return None
    return box.model_copy(update=dict.fromkeys(lost))


def is_same(a: Box, b: Box, atol: float) -> bool:
    if (a.label, a.crowd, a.corners is None) != (b.label, b.crowd, b.corners is None):
        return False
    same = np.allclose(a.xyxy, b.xyxy, rtol=0, atol=atol)
    if a.corners is not None and b.corners is not None:
        near = np.abs(np.array(a.corners)[:, None] - np.array(b.corners)[None]).max(2)
        same &= bool(near.min(0).max() <= atol and near.min(1).max() <= atol)
    return same and a.confidence == pytest.approx(b.confidence)


names = st.sampled_from(["ship", "storage tank", "Großer Kran", "no", "1", "a, b: c <&>"])
confidences = st.none() | st.floats(0, 1, allow_subnormal=False)
coordinates = st.floats(0, 1)


@st.composite
def boxes_on(draw, size):
    """A box inside an image: upright or oriented."""
    width, height = size
    values = {"confidence": draw(confidences), "crowd": draw(st.booleans())}
    label = draw(names)
    if draw(st.booleans()):
        x, y = draw(coordinates) * (width - 4), draw(coordinates) * (height - 4)
        w, h = 3 + draw(coordinates) * (width - x - 4), 3 + draw(coordinates) * (height - y - 4)
        return Box(label=label, xyxy=(x, y, x + w, y + h), **values)
    radius = min(size) / 3
    center = tuple(radius + draw(coordinates) * (side - 2 * radius) for side in size)
    angle, across = draw(st.floats(-7, 7)), 3 + draw(coordinates) * (radius - 3)
    corners = obb_corners(center, (radius, across), angle)
    return outline_box(label, corners, **values)


@st.composite
def datasets(draw):
    has_splits = draw(st.booleans())
    rows = []
    for size in SIZES:
        split = draw(st.sampled_from(["train", "val"])) if has_splits else None
        rows.append((draw(st.lists(boxes_on(size), max_size=4)), split, draw(st.lists(names, max_size=2, unique=True))))
    return rows


@pytest.mark.parametrize("target", READERS)
@given(rows=datasets())
@settings(max_examples=12, deadline=None)
def test_what_is_written_is_read_again(tmp_path_factory, images, target, rows):
    folder = tmp_path_factory.mktemp("export")
    data = write_dataset(folder, images, rows)
    assert export_dataset(data, folder / "out", target) == len(SIZES)
    samples = list(open_dataset(folder / "out", READERS[target]))
    by_name = {Path(sample.images[0]).name: sample for sample in samples}
    assert by_name.keys() == set(PNG) and len(samples) == len(PNG)
    for name, (boxes, split, labels) in zip(PNG, rows, strict=True):
        sample = by_name[name]
        expected = [box for box in (written(box, target) for box in boxes) if box is not None]
        assert sample.split == split
        assert len(sample.boxes) == len(expected)
        atol = 1e-3 if target == "geojson" else 1e-6
        assert all(is_same(a, b, atol) for a, b in zip(sample.boxes, expected, strict=True))
        assert sample.labels == (labels if "labels" in KEEPS[target] else [])
        assert (Path(sample.images[0]).read_bytes()) == (images / name).read_bytes()


@given(st.tuples(coordinates, coordinates, coordinates, coordinates, st.floats(0, 359)))
def test_rectangles_are_found_in_their_corners(values):
    x, y, width, height, degrees = values
    corners = turn_rectangle((x * 99, y * 99, 1 + width * 99, 1 + height * 99, degrees))
    again = as_rectangle(corners)
    assert again is not None and np.allclose(turn_rectangle(again), corners, rtol=0, atol=1e-9)
    assert as_rectangle(corners[::-1]) is None  # counterclockwise: its sides would be swapped
    assert as_rectangle(corners + np.array([[0, 0], [0, 0], [0.5, 0], [0, 0]])) is None


def test_upright_corners_are_no_orientation():
    corners = box_corners((1, 2, 3, 4))
    for order in (corners, corners[::-1], np.roll(corners, 1, 0), np.concatenate([corners, corners[:1]])):
        assert outline_box("a", order).corners is None
    assert outline_box("a", obb_corners((2, 2), (2, 1), 0.1)).corners is not None


@pytest.fixture
def dota(tmp_path):
    """A set of DOTA: quadrangles, one of them upright, one difficult; an image without objects."""
    for split, lines in {
        "train": "10 5 30 15 25 25 5 15 ship 1\n2 2 20 2 20 9 2 9 large vehicle 0\n",
        "val": "",
    }.items():
        path = tmp_path / f"dota/{split}/labelTxt/P1.txt"
        path.parent.mkdir(parents=True)
        path.write_text(lines)
        (path.parents[1] / "images").mkdir()
        Image.new("RGB", (64, 32)).save(path.parents[1] / "images/P1.png")
    return open_dataset(tmp_path / "dota")


@pytest.mark.parametrize("target", ["coco", "voc", "labelme", "label-studio"])
def test_difficult_flags_and_images_of_one_name_survive(tmp_path, dota, target):
    dropped = Dropped()
    export_dataset(dota, tmp_path / "out", target, dropped)
    data = open_dataset(tmp_path / "out")
    assert not len(dropped) and {sample.split for sample in data} == {"train", "val"}
    assert len({Path(sample.images[0]).stem for sample in data}) == 2
    first = [sample.split for sample in data].index("train")
    ship, vehicle = data.polygons(first)
    assert (ship.label, ship.difficult, vehicle.label, vehicle.difficult) == ("ship", True, "large vehicle", False)
    np.testing.assert_allclose(ship.points, [[10, 5], [30, 15], [25, 25], [5, 15]])
    assert [box.corners is None for box in data[first].boxes] == [False, True] and data[1 - first].boxes == []


def test_what_a_format_lacks_is_counted(tmp_path, dota):
    dropped = Dropped()
    export_dataset(dota, tmp_path / "out", "yolo", dropped)
    assert dropped.to_dict() == {"`difficult` flags of objects": 1, "corners of oriented boxes": 1}
    with pytest.raises(ConfigError, match="no image is georeferenced"):
        export_dataset(dota, tmp_path / "geo", "geojson")
    assert not (tmp_path / "geo").exists()


OUTLINE = [[10, 10], [40, 10], [40, 30], [20, 40], [10, 30]]


@pytest.fixture
def coco(tmp_path):
    """An outline, an outline of two parts, and a group."""
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    parts = [[1, 1, 5, 1, 5, 5], [10, 1, 15, 1, 15, 5]]
    annotations = [
        {"bbox": [10, 10, 30, 30], "segmentation": [np.ravel(OUTLINE).tolist()]}, {"segmentation": parts},
        {"bbox": [1, 2, 30, 40], "iscrowd": 1, "score": 0.5},
    ]  # fmt: skip
    rows = [{"id": n, "image_id": 1, "category_id": 7, **row} for n, row in enumerate(annotations)]
    content = {"images": [{"id": 1, "file_name": "a.png", "split": "holdout"}], "annotations": rows,
               "categories": [{"id": 7, "name": "roof"}]}  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return open_dataset(tmp_path / "coco.json")


@pytest.mark.parametrize("target", ["coco", "voc", "labelme", "label-studio"])
def test_outlines_survive_and_parts_are_counted(tmp_path, coco, target):
    dropped = Dropped()
    export_dataset(coco, tmp_path / "out", target, dropped)
    data = open_dataset(tmp_path / "out", READERS[target])
    np.testing.assert_allclose(data.polygons(0)[0].points, OUTLINE)
    assert data[0].boxes[1].xyxy == pytest.approx((1, 1, 15, 5)) and data[0].boxes[1].corners is None
    assert [box.crowd for box in data[0].boxes] == ([False, False, True] if target != "voc" else [False] * 2)
    lost = {"outlines of several parts": 1}
    lost |= {"boxes around groups of objects": 1} if target == "voc" else {}
    lost |= {"names of splits": 1} if target in ("coco", "labelme") else {}
    assert dropped.to_dict() == dict(sorted(lost.items()))
    assert data[0].split == (None if "names of splits" in lost else "holdout")


def test_yolos_yaml_is_ultralytics(tmp_path, images):
    boxes = [Box(label="b", xyxy=(10, 6, 30, 18)), Box(label="a", xyxy=(0, 0, 100, 60))]
    data = write_dataset(tmp_path, images, [(boxes, "train", []), ([], "valid", [])])
    export_dataset(data, tmp_path / "out", "yolo")
    config = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert config == {"train": "images/train", "val": "images/valid", "names": {0: "a", 1: "b"}}
    assert (tmp_path / "out/labels/train/0.txt").read_text() == "1 0.2 0.2 0.2 0.2\n0 0.5 0.5 1 1\n"
    assert (tmp_path / "out/labels/valid/1.txt").read_text() == ""


def test_files_of_voc_and_coco_have_their_conventions(tmp_path, images):
    boxes = [
        outline_box("ship", np.array([[10, 5], [30, 15], [25, 25], [5, 15]], float)),
        Box(label="a", xyxy=(0, 0, 2, 2)),
    ]
    data = write_dataset(tmp_path, images, [(boxes, None, []), ([], None, [])])
    export_dataset(data, tmp_path / "voc", "voc")
    text = (tmp_path / "voc/Annotations/0.xml").read_text()
    assert "<xmin>1</xmin>" in text and "<xmax>2</xmax>" in text and "<x_left_top>10</x_left_top>" in text
    export_dataset(data, tmp_path / "coco", "coco")
    content = json.loads((tmp_path / "coco/annotations.json").read_text())
    assert [row["bbox"] for row in content["annotations"]] == [[5, 5, 25, 20], [0, 0, 2, 2]]
    assert [row["area"] for row in content["annotations"]] == [250, 4]
    assert content["images"][1] == {"id": 2, "file_name": "1.png", "width": 37, "height": 90}


def test_geojson_has_longitude_and_latitude(tmp_path, images):
    data = write_dataset(tmp_path, images, [([Box(label="roof", xyxy=(10, 20, 30, 40))], None, []), ([], None, [])])
    export_dataset(data, tmp_path / "out", "geojson")
    (feature,) = json.loads((tmp_path / "out/0.geojson").read_text())["features"]
    longitude, latitude = np.array(feature["geometry"]["coordinates"][0]).mean(0)
    assert feature["properties"] == {"label": "roof"} and 8.99 < longitude < 9.01 and 46.9 < latitude < 47
    assert (tmp_path / "out/0.pgw").exists() and Geojson.homepage.startswith("http")


def test_samples_of_one_image_become_one(tmp_path, images):
    box, other = Box(label="a", xyxy=(1, 2, 30, 40)), Box(label="b", xyxy=(5, 6, 7, 8))
    rows = [Sample(id=f"s/{n}", images=[str(images / "0.png")], boxes=boxes, source="s", license="CC0-1.0")
            for n, boxes in enumerate([[box], [box, other]])]  # fmt: skip
    write_samples([*rows, Sample(id="s/9", turns=[{"role": "user", "text": "?"}], source="s", license="x")],
                  tmp_path / "data.jsonl")  # fmt: skip
    dropped = Dropped()
    assert export_dataset(open_dataset(tmp_path / "data.jsonl"), tmp_path / "out", "labelme", dropped) == 1
    assert open_dataset(tmp_path / "out")[0].boxes == [box, other]
    assert dropped.to_dict() == {"samples without an image": 1, "turns of conversations": 1}


def test_the_command_exports_and_prints_what_was_left_out(tmp_path, dota):
    assert set(READERS) <= set(export_names())
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["export", str(dota.root), "--out", str(out), "--for", "yolo-obb"])
    assert result.exit_code == 0 and f"{out}: 2 items for yolo-obb" in result.stderr
    assert "left out 1: 1 `difficult` flags of objects (P1.png)" in result.stderr
    assert detect_format(out) == "yolo"
    for name, why in {"out": "out exists already", "new": "--for yoyo is none of webdataset, coco"}.items():
        target = "yolo" if name == "out" else "yoyo"
        again = CliRunner().invoke(app, ["export", str(dota.root), "--out", str(tmp_path / name), "--for", target])
        assert isinstance(again.exception, ConfigError) and why in str(again.exception)


def test_a_missing_image_is_one_line_and_leaves_nothing(tmp_path, dota):
    Path(dota[0].images[0]).unlink()
    with pytest.raises(DataError, match=r"P1\.png") as error:
        export_dataset(dota, tmp_path / "out", "coco")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_polygons_of_several_parts_are_marked(coco):
    whole, parts = coco.polygons(0)
    assert isinstance(whole, ObjectPolygon) and (whole.num_parts, parts.num_parts) == (1, 2)
