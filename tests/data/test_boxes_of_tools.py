"""COCO, VOC and DOTA as annotation tools really write them."""

import json

import numpy as np
import pytest
from PIL import Image

from lhrs.data.dataset import detect_format, open_dataset
from lhrs.errors import DataError


def picture(path, size=(128, 96)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def coco(path, annotations, images=("a.png",), **members):
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [e if isinstance(e, dict) else {"id": n + 1, "file_name": e} for n, e in enumerate(images)]
    rows = [{"id": n, "image_id": 1, "category_id": 1, **row} for n, row in enumerate(annotations)]
    content = {"images": entries, "annotations": rows, "categories": [{"id": 1, "name": "ship"}], **members}
    path.write_text(json.dumps(content))
    return path


def xyxy(sample):
    return [tuple(round(value, 2) for value in box.xyxy) for box in sample.boxes]


@pytest.mark.parametrize("degrees", [90, 30.5, "30.5", -329.5, 390.5])
def test_cvats_rotation_turns_a_box_about_its_center(tmp_path, degrees):
    path = coco(tmp_path / "coco.json", [{"bbox": [30, 30, 60, 12], "attributes": {"rotation": degrees}}])
    data = open_dataset(path)
    (polygon,) = data.polygons(0)
    angle = np.radians(90 if degrees == 90 else 30.5)
    np.testing.assert_allclose(polygon.points.mean(0), [60, 36])
    side = polygon.points[1] - polygon.points[0]  # the upper side, from left to right, turned clockwise
    np.testing.assert_allclose(side, [60 * np.cos(angle), 60 * np.sin(angle)], atol=1e-9)
    np.testing.assert_allclose(data[0].boxes[0].xyxy, [*polygon.points.min(0), *polygon.points.max(0)])


def test_a_rotation_of_nothing_changes_nothing(tmp_path):
    polygon = [10, 10, 40, 10, 40, 30]
    rows = [
        {"bbox": [30, 30, 60, 12], "attributes": {"rotation": 0.0}},
        {"bbox": [30, 30, 60, 12], "attributes": {}},
        {"bbox": [10, 10, 30, 20], "attributes": {"rotation": 45.0}, "segmentation": [polygon]},
    ]
    data = open_dataset(coco(tmp_path / "coco.json", rows))
    assert xyxy(data[0]) == [(30, 30, 90, 42), (30, 30, 90, 42), (10, 10, 40, 30)]
    assert data.polygons(0)[2].points.ravel().tolist() == polygon


def test_annotations_without_a_box_have_that_of_their_outline(tmp_path):
    mask = np.zeros((12, 10), bool)
    mask[3:7, 2:5] = True
    runs, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    mask_module = pytest.importorskip("pycocotools.mask")
    encoded = mask_module.encode(np.asfortranarray(mask.astype(np.uint8)))
    rows = [
        {"segmentation": [[30, 20, 80, 20, 80, 50], [90, 60, 95, 60, 95, 70]]},
        {"bbox": [], "segmentation": [[1, 2, 3, 2, 3, 4]]},
        {"bbox": None, "segmentation": {"size": [12, 10], "counts": runs}},
        {"segmentation": {"size": [12, 10], "counts": encoded["counts"].decode()}},
    ]
    data = open_dataset(coco(tmp_path / "coco.json", rows))
    assert xyxy(data[0]) == [(30, 20, 95, 70), (1, 2, 3, 4), (2, 3, 5, 7), (2, 3, 5, 7)]


def test_annotations_without_a_place_and_images_in_no_list_are_counted(tmp_path):
    for name in ("images/a.png", "images/sub/b.png", "images/sub/c.png", "images/d.PNG", "elsewhere/e.png"):
        picture(tmp_path / name)
    rows = [
        {"bbox": [1, 2, 3, 4]}, {}, {"bbox": []}, {"segmentation": []}, {"segmentation": [[]]}, {"keypoints": [1, 2]},
    ]  # fmt: skip
    path = coco(tmp_path / "coco.json", rows, ["a.png", "sub\\b.jpg", "sub\\gone.png"])
    data = open_dataset(path)
    assert xyxy(data[0]) == [(1, 2, 4, 6)] and len(data.polygons(0)) == 1
    assert data.dropped.to_dict() == {
        "annotations without a box or polygon": 5, "images that are not listed": 2, "keypoints of objects": 1,
    }  # fmt: skip
    assert data.dropped.examples["images that are not listed"] == ["images/d.PNG", "images/sub/c.png"]
    coco(tmp_path / "other.json", [], ["d.PNG"])  # its images are in the same folder
    assert data.dropped.to_dict().keys() - open_dataset(path).dropped.to_dict().keys() == {"images that are not listed"}


@pytest.mark.parametrize("counts", [[1, 2], "!!", [-1, 121], [120], None, "1"])
def test_broken_masks_are_one_line(tmp_path, counts):
    rows = [{"segmentation": {"size": [12, 10], "counts": counts}}]
    with pytest.raises(DataError, match="annotation 0 is broken") as error:
        open_dataset(coco(tmp_path / "coco.json", rows))[0]
    assert "\n" not in str(error.value)


def test_images_without_any_object_are_coco_too(tmp_path):
    coco(tmp_path / "coco.json", [])
    assert detect_format(tmp_path) == "coco_boxes" and open_dataset(tmp_path)[0].boxes == []


def test_image_ids_are_numbers_or_text(tmp_path):
    images = [{"id": "1", "file_name": "a.png"}, {"id": 0, "file_name": "b.png"}]
    rows = [{"bbox": [1, 2, 3, 4], "category_id": "1"}, {"image_id": "0", "bbox": [5, 5, 5, 5], "category_id": 0}]
    names = [{"id": 0, "name": "none"}, {"id": 1, "name": "ship"}]
    data = open_dataset(coco(tmp_path / "coco.json", rows, images, categories=names))
    assert [(sample.id[-5:], sample.boxes[0].label) for sample in data] == [("a.png", "ship"), ("b.png", "none")]
    rows += [{"image_id": "x", "bbox": [1, 1, 5, 5]}, {"image_id": 7, "bbox": [1, 1, 5, 5]}]
    with pytest.raises(DataError, match="annotations of image 7, which is not in the list of images"):
        open_dataset(coco(tmp_path / "coco.json", rows, images))
    with pytest.raises(DataError, match="1 ids belong to several images, the first is 1"):
        open_dataset(coco(tmp_path / "coco.json", [{"bbox": [1, 1, 5, 5]}], [*images, {"id": 1, "file_name": "c.png"}]))


@pytest.mark.parametrize(
    "name",
    ["train\\a.PNG", "train/a.PNG", ".\\train\\a.PNG", "C:\\data\\images\\train\\a.PNG", "/mnt/ds/images/train/a.PNG",
     "a", "images/train/a.PNG", "a.png", "train/a.jpg"],
)  # fmt: skip
def test_images_are_found_whoever_wrote_their_names(tmp_path, name):
    image = picture(tmp_path / ("images/train/a.PNG" if "train" in name else "images/a.PNG"))
    path = coco(tmp_path / "annotations/instances_default.json", [{"bbox": [1, 2, 3, 4]}], [name])
    (sample,) = open_dataset(path.parent.parent)
    assert sample.images == [str(image)] and "\\" not in sample.id


def test_roboflows_export_for_coco(tmp_path):
    for split in ("train", "valid", "test"):
        picture(tmp_path / f"{split}/{split}.rf.0a1b.jpg")
        coco(tmp_path / split / "_annotations.coco.json", [{"bbox": [1, 2, 3, 4]}], [f"{split}.rf.0a1b.jpg"])
    data = open_dataset(tmp_path)
    assert [sample.split for sample in data] == ["train", "valid", "test"]
    assert len({sample.id for sample in data}) == 3 and len({sample.source for sample in data}) == 1
    assert [sample.split for sample in open_dataset(tmp_path, split="val")] == ["valid"]
    assert [sample.split for sample in open_dataset(tmp_path / "valid")] == ["valid"]
    for split in ("train", "test"):
        (tmp_path / split / "_annotations.coco.json").unlink()
    assert [sample.split for sample in open_dataset(tmp_path)] == ["valid"]


OBJECT = "<object><name>ship</name>{}</object>"
BOX = "<bndbox><xmin>31</xmin><ymin>21</ymin><xmax>80</xmax><ymax>50</ymax></bndbox>"


def voc(root, *names, inner=BOX, file_name="{}.png"):
    for name in names:
        picture(root / f"JPEGImages/{name}.png")
        path = root / f"Annotations/{name}.xml"
        path.parent.mkdir(exist_ok=True)
        tag = f"<filename>{file_name.format(name)}</filename>"
        path.write_text(f"<annotation>{tag}{OBJECT.format(inner)}</annotation>")
    return root


def write_set(root, name, text, encoding="utf-8"):
    path = root / f"ImageSets/Main/{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def test_sets_of_classes_are_no_splits(tmp_path):
    voc(tmp_path, *"abcd")
    write_set(tmp_path, "train", "a\r\nb\r\n", "utf-8-sig")
    write_set(tmp_path, "val", "c\n", "utf-16")
    write_set(tmp_path, "trainval", "a\nb\nc\n")
    write_set(tmp_path, "test", "d.png\ngone\n")
    for split, text in {"train": "a  1\nb -1\n", "val": "c  0\n", "test": "d 1\n"}.items():
        write_set(tmp_path, f"ship_{split}", text)
        write_set(tmp_path, f"aeroplane_{split}", text)
    counts = {split: len(open_dataset(tmp_path, split=split)) for split in ("train", "val", "trainval", "test")}
    assert counts == {"train": 2, "val": 1, "trainval": 3, "test": 1}
    data = open_dataset(tmp_path)
    assert [sample.split for sample in data] == ["train", "train", "val", "test"]
    assert data.dropped.to_dict() == {"images of ImageSets without an annotation": 1}
    with pytest.raises(DataError, match="has no split 'ship_train'"):
        open_dataset(tmp_path, split="ship_train")


def test_only_sets_of_classes_make_the_splits_they_name(tmp_path):
    voc(tmp_path, "a 1", "b")
    write_set(tmp_path, "ship_train", "a 1 1\n")
    write_set(tmp_path, "ship_val", "b  -1\n")
    assert [(s.id[-3:], s.split) for s in open_dataset(tmp_path)] == [("a 1", "train"), ("0/b", "val")]


@pytest.mark.parametrize("file_name", ["{}", "{}.jpg", "C:\\images\\{}.png", "some/where/{}.PNG", "", "other"])
def test_images_of_voc_are_found(tmp_path, file_name):
    (sample,) = open_dataset(voc(tmp_path, "0001", file_name=file_name))
    assert sample.images == [str(tmp_path / "JPEGImages/0001.png")]


def test_difficult_objects_are_marked(tmp_path):
    for name, flag in {"a": "1", "b": "0", "c": " 1 "}.items():
        voc(tmp_path, name, inner=f"<difficult>{flag}</difficult>{BOX}")
    voc(tmp_path, "d")
    data = open_dataset(tmp_path)
    assert [data.polygons(n)[0].difficult for n in range(4)] == [True, False, True, False]
    assert data.polygons(0)[0].points.tolist() == [[30, 20], [80, 20], [80, 50], [30, 50]]


CORNERS = "".join(
    f"<x_{side}>{x}</x_{side}><y_{side}>{y}</y_{side}>"
    for side, x, y in [("left_top", 30, 30), ("right_top", 70, 20), ("right_bottom", 80, 40), ("left_bottom", 40, 50)]
)


@pytest.mark.parametrize(
    ("inner", "points"),
    [
        (f"<robndbox>{CORNERS}</robndbox>", [[30, 30], [70, 20], [80, 40], [40, 50]]),
        ("<robndbox><cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>1.5707963268</angle></robndbox>",
         [[55, 30], [55, 50], [45, 50], [45, 30]]),
        ("<polygon><x1>1</x1><y1>2</y1><x2>3</x2><y2>2</y2><x3>3</x3><y3>4</y3></polygon>", [[1, 2], [3, 2], [3, 4]]),
        ("<polygon><pt><x>1</x><y>2</y></pt><pt><x>3</x><y>2</y></pt><pt><x>3</x><y>4</y></pt></polygon>",
         [[1, 2], [3, 2], [3, 4]]),
    ],
)  # fmt: skip
def test_oriented_boxes_and_polygons(tmp_path, inner, points):
    data = open_dataset(voc(tmp_path, "a", inner=inner))
    np.testing.assert_allclose(data.polygons(0)[0].points, points, atol=1e-6)
    np.testing.assert_allclose(data[0].boxes[0].xyxy, [*np.min(points, 0), *np.max(points, 0)], atol=1e-6)


def test_parts_and_images_without_annotation_are_counted(tmp_path):
    part = "<part><name>bow</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    voc(tmp_path, "a", inner=BOX + part)
    picture(tmp_path / "JPEGImages/extra.png")
    data = open_dataset(tmp_path)
    for _ in range(2):  # counted once, however often it is read
        assert xyxy(data[0]) == [(30, 20, 80, 50)]
    assert data.dropped.to_dict() == {"images without an annotation": 1, "parts of objects": 1}


@pytest.mark.parametrize("inner", ["", "<polygon><x1>1</x1><y1>2</y1></polygon>", "<robndbox><cx>1</cx></robndbox>"])
def test_objects_without_a_box_are_one_line(tmp_path, inner):
    with pytest.raises(DataError, match=r"a\.xml is not VOC's XML of boxes") as error:
        open_dataset(voc(tmp_path, "a", inner=inner))[0]
    assert "\n" not in str(error.value)


def test_xml_next_to_images(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / f"{split}/{split}1.JPG")
        (tmp_path / f"{split}/{split}1.XML").write_text(f"<annotation>{OBJECT.format(BOX)}</annotation>")
    assert detect_format(tmp_path) == "voc"
    assert [(s.split, *xyxy(s)) for s in open_dataset(tmp_path)] == [
        ("train", (30, 20, 80, 50)), ("valid", (30, 20, 80, 50))]  # fmt: skip
    assert open_dataset(tmp_path / "valid")[0].split == "valid"


def test_names_of_dota_have_any_number_of_words(tmp_path):
    picture(tmp_path / "images/P1.PNG")
    quad = "30 20 80 20 80 50 30 50"
    lines = ["imagesource:GoogleEarth", "gsd:null", f"{quad} small vehicle 0", f"{quad} large vehicle 1",
             f"{quad} storage tank", f"{quad} ground track field 2", f"{quad} ship 1.0", f"{quad} type 7"]  # fmt: skip
    (tmp_path / "labelTxt").mkdir()
    (tmp_path / "labelTxt/P1.TXT").write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    picture(tmp_path / "images/P2.png")
    data = open_dataset(tmp_path)
    assert [(o.label, o.difficult) for o in data.polygons(0)] == [
        ("small vehicle", False), ("large vehicle", True), ("storage tank", False), ("ground track field", True),
        ("ship", True), ("type 7", False),
    ]  # fmt: skip
    assert data.dropped.to_dict() == {"images without an annotation": 1}


def test_coco_as_tables_and_tools_write_it(tmp_path):
    picture(tmp_path / "a b.png")
    rows = [{"bbox": [1, 2, 3, 4], "image_id": 1.0, "category_id": "1", "iscrowd": "0", "keypoints": [4, 4, 2]}]
    images = [{"id": 1, "file_name": "https://example.org/data/a%20b.png?size=1", "license": [1]}]
    path = coco(tmp_path / "coco.json", rows, images)
    path.write_bytes(path.read_text().encode("utf-16"))
    assert detect_format(tmp_path) == "coco_boxes"
    data = open_dataset(tmp_path)
    (sample,) = data
    assert xyxy(sample) == [(1, 2, 4, 6)] and not sample.boxes[0].crowd
    assert sample.images == [str(tmp_path / "a b.png")]
    assert data.dropped.to_dict() == {"keypoints of objects": 1}


def test_images_of_label_studio_are_found_by_the_path_in_their_address(tmp_path):
    image = picture(tmp_path / "images/tiles/a.png")
    images = [{"id": 1, "file_name": "/data/local-files/?d=set%2Ftiles%2Fa.png"}]
    assert open_dataset(coco(tmp_path / "coco.json", [], images))[0].images == [str(image)]


@pytest.mark.parametrize(
    ("flag", "expected"), [("true", True), (" Yes ", True), ("2", True), ("Unspecified", False), ("", False)]
)
def test_vocs_difficult_in_any_spelling(tmp_path, flag, expected):
    picture(tmp_path / "a.png")
    box = "<bndbox><xmax>20</xmax><ymax>30</ymax><xmin>5</xmin><ymin>6.5</ymin></bndbox>"
    text = f"<annotation><object><name>ship</name><difficult>{flag}</difficult>{box}</object></annotation>"
    (tmp_path / "a.xml").write_text(text)
    (polygon,) = open_dataset(tmp_path, "voc").polygons(0)
    assert polygon.difficult is expected and polygon.points.min(0).tolist() == [4, 5.5]


@pytest.mark.parametrize("name", ["", "<name/>", "<name> </name>"])
def test_an_object_of_voc_needs_a_name(tmp_path, name):
    picture(tmp_path / "a.png")
    box = "<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>20</xmax><ymax>30</ymax></bndbox>"
    (tmp_path / "a.xml").write_text(f"<annotation><object>{name}{box}</object></annotation>")
    with pytest.raises(DataError, match=r"a\.xml .*an object has no name"):
        open_dataset(tmp_path, "voc")[0]


def test_dotas_flags_are_words_and_confidences_are_refused(tmp_path):
    picture(tmp_path / "images/P1.png")
    (tmp_path / "labelTxt").mkdir()
    label = tmp_path / "labelTxt/P1.txt"
    label.write_text("1 1 9 1 9 5 1 5 small vehicle True\n1 1 9 1 9 5 1 5 Boeing 737\n1 1 9 1 9 5 1 5 ship False\n")
    polygons = open_dataset(tmp_path).polygons(0)
    found = [(polygon.label, polygon.difficult) for polygon in polygons]
    assert found == [("small vehicle", True), ("Boeing 737", False), ("ship", False)]
    label.write_text("1 1 9 1 9 5 1 5 ship 0.87\n")
    with pytest.raises(DataError, match=r"P1\.txt:1: not eight numbers and a class"):
        open_dataset(tmp_path)[0]


def test_a_crs_that_is_none_is_one_line(tmp_path):
    import rasterio

    options = {"width": 9, "height": 9, "count": 1, "dtype": "uint8", "crs": 32632}
    transform = rasterio.Affine(1, 0, 500000, 0, -1, 5650000)
    rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", transform=transform, **options).close()
    content = {"type": "FeatureCollection", "features": [], "crs": {"properties": {"name": "EPSG:4326x"}}}
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    with pytest.raises(DataError, match="its member `crs` is none that is known"):
        open_dataset(tmp_path, "geojson_boxes")[0]


def test_what_has_unusable_boxes_only_is_not_said_to_be_absent(tmp_path):
    from lhrs.instruct.collect import collect_annotations

    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    rows = [{"bbox": [40, 40, -9, -9]}, {"bbox": [1, 1, 9, 9], "image_id": 2}]
    coco(tmp_path / "coco.json", rows, ["a.png", "b.png"])
    faulty, right = collect_annotations(tmp_path)
    assert faulty.exhaustive == frozenset() and not faulty.objects and right.exhaustive == {"ship"}
