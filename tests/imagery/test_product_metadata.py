"""Products and files that state what they hold in unusual ways, or wrongly."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from lhrs.errors import DataError
from lhrs.imagery import open_image
from lhrs.imagery.band_stack import BandStack
from lhrs.imagery.discover import open_scene_source, sources
from lhrs.imagery.reader import open_source
from lhrs.imagery.scene import open_scene

Write = Callable[..., Path]
PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
BANDS = ("B04", "B03", "B02", "B08")
RNG = np.random.default_rng(3)
GROUND = RNG.integers(150, 3000, (4, 30, 40)).astype(np.uint16)
WANTED = (GROUND[:3] / 3000 * 255).round().astype(np.uint8).transpose(1, 2, 0)
N0510 = "S2B_MSIL2A_20230601T100031_N0510_R122_T33TWN_20230601T160000.tif"
OFFSETS = "<a><PROCESSING_BASELINE>05.10</PROCESSING_BASELINE><BOA_ADD_OFFSET band_id='0'>{}</BOA_ADD_OFFSET></a>"


def tag(path: Path, **tags: str) -> Path:
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**tags)
    return path


@pytest.mark.parametrize("how", ["name", "tag", "MTD file"])
@pytest.mark.parametrize("has_fill", [False, True])
def test_values_without_the_offset_are_not_shifted_twice(
    write_raster: Write, tmp_path: Path, how: str, has_fill: bool
) -> None:
    for is_shifted in (False, True):
        values = GROUND + 1000 * is_shifted
        if has_fill:
            values[:, :15] = 0
        path = write_raster(values.astype(np.uint16), N0510 if how == "name" else "a.tif", descriptions=BANDS)
        if how == "tag":
            tag(path, PROCESSING_BASELINE="05.10")
        elif how == "MTD file":
            (tmp_path / "MTD_MSIL2A.xml").write_text(OFFSETS.format(-1000))
        image = open_image(path)
        np.testing.assert_allclose(image.pixels[15:], WANTED[15:], atol=1)
        assert ("offset -1000" in image.rendering.scaling) == is_shifted


@pytest.mark.parametrize("how", ["tag", "MTD file", "offset of stored values"])
def test_a_stated_offset_is_applied(write_raster: Write, tmp_path: Path, how: str) -> None:
    path = write_raster(GROUND + 1000, descriptions=BANDS)
    if how == "tag":
        tag(path, BOA_ADD_OFFSET="-1000")
    elif how == "MTD file":
        text = OFFSETS.format(-1000).replace("<PROCESSING_BASELINE>05.10</PROCESSING_BASELINE>", "")
        (tmp_path / "MTD_MSIL2A.xml").write_text(text)
    else:
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (1,) * 4, (-1000,) * 4
    np.testing.assert_allclose(open_image(path).pixels, WANTED, atol=1)


@pytest.mark.parametrize("key", ["s2:processing_baseline", "processing:version"])
@pytest.mark.parametrize("is_shifted", [False, True])
def test_a_catalogs_baseline_is_checked_against_the_values(
    write_raster: Write, tmp_path: Path, key: str, is_shifted: bool
) -> None:
    assets = {
        color: {
            "href": str(write_raster(GROUND[n : n + 1] + np.uint16(1000 * is_shifted), f"{color}.tif", **PLACE)),
            "roles": ["data"], "eo:bands": [{"name": color, "common_name": color}],
        }
        for n, color in enumerate(("red", "green", "blue"))
    }  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2A", "geometry": None, "links": [], "assets": assets,
        "properties": {"datetime": "2023-04-21T10:00:00Z", "constellation": "sentinel-2", key: "05.10"},
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(item))
    scene = open_scene_source(next(sources([tmp_path / "item.json"])))
    assert scene is not None
    np.testing.assert_allclose(scene.read()[0], WANTED, atol=1)


def test_files_of_bands_are_named_by_their_files(write_raster: Write, tmp_path: Path) -> None:
    folder = tmp_path / "S2A_MSIL2A_20230601T100031_N0509_R122_T33TWN_20230601T160000.SAFE"
    folder.mkdir()
    files = []
    for n, band in enumerate(("B04", "B03", "B02")):
        path = write_raster(GROUND[n : n + 1] + 1000, f"{band}.tif", **PLACE)
        files.append(path.rename(folder / f"T33TWN_20230601T100031_{band}_10m.tif"))
    reader = open_source(files[::-1])
    assert reader.band_names == ("B02", "B03", "B04") and reader.sensor == "sentinel-2-l2a"
    np.testing.assert_allclose(open_image(files[::-1]).pixels, WANTED, atol=1)


def test_eo_browsers_8bit_bands_are_reflectance(write_raster: Write, tmp_path: Path) -> None:
    folder = tmp_path / "eo"
    folder.mkdir()
    for n, band in enumerate(("B04", "B03", "B02")):
        values = (GROUND[n : n + 1] / 10_000 * 255).round().astype(np.uint8)
        path = write_raster(values, f"{band}.tif", **PLACE)
        path.rename(folder / f"2023-06-01_Sentinel-2_L2A_{band}_(Raw).tiff")
    np.testing.assert_allclose(open_image(folder).pixels, WANTED, atol=3)


def test_many_bands_that_are_no_reflectance_are_stretched(write_raster: Write) -> None:
    image = open_image(write_raster(RNG.integers(60_000, 65_535, (13, 30, 40)).astype(np.uint16)))
    assert "percentile" in image.rendering.scaling and 100 < image.pixels.mean() < 155


def test_a_fourth_band_named_as_near_infrared_is_no_alpha(write_raster: Write) -> None:
    values = RNG.integers(1, 255, (4, 30, 40)).astype(np.uint8)
    values[3, :, :20] = 0
    colors = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    for names, valid_fraction in ((("red", "green", "blue", "nir"), 1.0), (None, 0.5)):
        kwargs = {} if names is None else {"descriptions": names}
        path = write_raster(
            values, f"{valid_fraction}.tif", photometric="rgb", alpha="yes", colorinterp=colors, **kwargs
        )
        assert open_image(path).valid_fraction == valid_fraction
        assert (BandStack((path,)).alpha is None) == (names is not None)
        assert BandStack((path,), (1, 2, 3)).valid_mask().mean() == valid_fraction


@pytest.mark.parametrize("points", [[(0, 0)], [(0, 0), (10, 10), (20, 20), (30, 30)]])
def test_control_points_that_place_nothing_are_no_georeference(write_raster: Write, points: list) -> None:
    gcps = [GroundControlPoint(row, col, 5e5 + 10 * col, 5e6 - 10 * row) for row, col in points]
    path = write_raster(np.full((3, 30, 40), 7, np.uint8), gcps=(gcps, CRS.from_epsg(32633)))
    if len(points) == 1:
        assert open_image(path).georeference is None
        with pytest.raises(DataError, match="not georeferenced"):
            open_scene([path])
    else:
        open_image(path)  # points on a line do not stop it


def test_pixels_at_a_pole_have_a_size(write_raster: Write) -> None:
    place = {"crs": "EPSG:3031", "transform": from_origin(-20_000, 15_000, 1000, 1000)}
    gsd_m = open_image(write_raster(np.full((3, 30, 40), 7, np.uint8), **place)).gsd_m
    assert gsd_m == pytest.approx(1028, abs=2)  # true to scale at 71 degrees south


@pytest.mark.parametrize("world, image", [("a.jgw", "a.JPG"), ("a.JGW", "a.jpg"), ("a.wld", "a.jpg")])
def test_world_files_are_found_whatever_their_case(tmp_path: Path, world: str, image: str) -> None:
    Image.fromarray(np.full((30, 40, 3), 99, np.uint8)).save(tmp_path / image, format="JPEG")
    (tmp_path / world).write_text("10\n0\n0\n-10\n500005\n4999995\n")
    (tmp_path / "a.prj").write_text("EPSG:32633\n")
    scene = open_scene([tmp_path / image])
    assert scene.transform == (10, 0, 500_000, 0, -10, 5_000_000) and scene.gsd_m == 10


def test_rendering_does_not_share_pixels_with_the_reader(tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 255, (30, 40, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    reader = open_source(tmp_path / "a.png")
    part = reader.read((0, 0, 40, 15))[0]
    before = part.copy()
    part[:] = 0
    np.testing.assert_array_equal(reader.read((0, 0, 40, 15))[0], before)
