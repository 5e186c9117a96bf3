"""Masks have one reader: the same numbers are ignored whether boxes are made of them or networks trained on them."""

import json

import numpy as np
import pytest
from PIL import Image

from lhrs.data.dataset import detect_format, open_dataset
from lhrs.data.mask_dataset import IGNORE
from lhrs.downstream.labeled_dataset import open_labeled
from lhrs.errors import ConfigError, DataError

NAMES = ["background", "building", "nodata", "road"]


@pytest.fixture
def folder(tmp_path):
    """A building, a road, and pixels that are 255, nodata and background."""
    mask = np.zeros((96, 128), np.uint8)
    mask[20:50, 30:80] = 1
    mask[60:70, 5:128] = 3
    mask[:8, :] = 255
    mask[90:, :] = 2
    (tmp_path / "train").mkdir()
    Image.new("RGB", (128, 96)).save(tmp_path / "train/t0.JPG")
    Image.fromarray(mask).save(tmp_path / "train/t0_mask.PNG")
    Image.new("RGB", (128, 96)).save(tmp_path / "train/alone.jpg")
    (tmp_path / "classes.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(NAMES).encode())
    return tmp_path


def test_both_uses_ignore_the_same_numbers(folder):
    assert detect_format(folder) == "mask_folder"
    data = open_dataset(folder)
    labeled = open_labeled("segment", folder)
    (sample,) = data
    assert [(b.label, b.xyxy) for b in sample.boxes] == [
        ("building", (30, 20, 80, 50)), ("road", (5, 60, 128, 70))]  # fmt: skip
    assert list(data.classes) == labeled.classes == ["background", "building", "road"]
    np.testing.assert_array_equal(data.mask(0), labeled.mask(labeled.items[0]))
    values, counts = np.unique(data.mask(0), return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        0: 96 * 128 - 1500 - 1230 - 8 * 128 - 6 * 128, 1: 1500, 2: 1230, IGNORE: 14 * 128}  # fmt: skip
    assert data.mask(0, (30, 18, 2, 4)).tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert data.dropped.to_dict() == {"images without a mask": 1} == labeled.dropped.to_dict()
    assert (sample.id, sample.split) == ("train/t0", "train") == (labeled.items[0].id, sample.split)


def test_the_names_may_be_above_and_splits_are_folders(folder):
    assert open_dataset(folder / "train", "mask_folder")[0].id == "t0"
    assert len(open_dataset(folder, split="train")) == 1
    with pytest.raises(DataError, match="has no split 'val'; it has train"):
        open_dataset(folder, split="val")


@pytest.mark.parametrize("mode", ["P", "1", "RGB"])
def test_masks_of_other_modes(folder, mode):
    mask = np.zeros((96, 128), np.uint8)
    mask[40:, :] = 1
    image = Image.fromarray(mask * 255 if mode == "1" else mask)
    image = image.convert("1") if mode == "1" else image.convert("RGB") if mode == "RGB" else image.convert("P")
    if mode == "P":
        image.putdata(mask.ravel().tolist())
        image.putpalette([200, 10, 10, 10, 200, 10])
    image.save(folder / "train/t0_mask.PNG")
    expected = mask  # white of one bit is 1, as GDAL reads it
    np.testing.assert_array_equal(open_dataset(folder).mask(0), expected)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_white_of_a_one_bit_mask_is_class_1(folder, suffix):
    (folder / "train/t0_mask.PNG").unlink()
    Image.fromarray(np.eye(96, 128, dtype=bool)).save(folder / f"train/t0_mask.{suffix}")
    np.testing.assert_array_equal(open_dataset(folder).mask(0), np.eye(96, 128))


@pytest.mark.parametrize(("values", "hints"), [((0, 255), 1), ((255,), 1), ((0, 1, 255), 0), ((0, 1), 0), ((0,), 0)])
def test_a_mask_of_0_and_255_gets_one_hint(folder, values, hints, caplog):
    mask = np.resize(values, (96, 128)).astype(np.uint8)
    for n in range(3):
        Image.new("RGB", (128, 96)).save(folder / f"train/m{n}.jpg")
        Image.fromarray(mask).save(folder / f"train/m{n}_mask.png")
    (folder / "train/t0_mask.PNG").unlink()
    data = open_dataset(folder)
    masks = [data.mask(n) for n in range(3)]
    assert set(np.unique(masks)) == set(values)
    assert len(caplog.records) == hints
    assert not hints or "If 255 means 'building', write 1 instead of 255." in caplog.records[0].message


def test_numbers_beyond_the_names_are_one_line(folder):
    Image.fromarray(np.full((96, 128), 4, np.uint8)).save(folder / "train/t0_mask.PNG")
    for read in (lambda: open_dataset(folder)[0], lambda: open_dataset(folder).mask(0)):
        with pytest.raises(DataError, match=r"t0_mask\.PNG: not one number .*: it has the number 4, not 0-3") as error:
            read()
        assert "\n" not in str(error.value)


def test_small_parts_are_counted(folder):
    mask = np.zeros((96, 128), np.uint8)
    mask[10:12, 10:12] = mask[20:22, 20:60] = 1
    Image.fromarray(mask).save(folder / "train/t0_mask.PNG")
    data = open_dataset(folder)
    assert data[0].boxes == [] == data[0].boxes
    assert data.dropped.to_dict()["parts of masks under 4 pixels"] == 2


def test_readers_of_masks_are_refused_where_there_are_none(folder):
    with pytest.raises(ConfigError, match="format 'voc' has no masks; segment needs one of"):
        open_labeled("segment", folder, "voc")
    with pytest.raises(ConfigError, match="format 'mask_folder' has 1 date; change needs 2"):
        open_labeled("change", folder, "mask_folder")
    (folder / "d.jsonl").write_text('{"id": "a", "images": ["a.png"], "source": "s", "license": "x"}\n')
    with pytest.raises(DataError, match="JsonLines has no masks"):
        open_dataset(folder / "d.jsonl").mask(0)


def test_change_masks_have_boxes_too(tmp_path):
    for name in ("A", "B", "label"):
        path = tmp_path / f"train/{name}/1.png"
        path.parent.mkdir(parents=True)
        mask = np.zeros((40, 40), np.uint8)
        mask[10:20, 5:25] = 255
        Image.fromarray(mask if name == "label" else np.zeros((40, 40, 3), np.uint8)).save(path)
    Image.new("L", (40, 40)).save(tmp_path / "train/label/2.png")
    assert detect_format(tmp_path) == "before_after"
    data = open_dataset(tmp_path)
    (sample,) = data
    assert [path.split("/")[-2] for path in sample.images] == ["A", "B"]
    assert [(box.label, box.xyxy) for box in sample.boxes] == [("change", (5, 10, 25, 20))]
    assert data.dropped.to_dict() == {"masks without an image": 1}


def test_a_mask_of_another_size_is_refused(folder):
    Image.fromarray(np.zeros((90, 128), np.uint8)).save(folder / "train/t0_mask.PNG")
    with pytest.raises(DataError, match=r"t0_mask\.PNG has 128 x 90 pixels, its image t0\.JPG 128 x 96"):
        open_dataset(folder)[0]
