"""Boxes and expressions as annotation tools and public sets write them, in files of their layouts."""

import json

import numpy as np
import pytest
from PIL import Image

from lhrs.data.dataset import detect_format, open_dataset
from lhrs.data.writers import write_samples
from lhrs.errors import DataError


def picture(path, size=(200, 100)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def write(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode(encoding))
    return path


def boxes(sample):
    return [(box.label, *[round(value, 3) for value in box.xyxy]) for box in sample.boxes]


def corners(box):
    return np.round(box.corners, 6).tolist()


def survive_jsonl(data, folder):
    """Assert that all samples come back from our own format."""
    write_samples(list(data), folder / "out/all.jsonl")
    assert list(open_dataset(folder / "out/all.jsonl")) == list(data)


RSVG_XML = """<annotation><filename>{name}</filename><source><database>DIOR</database></source>{objects}</annotation>"""
RSVG_OBJECT = """<object><name>{}</name><pose>Unspecified</pose><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox><description>{}</description></object>"""


@pytest.fixture
def dior_rsvg(tmp_path):
    objects = [("ship", 10, 20, 30, 40, "A white ship"), ("harbor", 0, 0, 90, 80, "The harbor on the left"),
               ("ship", 50, 20, 70, 40, "The ship on the right of the white ship")]  # fmt: skip
    for name, part in {"00001": objects[:2], "00002": objects[2:]}.items():
        picture(tmp_path / f"JPEGImages/{name}.jpg")
        text = "".join(RSVG_OBJECT.format(*item) for item in part)
        write(tmp_path / f"Annotations/{name}.xml", RSVG_XML.format(name=f"{name}.jpg", objects=text))
    return tmp_path


def test_dior_rsvg_keeps_expressions(dior_rsvg):
    for split, numbers in {"train": "0\n", "val": "2\n", "test": "1\n"}.items():
        write(dior_rsvg / f"{split}.txt", numbers)
    assert detect_format(dior_rsvg) == "dior_rsvg"
    data = open_dataset(dior_rsvg)
    assert [(s.split, s.turns[1].text, s.task) for s in data] == [
        ("train", "A white ship", "grounding"), ("test", "The harbor on the left", "grounding"),
        ("val", "The ship on the right of the white ship", "grounding"),
    ]  # fmt: skip
    first = data[0]
    assert boxes(first) == [("ship", 10, 20, 30, 40)] and first.turns[1].boxes == first.boxes
    assert first.turns[0].text == "Give the box of this object: A white ship"
    assert first.images == [str(dior_rsvg / "JPEGImages/00001.jpg")]
    assert [s.id[-2:] for s in open_dataset(dior_rsvg, split="test")] == ["/1"]
    assert not len(data.dropped)
    survive_jsonl(data, dior_rsvg)


def test_dior_rsvg_without_lists_and_with_short_ones(dior_rsvg):
    assert [s.split for s in open_dataset(dior_rsvg)] == [None] * 3
    write(dior_rsvg / "train.txt", "0\n2\n")
    data = open_dataset(dior_rsvg)
    assert len(data) == 2 and data.dropped.to_dict() == {"expressions in no list": 1}
    write(dior_rsvg / "test.txt", "7\n")
    with pytest.raises(DataError, match="its lists name expression 7, but there are 3 in all"):
        open_dataset(dior_rsvg)
    write(dior_rsvg / "test.txt", "1\nx\n")
    with pytest.raises(DataError, match=r"test\.txt:2: not the number of an expression: 'x'"):
        open_dataset(dior_rsvg)


def test_broken_dior_rsvg_is_one_line(dior_rsvg):
    nameless = RSVG_OBJECT.format("a", 1, 2, 3, 4, "")
    write(dior_rsvg / "Annotations/00003.xml", RSVG_XML.format(name="x", objects=nameless))
    with pytest.raises(DataError, match=r"00003\.xml is not DIOR-RSVG's XML \(an object needs name") as error:
        open_dataset(dior_rsvg, "dior_rsvg")
    assert "\n" not in str(error.value)


def test_rsvg_in_the_json_of_lhrs_bot(tmp_path):
    picture(tmp_path / "RSVG_Image/1.jpg")
    row = {"img": "1.jpg", "question": "[VG] A red roof near the road", "answer": "[0.1, 0.2, 0.5, 0.6]"}
    write(tmp_path / "RSVG_train.json", {"data": [row]})
    write(tmp_path / "RSVG_test.json", [{**row, "question": "[VG] Another"}])
    assert detect_format(tmp_path) == "lhrs_instruct"
    data = open_dataset(tmp_path)
    assert [(s.split, *(turn.text for turn in s.turns)) for s in data] == [
        ("test", "[VG] Another", "<box>"), ("train", "[VG] A red roof near the road", "<box>")]  # fmt: skip
    (box,) = data[1].turns[1].boxes
    assert box.label == "A red roof near the road" and box.xyxy == pytest.approx((20, 20, 100, 60))
    assert data[1].images == [str(tmp_path / "RSVG_Image/1.jpg")]
    assert [s.turns[0].text for s in open_dataset(tmp_path, split="test")] == ["[VG] Another"]
    survive_jsonl(data, tmp_path)


def test_lines_of_refgeo_keep_their_oriented_boxes(tmp_path):
    picture(tmp_path / "images/AVVG/1.png")
    quad = [[50, 10], [90, 50], [70, 70], [30, 30]]
    rows = [
        {"image_id": "1.jpg", "dataset": "AVVG", "question": "the long bus", "bbox": [30, 10, 90, 70], "poly": quad},
        {
            "image_id": "1.jpg",
            "dataset": "AVVG",
            "question": "a car",
            "bbox": [1, 2, 3, 4],
            "category": "car",
            "size": 1,
        },
    ]
    write(tmp_path / "metainfo/avvg_train.jsonl", "\n".join(map(json.dumps, rows)))
    assert detect_format(tmp_path) == "refgeo"
    data = open_dataset(tmp_path)
    assert corners(data[0].boxes[0]) == quad and boxes(data[0]) == [("object", 30, 10, 90, 70)]
    assert boxes(data[1]) == [("car", 1, 2, 3, 4)] and data[1].boxes[0].corners is None
    assert [s.split for s in data] == ["train"] * 2 and data.dropped.to_dict() == {"keys of expressions": 1}
    assert data[0].images == [str(tmp_path / "images/AVVG/1.png")]
    survive_jsonl(data, tmp_path)


SHIP = """<HRSC_Object><Object_ID>1</Object_ID><Class_ID>{}</Class_ID><difficult>{}</difficult><box_xmin>50</box_xmin>
<box_ymin>30</box_ymin><box_xmax>150</box_xmax><box_ymax>70</box_ymax><mbox_cx>100</mbox_cx><mbox_cy>50</mbox_cy>
<mbox_w>80</mbox_w><mbox_h>20</mbox_h><mbox_ang>{}</mbox_ang></HRSC_Object>"""
SYSDATA = """<HRSC2016><HRSC_Classes><HRSC_Class><Class_ID>100000001</Class_ID><Class_EngName>ship</Class_EngName>
</HRSC_Class><HRSC_Class><Class_ID>100000005</Class_ID><Class_EngName>|--)Nimitz class (CVN)</Class_EngName>
</HRSC_Class></HRSC_Classes></HRSC2016>"""


def hrsc(folder, name, *ships):
    picture(folder / f"AllImages/{name}.bmp")
    text = "".join(SHIP.format(*ship) for ship in ships)
    content = f"<HRSC_Image><Img_FileName>{name}</Img_FileName><HRSC_Objects>{text}</HRSC_Objects></HRSC_Image>"
    write(folder / f"Annotations/{name}.xml", content)


def test_hrsc2016(tmp_path):
    full = tmp_path / "FullDataSet"
    hrsc(full, "100000001", ("100000001", 0, 0.0), ("100000005", 1, np.pi / 6))
    hrsc(full, "100000002")
    for name, lines in {"train": "100000001\n", "trainval": "100000001\n100000002\n", "test": ""}.items():
        write(tmp_path / f"ImageSets/{name}.txt", lines)
    assert detect_format(tmp_path) == "hrsc2016"
    data = open_dataset(tmp_path)
    assert [s.split for s in data] == ["train", "trainval"] and len(open_dataset(tmp_path, split="trainval")) == 2
    straight, turned = data[0].boxes
    assert straight.label == turned.label == "ship" and straight.xyxy == (50, 30, 150, 70)
    along = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)])  # clockwise: to the right and down
    np.testing.assert_allclose(np.subtract(turned.corners[1], turned.corners[0]), 80 * along)
    np.testing.assert_allclose(np.mean(turned.corners, 0), [100, 50])
    assert [polygon.difficult for polygon in data.polygons(0)] == [False, True]
    survive_jsonl(data, tmp_path)
    write(full / "sysdata.xml", SYSDATA)
    assert [box.label for box in open_dataset(tmp_path)[0].boxes] == ["ship", "Nimitz class"]
    hrsc(full, "100000003", ("7", 0, 0.0))
    with pytest.raises(DataError, match=r"100000003\.xml: class '7' of object 0 is not in sysdata\.xml"):
        open_dataset(tmp_path)[2]


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>roofs</name><labels/></task></meta>
<image id="0" name="train/a.png" width="200" height="100">
<box label="ship" source="manual" occluded="0" xtl="30" ytl="40" xbr="90" ybr="52" rotation="30.5" z_order="0">
<attribute name="flag">red</attribute></box>
<box label="ship" occluded="0" xtl="1.5" ytl="2.5" xbr="20" ybr="30" z_order="0"></box>
<polygon label="roof" occluded="0" points="10.0,10.0;40.0,10.0;40.0,30.0;20.0,40.0;10.0,30.0" z_order="0"/>
<polygon label="roof" points="50,10;90,50;70,70;30,30"/>
<ellipse label="tank" cx="100" cy="50" rx="10" ry="5"/>
<mask label="lake" rle="1, 2" left="5" top="6" width="7" height="8"/>
<polyline label="road" points="1,1;2,2"/><points label="tree" points="1,1"/><tag label="port"/>
</image>
<image id="1" name="b.png" subset="Validation" width="200" height="100"/></annotations>"""


def test_cvat_for_images(tmp_path):
    picture(tmp_path / "images/train/a.png")
    picture(tmp_path / "images/b.png")
    path = write(tmp_path / "annotations.xml", CVAT)
    assert detect_format(tmp_path) == detect_format(path) == "cvat"
    data = open_dataset(tmp_path)
    first, second = data
    assert boxes(first)[1:] == [
        ("ship", 1.5, 2.5, 20, 30), ("roof", 10, 10, 40, 40), ("roof", 30, 10, 90, 70), ("tank", 90, 45, 110, 55),
        ("lake", 5, 6, 12, 14),
    ]  # fmt: skip
    side = np.subtract(first.boxes[0].corners[1], first.boxes[0].corners[0])
    np.testing.assert_allclose(side, 60 * np.array([np.cos(np.radians(30.5)), np.sin(np.radians(30.5))]))
    np.testing.assert_allclose(np.mean(first.boxes[0].corners, 0), [60, 46])
    assert corners(first.boxes[3]) == [[50, 10], [90, 50], [70, 70], [30, 30]] and first.boxes[2].corners is None
    assert len(data.polygons(0)[2].points) == 5 and first.labels == ["port"]
    assert (first.split, second.split) == ("train", "validation") and second.boxes == []
    assert first.images == [str(tmp_path / "images/train/a.png")]
    assert data.dropped.to_dict() == {
        "points, lines, cuboids and skeletons": 2, "attributes of objects": 1, "pixel masks, read as boxes": 1,
    }  # fmt: skip
    survive_jsonl(data, tmp_path)


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        (
            '<image name="a.png"><box label="x" xtl="1" ytl="2" xbr="3"/></image>',
            "image a.png: .*a box needs the num",
        ),
        ('<image name="a.png"><box xtl="1" ytl="2" xbr="3" ybr="4"/></image>', "a box has no label"),
        ('<image name="a.png"><polygon label="x" points="1,2;3"/></image>', "image a.png"),
        ('<track id="0" label="x"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>', "has tracks of a video"),
        ('<image name="a.png">', "not CVAT's XML for images"),
    ],
)
def test_broken_files_of_cvat_are_one_line(tmp_path, inner, why):
    path = write(tmp_path / "annotations.xml", f"<annotations><version>1.1</version>{inner}</annotations>")
    with pytest.raises(DataError, match=why) as error:
        open_dataset(path, "cvat")
    assert "\n" not in str(error.value) and "annotations.xml" in str(error.value)


SIZE = {"original_width": 200, "original_height": 100}


def region(kind, value, **members):
    return {"type": kind, "from_name": "label", "to_name": "image", **SIZE, "value": value, **members}


RECTANGLE = {"x": 25.0, "y": 20.0, "width": 10.0, "height": 40.0, "rotation": 30}
"""In pixels 50, 20, 20 x 40, turned by 30 degrees about 50, 20."""


def test_label_studio_json(tmp_path):
    picture(tmp_path / "images/a b.png")
    polygon = {"points": [[5, 10], [20, 10], [20, 30]], "polygonlabels": ["roof"]}
    results = [
        region("rectanglelabels", {**RECTANGLE, "rectanglelabels": ["ship", "vessel"]}, id="r1", score=0.75),
        region("textarea", {**RECTANGLE, "text": ["the ship at the pier"]}, id="r1"),
        region("rectangle", {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0}, id="r2"),
        region("labels", {"x": 0, "y": 0, "width": 50, "height": 50, "labels": ["harbor"]}, id="r2"),
        region("polygonlabels", polygon, id="r3"),
        region("ellipselabels", {"x": 50, "y": 50, "radiusX": 5, "radiusY": 10, "ellipselabels": ["tank"]}, id="r4"),
        region("keypointlabels", {"x": 1, "y": 1, "keypointlabels": ["tree"]}, id="r5"),
        region("brushlabels", {"format": "rle", "rle": [1], "brushlabels": ["lake"]}, id="r6"),
        {"type": "choices", "from_name": "scene", "value": {"choices": ["port", "city"]}},
        {"type": "textarea", "from_name": "caption", "value": {"text": ["A port."]}},
    ]
    task = {
        "id": 1, "data": {"image": "/data/local-files/?d=set%2Fa%20b.png", "split": "val"},
        "annotations": [{"was_cancelled": True, "result": []}, {"result": results}, {"result": []}],
        "predictions": [{"result": []}],
    }  # fmt: skip
    path = write(tmp_path / "project-1.json", [task])
    assert detect_format(tmp_path) == detect_format(path) == "label_studio"
    data = open_dataset(tmp_path)
    (sample,) = data
    assert sample.images == [str(tmp_path / "images/a b.png")] and sample.split == "val"
    assert boxes(sample)[1:] == [("harbor", 0, 0, 100, 50), ("roof", 10, 10, 40, 30), ("tank", 90, 40, 110, 60)]
    ship = sample.boxes[0]
    along, down = 20 * np.array([np.sqrt(3) / 2, 0.5]), 40 * np.array([-0.5, np.sqrt(3) / 2])
    first = np.array([50, 20])
    np.testing.assert_allclose(ship.corners, [first, first + along, first + along + down, first + down])
    assert ship.label == "ship" and ship.confidence == 0.75 and sample.labels == ["port", "city"]
    assert [turn.text for turn in sample.turns if turn.role == "assistant"] == ["the ship at the pier", "A port."]
    assert sample.turns[1].boxes == [ship]
    assert data.dropped.to_dict() == {
        "annotations of a task after the first": 1, "brush masks": 1, "cancelled annotations": 1, "key points": 1,
        "labels of a region after the first": 1, "predictions of models": 1,
    }  # fmt: skip
    survive_jsonl(data, tmp_path)


def test_label_studio_json_min_of_uploads(tmp_path):
    picture(tmp_path / "a.png")
    row = {
        "image": "/data/upload/1/0a1b2c3d-a.png", "id": 3, "annotator": 1, "choice": "port",
        "label": [{**RECTANGLE, "rotation": 0, "rectanglelabels": ["ship"], **SIZE}],
        "outline": [{"points": [[5, 10], [20, 10], [20, 30], [5, 25]], "polygonlabels": ["roof"], **SIZE}],
    }  # fmt: skip
    write(tmp_path / "min.json", [row, {"image": "a.png", "id": 4}], "utf-8-sig")
    assert detect_format(tmp_path) == "label_studio"
    first, second = open_dataset(tmp_path)
    assert first.images == second.images == [str(tmp_path / "a.png")] and first.labels == ["port"]
    assert boxes(first) == [("ship", 50, 20, 70, 60), ("roof", 10, 10, 40, 30)]
    assert corners(first.boxes[1]) == [[10, 10], [40, 10], [40, 30], [10, 25]] and second.boxes == []


@pytest.mark.parametrize(
    ("task", "why"),
    [
        ({"data": {"text": "x"}, "annotations": []}, "task 0 names no image"),
        ({"data": {"image": "a.png"}, "annotations": [{"result": [region("rectanglelabels", {"x": 1})]}]},
         "task 0: region 0 is broken"),
        ({"data": {"image": "a.png"}, "annotations": [{"result": 3}]}, "task 0: `result` is no list"),
    ],
)  # fmt: skip
def test_broken_tasks_are_one_line(tmp_path, task, why):
    picture(tmp_path / "a.png")
    write(tmp_path / "x.json", [task])
    with pytest.raises(DataError, match=why) as error:
        list(open_dataset(tmp_path, "label_studio"))
    assert "\n" not in str(error.value) and "x.json" in str(error.value)


def shape(kind, points, **members):
    return {"label": "ship", "shape_type": kind, "points": points, "flags": {}, "group_id": None, **members}


def test_labelme(tmp_path):
    picture(tmp_path / "train/a.jpg")
    picture(tmp_path / "train/b.jpg")
    quad = [[50, 10], [90, 50], [70, 70], [30, 30]]
    shapes = [
        shape("rectangle", [[30, 40], [10, 20]], score=0.5, difficult=True),
        shape("rectangle", [[10, 20], [30, 20], [30, 40], [10, 40]]),
        shape("rotation", quad, direction=0.78), shape("polygon", [[1, 1], [9, 1], [9, 5]], description="a small one"),
        shape("circle", [[50, 50], [53, 54]]), shape("mask", [[5, 6], [7, 8]], mask="x", flags={"crowd": True}),
        shape("point", [[1, 1]]), shape("linestrip", [[1, 1], [2, 2]]),
    ]  # fmt: skip
    content = {"version": "5.4.1", "flags": {"port": True, "city": False}, "shapes": shapes, "imagePath": "..\\a.jpg",
               "imageData": None, "imageHeight": 100, "imageWidth": 200}  # fmt: skip
    write(tmp_path / "train/a.json", content)
    assert detect_format(tmp_path) == "labelme"
    data = open_dataset(tmp_path)
    (sample,) = data
    assert boxes(sample) == [
        ("ship", 10, 20, 30, 40), ("ship", 10, 20, 30, 40), ("ship", 30, 10, 90, 70), ("ship", 1, 1, 9, 5),
        ("ship", 45, 45, 55, 55), ("ship", 5, 6, 8, 9),
    ]  # fmt: skip
    assert corners(sample.boxes[2]) == quad and sample.boxes[0].confidence == 0.5 and sample.boxes[5].crowd
    assert sample.labels == ["port"] and sample.split == "train" and data.polygons(0)[0].difficult
    assert len(data.polygons(0)) == 5 and sample.images == [str(tmp_path / "train/a.jpg")]
    assert data.dropped.to_dict() == {
        "points and lines": 2, "descriptions of objects": 1, "images without an annotation": 1,
        "pixel masks, read as boxes": 1,
    }  # fmt: skip
    survive_jsonl(data, tmp_path)
    content["shapes"] = [shape("polygon", [[1, 1], [2, 2]])]
    write(tmp_path / "train/a.json", content)
    with pytest.raises(DataError, match=r"a\.json: shape 0 is broken, .*a polygon of 2 points"):
        open_dataset(tmp_path)[0]


def robndbox(points):
    sides = ("left_top", "right_top", "right_bottom", "left_bottom")
    return "".join(f"<x_{s}>{x}</x_{s}><y_{s}>{y}</y_{s}>" for s, (x, y) in zip(sides, points, strict=True))


def test_dior_r_is_read_once_and_keeps_its_corners(tmp_path):
    quad = [(50, 10), (90, 50), (70, 70), (30, 30)]
    picture(tmp_path / "JPEGImages-trainval/00001.jpg")
    oriented = f"<object><name>ship</name><robndbox>{robndbox(quad)}</robndbox></object>"
    upright = RSVG_OBJECT.format("ship", 31, 11, 90, 70, "x").replace("<description>x</description>", "")
    for kind, objects in {"Oriented": oriented, "Horizontal": upright}.items():
        text = RSVG_XML.format(name="00001.jpg", objects=objects)
        write(tmp_path / f"Annotations/{kind} Bounding Boxes/00001.xml", text)
    write(tmp_path / "ImageSets/Main/train.txt", "00001\n")
    assert detect_format(tmp_path) == "voc"
    data = open_dataset(tmp_path)
    (sample,) = data
    assert corners(sample.boxes[0]) == [list(point) for point in quad] and boxes(sample) == [("ship", 30, 10, 90, 70)]
    assert sample.split == "train" and data.dropped.to_dict() == {"upright copies of oriented annotations": 1}
    survive_jsonl(data, tmp_path)


def test_oriented_rows_of_yolo_may_have_a_confidence(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 0.3 0 0.5 0.25 0.3 0.5 0.1 0.25 0.875\n0 0.3 0 0.5 0.25 0.3 0.5 0.1 0.25\n")
    data = open_dataset(tmp_path)
    assert [box.confidence for box in data[0].boxes] == [0.875, None]
    assert corners(data[0].boxes[0]) == [[60, 0], [100, 25], [60, 50], [20, 25]]
    survive_jsonl(data, tmp_path)


def test_metadata_of_objects_with_numbered_categories(tmp_path):
    picture(tmp_path / "train/0001.png")
    picture(tmp_path / "train/0002.png")
    rows = [
        {"file_name": "0001.png", "objects": {"bbox": [[302.0, 109.0, 73.0, 52.0]], "categories": [1], "area": [9]}},
        {"file_name": "0002.png", "bboxes": [[1, 2, 3, 4]], "categories": [0]},
    ]
    write(tmp_path / "train/metadata.jsonl", "\n".join(map(json.dumps, rows)))
    data = open_dataset(tmp_path)
    assert detect_format(tmp_path) == "metadata_folder" and not data.has_class_names
    assert [boxes(sample) for sample in data] == [[("1", 302, 109, 375, 161)], [("0", 1, 2, 4, 6)]]
    assert data.dropped.to_dict() == {"fields of objects": 1}
    card = "dataset_info:\n  features:\n  - name: categories\n    list:\n      class_label:\n        names:\n"
    write(tmp_path / "README.md", f"---\n{card}          '0': no\n          '1': ship\n---\n# Ships\n")
    data = open_dataset(tmp_path)
    assert data.has_class_names and [box.label for sample in data for box in sample.boxes] == ["ship", "no"]


def split_set(root, name, content, image="{}.jpg"):
    """Write a file into train, valid and test, each with its image."""
    for split in ("train", "valid", "test"):
        picture(root / split / image.format(split))
        text = content if isinstance(content, str) else json.dumps(content)
        write(root / split / name, text.replace("IMAGE", image.format(split)))


PLACE = {"x": 30, "y": 40, "width": 20, "height": 10}
CREATEML = [{"image": "IMAGE", "annotations": [{"label": "ship", "coordinates": PLACE}]}]
TENSORFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\nIMAGE,200,100,ship,20,35,40,45\n"
BOX = ("ship", 20, 35, 40, 45)


@pytest.mark.parametrize(
    ("reader", "name", "content"),
    [
        ("createml", "_annotations.createml.json", CREATEML),
        ("box_table", "_annotations.csv", TENSORFLOW),
        ("box_table", "_annotations.csv", "IMAGE,20,35,40,45,ship\n"),
        ("box_table", "_annotations.txt", "IMAGE 20,35,40,45,0\n"),
        ("coco_boxes", "_annotations.coco.json",
         {"images": [{"id": 0, "file_name": "IMAGE"}], "categories": [{"id": 1, "name": "ship"}],
          "annotations": [{"id": 0, "image_id": 0, "category_id": 1, "bbox": [20, 35, 20, 10]}]}),
    ],
)  # fmt: skip
def test_roboflows_exports_of_boxes(tmp_path, reader, name, content):
    split_set(tmp_path, name, content)
    if name.endswith(".txt"):
        split_set(tmp_path, "_classes.txt", "ship\n")
    write(tmp_path / "README.roboflow.txt", "Exported 2 images.")
    assert detect_format(tmp_path) == reader
    data = open_dataset(tmp_path)
    assert [(s.split, boxes(s)) for s in data] == [(split, [BOX]) for split in ("train", "valid", "test")]
    assert [s.images for s in data] == [[str(tmp_path / f"{s}/{s}.jpg")] for s in ("train", "valid", "test")]
    assert [s.split for s in open_dataset(tmp_path, split="val")] == ["valid"] and not len(data.dropped)
    assert [boxes(s) for s in open_dataset(tmp_path / "valid")] == [[BOX]]
    survive_jsonl(data, tmp_path)


def test_roboflows_export_for_darknet_and_yolo_obb(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / f"darknet/{split}/{split}.jpg")
        write(tmp_path / f"darknet/{split}/{split}.txt", "0 0.15 0.4 0.1 0.1\n")
        write(tmp_path / f"darknet/{split}/_darknet.labels", "ship\n")
        picture(tmp_path / f"obb/{split}/images/{split}.jpg")
        write(tmp_path / f"obb/{split}/labelTxt/{split}.txt", "50 10 90 50 70 70 30 30 ship 0\n")
    write(tmp_path / "obb/data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['ship']\n")
    assert detect_format(tmp_path / "darknet") == "yolo" and detect_format(tmp_path / "obb") == "dota"
    assert [(s.split, boxes(s)) for s in open_dataset(tmp_path / "darknet")] == [("train", [BOX]), ("valid", [BOX])]
    data = open_dataset(tmp_path / "obb")
    assert [s.split for s in data] == ["train", "valid"]
    assert corners(data[1].boxes[0]) == [[50, 10], [90, 50], [70, 70], [30, 30]]


TOKENS = {
    "paligemma": "<loc0358><loc0102><loc0461><loc0205> ship ; <loc0000><loc0000><loc1023><loc0512><seg001> harbor",
    "florence": "ship<loc_100><loc_350><loc_200><loc_450>harbor<loc_0><loc_0><loc_500><loc_999>",
}


@pytest.mark.parametrize("notation", TOKENS)
def test_location_tokens(tmp_path, notation):
    for split in ("train", "valid"):
        picture(tmp_path / f"dataset/{split}.jpg")
        rows = [{"image": f"{split}.jpg", "prefix": "detect ship ; harbor", "suffix": TOKENS[notation]},
                {"image": f"{split}.jpg", "prefix": "How many ships?", "suffix": "two"}]  # fmt: skip
        write(tmp_path / f"dataset/_annotations.{split}.jsonl", "\n".join(map(json.dumps, rows)))
    assert detect_format(tmp_path) == "location_tokens"
    data = open_dataset(tmp_path)
    assert [s.split for s in data] == ["train"] * 2 + ["valid"] * 2
    ship, harbor = data[0].boxes
    assert (ship.label, harbor.label) == ("ship", "harbor")
    np.testing.assert_allclose([ship.xyxy, harbor.xyxy], [[20, 35, 40, 45], [0, 0, 100, 100]], atol=0.2)
    assert data[0].turns[1].text == "ship, harbor" and data[0].turns[1].boxes == [ship, harbor]
    assert [turn.text for turn in data[1].turns] == ["How many ships?", "two"] and not data[1].boxes
    assert data.dropped.to_dict() == ({"segmentation tokens of objects": 2} if notation == "paligemma" else {})
    write(tmp_path / "dataset/_annotations.train.jsonl", {"image": "train.jpg", "prefix": "x", "suffix": "<loc0001> a"})
    with pytest.raises(DataError, match=r"train\.jsonl:1: the location tokens are not four for each box"):
        open_dataset(tmp_path)[0]


def test_several_classes_of_an_image(tmp_path):
    split_set(tmp_path, "_classes.csv", "filename, port, city\nIMAGE, 1, 1\n")
    assert detect_format(tmp_path) == "multilabel_csv"
    data = open_dataset(tmp_path)
    assert [(s.split, s.labels) for s in data] == [(s, ["port", "city"]) for s in ("train", "valid", "test")]
    write(tmp_path / "train/_classes.csv", "filename,port\na.jpg,yes\n")
    with pytest.raises(DataError, match=r"_classes\.csv:2: not a file name and 1 values of 0 or 1"):
        open_dataset(tmp_path)


def test_roboflows_semantic_masks(tmp_path):
    split_set(tmp_path, "_classes.csv", "Pixel Value, Class\n0, background\n1, roof\n")
    for split in ("train", "valid", "test"):
        mask = np.zeros((100, 200), np.uint8)
        mask[35:45, 20:40] = 1
        Image.fromarray(mask).save(tmp_path / f"{split}/{split}_mask.png")
    assert detect_format(tmp_path) == "mask_folder"
    data = open_dataset(tmp_path, split="train")
    assert boxes(data[0]) == [("roof", 20, 35, 40, 45)] and list(data.classes) == ["background", "roof"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("_annotations.csv", "a.png,1,2,3,4,ship\na.png,1,2,3,ship\n", r"csv:2: 5 values instead of"),
        ("_annotations.csv", "a.png,1,2,3,4,ship\na.png,1,2,3,x,ship\n", r"csv:2: not a box with a class"),
        ("_annotations.csv", "filename,class,xmin,ymin,xmax,ymax\na.png,ship,1,2,3\n", "csv:2: 5 values in 6 columns"),
        ("_annotations.txt", "a.png 1,2,3,4,0 1,2,3,4,ship\n", r"txt:1: not a box x1,y1,x2,y2,class"),
    ],
)
def test_broken_tables_are_one_line(tmp_path, name, content, why):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=why) as error:
        open_dataset(path, "box_table")
    assert "\n" not in str(error.value)
