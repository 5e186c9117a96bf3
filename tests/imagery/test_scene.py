"""Scenes show the pixels that `lhrs ask` shows, in every window."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from lhrs.imagery import open_image
from lhrs.imagery.scene import open_scene

Write = Callable[..., Path]
UTM_33N = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
CODES = np.random.default_rng(0).integers(0, 8, (1, 30, 40), np.uint8)


def same_as_asked(path: Path) -> np.ndarray:
    """The pixels of a scene, once they are those of the image."""
    scene, image = open_scene([path]), open_image(path)
    pixels, share = scene.read()
    np.testing.assert_array_equal(pixels, image.pixels)
    assert (share, scene.scaling.description) == (image.valid_fraction, image.rendering.scaling)
    part, _ = scene.read((10, 5, 16, 8))
    np.testing.assert_array_equal(part, pixels[5:13, 10:26])
    return pixels


def test_codes_are_seen_in_the_colors_of_their_table(write_raster: Write) -> None:
    path = write_raster(CODES, **UTM_33N)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {code: (255 - code, 30 * code, 200, 255) for code in range(1, 8)})
        dataset.nodata = 0
    pixels = same_as_asked(path)
    np.testing.assert_array_equal(pixels[..., 1], 30 * CODES[0])
    scene = open_scene([path])
    small, _ = scene.read(None, (8, 6))
    assert {tuple(rgb) for rgb in small.reshape(-1, 3)} <= {tuple(rgb) for rgb in pixels.reshape(-1, 3)}
    beyond, share = scene.read((30, 0, 20, 30))
    assert not beyond[:, 10:].any() and share == (CODES[0, :, 30:] > 0).mean() / 2


@pytest.mark.parametrize("top", [1, 7])
def test_masks_and_class_codes_are_spread_over_black_to_white(write_raster: Write, top: int) -> None:
    pixels = same_as_asked(write_raster(CODES.clip(0, top), **UTM_33N))
    assert pixels.max() == 255


def test_a_band_of_a_declared_zero_is_dark_and_not_without_data(write_raster: Write) -> None:
    values = np.random.default_rng(1).integers(20, 200, (3, 30, 40), np.uint8)
    values[0, :, :20] = 0  # water
    values[:, :10] = 0  # no data
    pixels = same_as_asked(write_raster(values, nodata=0, **UTM_33N))
    assert pixels[20, 10, 1] and not pixels[:10].any()


def test_a_formula_needs_all_its_bands(write_raster: Write) -> None:
    values = np.full((4, 30, 40), 90, np.uint8)
    values[3, :, :20] = 0
    names = ["red", "green", "blue", "nir"]
    path = write_raster(values, nodata=0, descriptions=names, photometric="MINISBLACK", **UTM_33N)
    assert open_scene([path], composite="ndvi").read()[1] == 0.5
    assert open_scene([path], composite="false-color").read()[1] == 1.0
