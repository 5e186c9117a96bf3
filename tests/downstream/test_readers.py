"""Readers on files in the data sets' official layouts: what is paired, which split, which number a color is."""

import numpy as np
import pytest
import rasterio
from PIL import Image

from lhrs.data.datasets.oscd import BANDS
from lhrs.data.mask_dataset import IGNORE, colors_to_classes
from lhrs.downstream.labeled_dataset import open_labeled
from lhrs.errors import LHRSError
from lhrs.imagery.band_stack import BandStack

COLOURS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0), (0, 0, 0)]
ISPRS = [0, 1, 2, 3, 4, IGNORE, IGNORE]


def picture(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((6, 7, 3), np.uint8) if pixels is None else pixels
    if path.suffix == ".tif":
        bands = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        with rasterio.open(path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
                           dtype=bands.dtype) as out:  # fmt: skip
            out.write(bands)
    else:
        Image.fromarray(pixels).save(path)
    return path


def color_row():
    return np.array([COLOURS] * 6, np.uint8)


def test_potsdam(tmp_path):
    for name in ("2_10", "6_7", "2_13"):
        picture(tmp_path / f"2_Ortho_RGB/top_potsdam_{name}_RGB.tif")
        picture(tmp_path / f"5_Labels_all_noBoundary/top_potsdam_{name}_label_noBoundary.tif", color_row())
    found = open_labeled("segment", tmp_path, split="train")
    assert [item.id for item in found.items] == ["top_potsdam_2_10_RGB", "top_potsdam_6_7_RGB"]
    assert [item.id for item in open_labeled("segment", tmp_path, split="test").items] == ["top_potsdam_2_13_RGB"]
    assert found.mask(found.items[0])[0].tolist() == ISPRS
    assert found.mask(found.items[0], (1, 2, 3, 4)).tolist() == [ISPRS[1:4]] * 4


def test_vaihingen(tmp_path):
    for number in (1, 2):
        picture(tmp_path / f"top/top_mosaic_09cm_area{number}.tif")
        name = f"top_mosaic_09cm_area{number}_noBoundary.tif"
        picture(tmp_path / "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE" / name, color_row())
    found = open_labeled("segment", tmp_path, split="train")
    assert [item.id for item in found.items] == ["top_mosaic_09cm_area1"]
    assert found.mask(found.items[0])[3].tolist() == ISPRS
    assert "noBoundary" in str(found.items[0].label)


def test_loveda(tmp_path):
    for split, scene, name in (("Train", "Rural", "0"), ("Train", "Urban", "1366"), ("Val", "Rural", "2522")):
        picture(tmp_path / split / scene / f"images_png/{name}.png")
        picture(
            tmp_path / split / scene / f"masks_png/{name}.png", np.tile(np.arange(8, dtype=np.uint8), (6, 1))[:, :7]
        )
    found = open_labeled("segment", tmp_path, split="train")
    assert [item.id for item in found.items] == ["Train/Rural/0", "Train/Urban/1366"]
    assert found.mask(found.items[0])[0].tolist() == [IGNORE, 0, 1, 2, 3, 4, 5]
    assert len(found.classes) == 7 and len(open_labeled("segment", tmp_path).items) == 3


def test_folders_of_masks_beside_and_apart(tmp_path):
    (tmp_path / "classes.json").write_text('["road", "ignore", "tree"]')
    palette = Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8)).convert("P")
    picture(tmp_path / "a/x.jpg", np.zeros((1, 4, 3), np.uint8))
    palette.putdata([0, 1, 2, 255])
    palette.putpalette([9, 9, 9] * 256)  # numbers count, not colors
    palette.save(tmp_path / "a/x_mask.png")
    picture(tmp_path / "b/images/y.png", np.zeros((1, 4, 3), np.uint8))
    picture(tmp_path / "b/masks/y.png", np.array([[2, 2, 0, 1]], np.uint8))
    found = open_labeled("segment", tmp_path)
    assert [item.id for item in found.items] == ["a/x", "b/images/y"] and found.classes == ["road", "tree"]
    assert found.mask(found.items[0]).tolist() == [[0, IGNORE, 1, IGNORE]]
    assert found.mask(found.items[1]).tolist() == [[1, 1, 0, IGNORE]]
    assert [item.id for item in open_labeled("segment", tmp_path, only=["a/*"]).items] == ["a/x"]
    picture(tmp_path / "b/masks/y.png", np.array([[2, 2, 0, 3]], np.uint8))
    with pytest.raises(LHRSError, match="not one number of classes"):
        found.mask(found.items[1])


@pytest.mark.parametrize("label", ["label", "OUT"])
def test_levir_and_cdd(tmp_path, label):
    suffix = ".png" if label == "label" else ".jpg"
    for split in ("train", "test"):
        for name in ("A", "B", label):
            mask = np.full((6, 7), 1 if suffix == ".jpg" else 0, np.uint8)  # lossy: nothing is not 0
            mask[:, :3] = 255
            picture(tmp_path / split / name / f"1{suffix}", mask if name == label else None)
    found = open_labeled("change", tmp_path, split="test")
    assert [item.id for item in found.items] == ["test/1"]
    assert [files[0].parent.name for files in found.items[0].images] == ["A", "B"]
    assert found.mask(found.items[0])[0].tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_levir_in_one_folder(tmp_path):
    for name in ("A", "B", "label"):
        for split in ("train", "val"):
            picture(tmp_path / name / f"{split}_1.png", np.zeros((6, 7), np.uint8) if name == "label" else None)
    assert [i.id for i in open_labeled("change", tmp_path, split="val").items] == ["val_1"]


def test_oscd_official(tmp_path):
    base = "Onera Satellite Change Detection dataset - "
    for split, city in (("Train", "paris"), ("Test", "milano")):
        mask = np.zeros((12, 12, 4), np.uint8)
        mask[..., 3] = 255  # opaque, as the files are
        mask[:2] = 255
        picture(tmp_path / f"{base}{split} Labels/{city}/cm/cm.png", mask)
        for date in (1, 2):
            for n, band in enumerate(BANDS):
                side = 2 if band in ("B01", "B09", "B10") else 12
                values = np.full((side, side), 100 * date + n, np.uint16)
                picture(tmp_path / f"{base}Images/{city}/imgs_{date}_rect/{band}.tif", values)
    found = open_labeled("change", tmp_path, split="train")
    assert [item.id for item in found.items] == ["paris"]
    after = BandStack(found.items[0].images[1]).read((3, 4, 5, 6))
    assert after.shape == (13, 6, 5) and after[:, 0, 0].tolist() == [200 + n for n in range(13)]
    assert BandStack(found.items[0].images[1], (4, 3, 2)).read()[:, 0, 0].tolist() == [203, 202, 201]
    assert found.mask(found.items[0]).sum() == 24


def test_the_real_oscd_and_dubai(shared_data):
    cities = open_labeled("change", shared_data / "oscd")
    assert sorted(item.id for item in cities.items) == ["bercy", "bordeaux", "paris", "rennes"]
    bercy = next(item for item in cities.items if item.id == "bercy")
    stack = BandStack(bercy.images[0])
    assert stack.shape == cities.mask(bercy).shape == (395, 360)
    assert 0 < cities.mask(bercy).mean() < 0.1
    with rasterio.open(shared_data / "oscd/bercy/1_B04.tif") as dataset:
        np.testing.assert_array_equal(stack.read((10, 20, 30, 40))[3], dataset.read(1)[20:60, 10:40])
    tiles = open_labeled("segment", shared_data / "dubai_seg", only=["tile7/*"])
    assert len(tiles.items) == 9 and tiles.classes[-1] == "water" and len(tiles.classes) == 5
    assert set(np.unique(tiles.mask(tiles.items[0]))) <= {0, 1, 2, 3, 4, IGNORE}


def test_masks_of_other_kinds(tmp_path):
    for name in ("A", "B", "label"):
        picture(tmp_path / f"lc/train/{name}/1.tif", np.full((4, 4), int(name == "label"), np.uint8))
    found = open_labeled("change", tmp_path / "lc")
    assert (found.mask(found.items[0]) == 1).all()  # 0 and 1 in a file that loses nothing
    (tmp_path / "m").mkdir()
    (tmp_path / "m/classes.json").write_text('["road", "tree"]')
    picture(tmp_path / "m/a.png", np.zeros((4, 4, 3), np.uint8))
    mask = np.array([[0, 1, 1, 255]], np.float32)
    with rasterio.open(
        tmp_path / "m/a_mask.tif", "w", driver="GTiff", count=1, height=1, width=4, dtype="float32"
    ) as f:
        f.write(mask, 1)
    found = open_labeled("segment", tmp_path / "m")
    assert found.mask(found.items[0]).tolist() == [[0, 1, 1, 255]]
    with pytest.raises(LHRSError, match="1 band, colors of three"):
        colors_to_classes(np.zeros((1, 4, 4), np.uint8), [(0, 0, 0)])


def test_torchgeos_layout_of_scenes(tmp_path):
    base = tmp_path / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    for name in ("Forest_1", "Forest_2", "River_1", "River_9"):
        picture(base / name.split("_")[0] / f"{name}.tif", np.zeros((4, 4, 13), np.uint16))
    (tmp_path / "eurosat-train.txt").write_text("Forest_1.jpg\nRiver_1.jpg\n")
    (tmp_path / "eurosat-test.txt").write_text("Forest_2.jpg\n")
    found = open_labeled("classify", tmp_path, split="train")
    assert [(item.images[0][0].name, item.label) for item in found.items] == [("Forest_1.tif", "Forest"),
                                                                             ("River_1.tif", "River")]  # fmt: skip
    assert found.classes == ["Forest", "River"]


@pytest.mark.parametrize(
    ("task", "make", "why"),
    [
        ("segment", lambda p: p / "nowhere", "does not exist"),
        ("segment", lambda p: p, "cannot detect the format .* a format of loveda, mask_folder"),
        (
            "change",
            lambda p: picture(p / "A/1.png").parent.parent,
            "cannot detect the format .* of before_after, oscd",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path, task, make, why):
    with pytest.raises(LHRSError, match=why) as error:
        open_labeled(task, make(tmp_path))
    assert "\n" not in str(error.value)


def test_a_pair_without_its_other_date_is_told(tmp_path):
    for name in ("A", "label"):
        picture(tmp_path / name / "1.png", np.zeros((6, 7), np.uint8) if name == "label" else None)
    (tmp_path / "B").mkdir()
    with pytest.raises(LHRSError, match=r"A/1\.png has no image of its name"):
        open_labeled("change", tmp_path)
