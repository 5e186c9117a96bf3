"""What a network sees of images with holes, alpha, odd values: the same while it learns and when it is asked."""

import json

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from tests.downstream.world import write_masks, write_raster

from lhrs.downstream.data import ClassificationAugment, ClassificationDataset, SegmentationAugment, SegmentationDataset
from lhrs.downstream.detect.data import read_window
from lhrs.downstream.inputs import ImageInput, fit_normalization
from lhrs.downstream.labeled_dataset import Item, LabeledDataset, open_labeled
from lhrs.errors import DataError
from lhrs.imagery.band_stack import BandStack
from lhrs.imagery.normalization import Normalization


def image_input(max_value, mean, std):
    return ImageInput(Normalization(max_value=max_value, mean=mean, std=std))


STILL = SegmentationAugment(scale_range=(1.0, 1.0), d4=False, color_jitter=0.0, cat_max_ratio=1.0)


@pytest.fixture
def holed(tmp_path):
    """A float image of two bands: its left half has no data, and one pixel of band 2 is no number."""
    pixels = np.random.default_rng(0).normal(0.2, 0.05, (2, 40, 60)).astype(np.float32)
    pixels[:, :, :30], pixels[1, 5, 40] = -9999, np.nan
    write_raster(tmp_path / "a.tif", pixels, nodata=-9999)
    mask = write_raster(tmp_path / "a_mask.tif", np.ones((1, 40, 60), np.uint8))
    (tmp_path / "classes.json").write_text(json.dumps(["water", "roof"]))
    return open_labeled("segment", tmp_path), pixels, mask


def test_where_there_is_no_data_nothing_is_measured_seen_or_learned(holed):
    labeled, pixels, _ = holed
    there = pixels.copy()
    there[there == -9999] = np.nan
    fitted = fit_normalization(labeled, None, None)
    assert fitted.max_value == 1 and fitted.dtype == "float"
    np.testing.assert_allclose(fitted.mean, np.nanmean(there, (1, 2)), rtol=1e-5)
    np.testing.assert_allclose(fitted.std, np.nanstd(there, (1, 2)), rtol=1e-3)
    for keeps in (True, False):  # decoded once; read window by window
        data = SegmentationDataset(labeled, ImageInput(fitted), 60, 0, STILL)
        data._keeps = data._keeps if keeps else lambda number: False
        # one that is not mirrored
        sample = next(
            one for one in (data[epoch, 0] for epoch in range(20)) if one["target"][0, 0] == 255
        )  # unmirrored
        seen, target = sample["pixels"][:, :40], sample["target"][:40].numpy()
        assert (seen[:, :, :30].abs() < 1e-4).all() and seen[1, 5, 40].abs() < 1e-4
        assert (target[:, :30] == 255).all() and (target[:, 30:] == 1).all()
        assert seen[:, :, 30:].std() == pytest.approx(1, abs=0.05)


def test_one_hole_does_not_spread_over_a_scene(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.normal(0.5, 0.1, (3, 40, 40)).astype(np.float32)
    clean = write_raster(tmp_path / "clean.tif", pixels)
    pixels[0, 0, 0] = np.nan
    holed = write_raster(tmp_path / "holed.tif", pixels)
    items = [Item(p.stem, ((p,),), "x") for p in (clean, holed)]
    inputs = image_input(1.0, (0.5,) * 3, (0.1,) * 3)
    for chance in (None, ClassificationAugment()):
        scenes = ClassificationDataset(LabeledDataset(items, ["x", "y"]), inputs, 24, 0, chance)
        assert torch.isfinite(scenes[0, 1]["pixels"]).all()
    whole = ClassificationDataset(LabeledDataset(items, ["x", "y"]), inputs, 24)
    one, two = whole[0, 0]["pixels"], whole[0, 1]["pixels"]
    torch.testing.assert_close(one[:, 4:, 4:], two[:, 4:, 4:])
    assert not torch.equal(one, two)


def test_dark_bands_are_not_holes(tmp_path):
    pixels = np.full((3, 8, 8), 90, np.uint8)
    pixels[:, :2], pixels[0, 4] = 0, 0  # nothing there; red alone is dark
    stack = BandStack((write_raster(tmp_path / "a.tif", pixels, nodata=0),))
    np.testing.assert_array_equal(stack.valid_mask(), np.arange(8)[:, None].repeat(8, 1) >= 2)
    seen = image_input(255.0, (0.4, 0.5, 0.6), (1.0,) * 3).read(stack)
    assert (seen[0, 4] == 0).all() and (seen[1, 4] == 90 / 255).all()
    torch.testing.assert_close(seen[:, 0, 0], torch.tensor([0.4, 0.5, 0.6]))
    # where 7, not 0, says that there is no data, a band's own hole is one
    pixels[1, 6] = 7
    stack = BandStack((write_raster(tmp_path / "b.tif", pixels, nodata=7),))
    assert stack.valid_mask().all() and (gaps := ~stack.read_valid()[1])[1, 6].all() and gaps.sum() == 8


def write_rgba(path, pixels):
    count, high, wide = pixels.shape
    form = {"driver": "GTiff", "count": count, "height": high, "width": wide, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=from_origin(5e5, 5e6, 10, 10), **form) as dataset:
        dataset.write(pixels)
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    return path


def test_alpha_masks_what_three_bands_show_and_is_a_band_of_four(tmp_path):
    pixels = np.full((4, 6, 6), 100, np.uint8)
    pixels[3] = 255
    pixels[3, :2] = 0
    path = write_rgba(tmp_path / "a.tif", pixels)
    three = image_input(255.0, (0.5,) * 3, (1.0,) * 3)
    stack = three.open((path,))
    assert three.read(stack).shape == (3, 6, 6) and (stack.valid_mask() == (np.arange(6)[:, None] >= 2)).all()
    assert (three.read(stack)[:, :2] == 0.5).all()
    four = image_input(255.0, (0.5,) * 4, (1.0,) * 4)  # infrared that GDAL takes for alpha
    stack = four.open((path,))
    assert (
        stack.valid_mask().all() and (four.read(stack)[3, :2] == 0).all() and (four.read(stack)[0] == 100 / 255).all()
    )


def test_other_bits_are_told(tmp_path):
    eight = write_raster(tmp_path / "8.tif", np.full((3, 4, 4), 90, np.uint8))
    sixteen = write_raster(tmp_path / "16.tif", np.full((3, 4, 4), 900, np.uint16))
    for of, other in ((eight, sixteen), (sixteen, eight)):
        inputs = ImageInput(fit_normalization(LabeledDataset([Item("a", ((of,),), "x")], ["x"]), None, None))
        inputs.read(BandStack((of,)))
        with pytest.raises(DataError, match=r"has values of uint.*, the training images have"):
            inputs.read(BandStack((other,)))


def test_a_mask_of_another_size_is_told_before_learning(tmp_path):
    data = write_masks(tmp_path / "m", count=2, side=40)
    labeled = open_labeled("segment", data, split="train")
    Image.fromarray(np.ones((20, 20), np.uint8)).save(data / "train/1_mask.png")
    with pytest.raises(DataError, match=r"1_mask.png is 20 x 20 pixels, its image 50 x 40"):
        SegmentationDataset(labeled, image_input(255.0, (0.5,) * 3, (1.0,) * 3), 16, 0, STILL)


@pytest.mark.parametrize(("wide", "high"), [(512, 331), (331, 512), (1000, 607)])
def test_a_smaller_image_keeps_its_places(tmp_path, wide, high):
    """A bright block at the far edge lies where its box, times the scale, says, to a tenth of a pixel."""
    pixels = np.zeros((3, high, wide), np.uint8)
    x, y = wide - 60, high - 60
    pixels[:, y : y + 40, x : x + 40] = 255
    stack = BandStack((write_raster(tmp_path / "a.tif", pixels),))
    seen, scale = read_window(image_input(255.0, (0.0,) * 3, (1.0,) * 3), stack, None, 256)
    assert max(seen.shape[1:]) == 256 and min(seen.shape[1:]) == np.ceil(min(wide, high) * scale)
    weight = seen[0].clamp(0).double()
    centre_y = float((weight.sum(1) * (torch.arange(len(weight)) + 0.5)).sum() / weight.sum())
    centre_x = float((weight.sum(0) * (torch.arange(weight.shape[1]) + 0.5)).sum() / weight.sum())
    assert centre_x == pytest.approx((x + 20) * scale, abs=0.1) and centre_y == pytest.approx((y + 20) * scale, abs=0.1)
