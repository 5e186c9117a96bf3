"""YOLO's text files as Ultralytics, Roboflow, CVAT, Darknet and labelImg lay them out."""

import pytest
from PIL import Image

from lhrs.data.dataset import detect_format, open_dataset
from lhrs.errors import ConfigError, DataError

ROW = "0 0.5 0.5 0.5 0.25\n"
"""On 100 x 80 pixels: 25, 30, 75, 50."""


def picture(path, size=(100, 80), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)
    return path


def write(path, text=ROW, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def boxes(sample):
    return [(box.label, *[round(value, 3) for value in box.xyxy]) for box in sample.boxes]


def test_labels_next_to_images_are_boxes_and_no_captions(tmp_path):
    for name in ("a.jpg", "b.PNG", "empty.png", "background.png"):
        picture(tmp_path / name)
    write(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.25\r\n1 0.1 0.1 0.2 0.2 0.875\r\n")
    write(tmp_path / "b.TXT", "1.0 0.5 0.5 1 1\n", "utf-8-sig")
    write(tmp_path / "empty.txt", "\n")
    write(tmp_path / "classes.txt", "ship\r\nharbor\r\n", "utf-8-sig")
    write(tmp_path / "gone.txt")
    assert detect_format(tmp_path) == "yolo"
    data = open_dataset(tmp_path)
    assert [boxes(sample) for sample in data] == [
        [("ship", 25, 30, 75, 50), ("harbor", 0, 0, 20, 16)],
        [("harbor", 0, 0, 100, 80)],
        [],
        [],
    ]
    assert data[0].boxes[1].confidence == 0.875 and data[0].boxes[0].confidence is None
    assert data.dropped.to_dict() == {"label files without an image": 1}


def test_without_names_classes_are_numbered(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt")
    data = open_dataset(tmp_path)
    assert boxes(data[0]) == [("class 0", 25, 30, 75, 50)] and not data.has_class_names


def test_captions_that_begin_with_numbers_stay_captions(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "2 ships in a harbor")
    assert detect_format(tmp_path) == "captions"
    picture(tmp_path / "b.png")
    write(tmp_path / "b.txt")
    with pytest.raises(ConfigError, match="matches several formats: choose a format of captions, yolo"):
        detect_format(tmp_path)


CONFIGS = {
    "mapping": "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: ship\n  1: harbor\n",
    "list": "train: images/train\nval: [images/val]\nnames: [ship, harbor]\nnc: 2\n",
    "other machine": "path: /content/datasets/{root}\ntrain: images/train\nval: images/val\nnames: [ship, harbor]\n",
    "absolute": "train: /home/me/ds/images/train\nval: C:\\data\\ds\\images\\val\nnames: [ship, harbor]\n",
    "true absolute": "path: {folder}\ntrain: images/train\nval: images/val\nnames: [ship, harbor]\n",
    "text files": "train: train.txt\nval: val.txt\nnames: [ship, harbor]\n",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_splits_of_a_yaml_file(tmp_path, kind):
    root = tmp_path / "ds"
    for split in ("train", "val"):
        picture(root / f"images/{split}/{split}1.png")
        write(root / f"labels/{split}/{split}1.txt")
        write(root / f"{split}.txt", f"./images/{split}/{split}1.png\n/old/place/images/{split}/gone.png\n")
    write(root / "data.yaml", CONFIGS[kind].format(root="ds", folder=root), "utf-8-sig")
    for path in (root, root / "data.yaml"):
        assert detect_format(path) == "yolo"
        data = open_dataset(path)
        assert [(s.id, s.split, boxes(s)) for s in data] == [
            ("ds/images/train/train1.png", "train", [("ship", 25, 30, 75, 50)]),
            ("ds/images/val/val1.png", "val", [("ship", 25, 30, 75, 50)]),
        ]
        expected = {"images of lists that do not exist": 2} if kind == "text files" else {}
        assert data.dropped.to_dict() == expected and data.classes == ["ship", "harbor"]
        assert [s.split for s in open_dataset(path, split="val")] == ["val"]


def test_roboflows_export_for_yolo(tmp_path):
    for split in ("train", "valid"):
        picture(tmp_path / f"{split}/images/{split}_jpg.rf.0a1b.jpg")
        write(tmp_path / f"{split}/labels/{split}_jpg.rf.0a1b.txt")
    config = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['ship']\n"
    write(tmp_path / "data.yaml", config)
    data = open_dataset(tmp_path)
    assert [(s.split, boxes(s)) for s in data] == [(n, [("ship", 25, 30, 75, 50)]) for n in ("train", "val")]
    assert data.dropped.to_dict() == {"splits that do not exist": 1}
    (tmp_path / "data.yaml").unlink()
    assert [s.split for s in open_dataset(tmp_path)] == ["train", "valid"]
    assert [s.split for s in open_dataset(tmp_path, split="val")] == ["valid"]


def test_cvats_export_for_darknet(tmp_path):
    for n in (1, 2):
        picture(tmp_path / f"obj_{'train' if n == 1 else 'valid'}_data/{n}.jpg")
        write(tmp_path / f"obj_{'train' if n == 1 else 'valid'}_data/{n}.txt")
    write(tmp_path / "obj.names", "ship\r\nharbor\r\n")
    write(
        tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
    )
    write(tmp_path / "train.txt", "data/obj_train_data/1.jpg\n")
    write(tmp_path / "valid.txt", "data/obj_valid_data/2.jpg\n")
    data = open_dataset(tmp_path)
    assert [(s.split, boxes(s)) for s in data] == [(n, [("ship", 25, 30, 75, 50)]) for n in ("train", "valid")]
    assert data.classes == ["ship", "harbor"] and not len(data.dropped)


def test_images_in_folders_of_folders(tmp_path):
    for split, city in (("train", "rome"), ("train", "oslo"), ("val", "rome")):
        picture(tmp_path / f"images/{split}/{city}/1.png")
        write(tmp_path / f"labels/{split}/{city}/1.txt")
    assert [(s.id.split("images/")[1], s.split) for s in open_dataset(tmp_path)] == [
        ("train/oslo/1.png", "train"), ("train/rome/1.png", "train"), ("val/rome/1.png", "val")]  # fmt: skip
    assert [s.split for s in open_dataset(tmp_path / "images")] == ["train", "train", "val"]


def test_folders_without_a_yaml_file(tmp_path):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.txt")
    write(tmp_path / "labels/classes.txt", "ship\n")
    (sample,) = open_dataset(tmp_path)
    assert boxes(sample) == [("ship", 25, 30, 75, 50)] and sample.split is None


def test_polygons_and_oriented_boxes(tmp_path):
    picture(tmp_path / "a.png")
    write(tmp_path / "a.txt", "0 0.1 0.25 0.5 0.25 0.5 0.5\n0 0.3 0 0.5 0.25 0.3 0.5 0.1 0.25\n" + ROW)
    data = open_dataset(tmp_path)
    polygons = [polygon.points.tolist() for polygon in data.polygons(0)]
    assert polygons[0] == [[10, 20], [50, 20], [50, 40]]
    assert polygons[1] == [[30, 0], [50, 20], [30, 40], [10, 20]]
    assert polygons[2] == [[25, 30], [75, 30], [75, 50], [25, 50]]
    assert [box[1:] for box in boxes(data[0])] == [(10, 20, 50, 40), (10, 0, 50, 40), (25, 30, 75, 50)]


def test_keypoints_are_counted_as_left_out(tmp_path):
    picture(tmp_path / "images/train/a.png")
    write(tmp_path / "labels/train/a.txt", "0 0.5 0.5 0.5 0.25 0.4 0.4 2 0.6 0.6 1\n")
    write(tmp_path / "data.yaml", "train: images/train\nkpt_shape: [2, 3]\nnames: [ship]\n")
    data = open_dataset(tmp_path)
    assert boxes(data[0]) == [("ship", 25, 30, 75, 50)]
    assert data.dropped.to_dict() == {"keypoints of objects": 1}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0 0.5 0.5 0.5", "it needs a class and four numbers"),
        ("ship 0.5 0.5 0.5 0.25", "could not convert"),
        ("0.5 0.5 0.5 0.5 0.25", "the class is no number from 0"),
        ("0 0.5 0.5 nan 0.25", "a number is not finite"),
        ("0 0.5 0.5 0.5 0.25 0.1 0.1 0.1", "a polygon needs pairs"),
        ("7 0.5 0.5 0.5 0.25", "class 7 has no name; there are 1 names"),
    ],
)
def test_broken_rows_are_named(tmp_path, text, why):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.txt", f"{ROW}{text}\n")
    write(tmp_path / "classes.txt", "ship\n")
    with pytest.raises(DataError, match=why) as error:
        open_dataset(tmp_path, "yolo")[0]
    assert "a.txt" in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_yolo_is_refused_in_one_line(tmp_path):
    picture(tmp_path / "images/a.png")
    with pytest.raises(DataError, match=r"contains no label file such as .*labels/a\.txt"):
        open_dataset(tmp_path, "yolo")
    write(tmp_path / "data.yaml", "train: images\nnames: 3\n")
    with pytest.raises(DataError, match="`names` is neither a list nor a mapping"):
        open_dataset(tmp_path, "yolo")
    write(tmp_path / "data.yaml", "train: [\n")
    with pytest.raises(DataError, match="is not valid YAML"):
        open_dataset(tmp_path / "data.yaml", "yolo")
    with pytest.raises(ConfigError, match="cannot detect the format"):
        detect_format(tmp_path / "data.yaml")


def test_names_that_yaml_takes_for_other_things_stay_words(tmp_path):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.txt", "0 0.5 0.5 0.5 0.25\n1 0.5 0.5 0.5 0.25\n2 0.5 0.5 0.5 0.25\n")
    write(tmp_path / "data.yaml", "path: 5\ntrain: images\nnames:\n  0: no\n  1: 747\n  2: null\n")
    assert [box[0] for box in boxes(open_dataset(tmp_path)[0])] == ["no", "747", "null"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"data.yaml": "names: [ship\ntrain: x"}, "data.yaml is not valid YAML"),
        ({"data.yaml": "names: [Stra\xdfe]\n"}, "data.yaml is not UTF-8"),
        ({"a.yaml": "names: [ship]\n", "b.yaml": "names: [car]\n"}, "several YAML files with `names`"),
    ],
)
def test_names_that_cannot_be_read_are_no_missing_names(tmp_path, files, why):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.txt")
    for name, text in files.items():
        write(tmp_path / name, text, "latin-1")
    with pytest.raises(DataError, match=why):
        open_dataset(tmp_path)


def test_a_split_that_does_not_exist_is_the_reason_for_no_images(tmp_path):
    picture(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.txt")
    write(tmp_path / "data.yaml", "train: nowhere\nnames: [ship]\n")
    with pytest.raises(DataError, match=r"contains no image \(.*splits that do not exist \(train: nowhere"):
        open_dataset(tmp_path)
