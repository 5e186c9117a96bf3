"""What raw values mean is asked of tags, products and catalogs, and sensors that are named are checked."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from lhrs.errors import ConfigError
from lhrs.imagery import open_image
from lhrs.imagery.discover import open_scene_source, sources
from lhrs.imagery.reader import open_source
from lhrs.imagery.scene import open_scene

Write = Callable[..., Path]
UTM_33N = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
RGBN = ("B04", "B03", "B02", "B08")
RNG = np.random.default_rng(0)
REFLECTANCE = RNG.integers(200, 3000, (4, 30, 40)).astype(np.uint16)
WANTED = (REFLECTANCE[:3] / 3000 * 255).round().astype(np.uint8).transpose(1, 2, 0)


def tagged(path: Path, scale: float | None = None, offset: float | None = None, **tags: str) -> Path:
    with rasterio.open(path, "r+") as dataset:
        if scale is not None:
            dataset.scales, dataset.offsets = (scale,) * dataset.count, (offset,) * dataset.count
        dataset.update_tags(**tags)
    return path


@pytest.mark.parametrize("names", [RGBN[:3], ("B4", "B3", "B2"), ("red", "green", "blue")])
def test_sixteen_bit_reflectances_are_rendered_as_their_8bit_originals(write_raster: Write, names: tuple) -> None:
    original = RNG.integers(20, 256, (3, 64, 64)).astype(np.uint8)
    values = (original / 255 * 3000).round().astype(np.uint16)
    image = open_image(write_raster(values, descriptions=names))
    np.testing.assert_array_equal(image.pixels, original.transpose(1, 2, 0))
    assert image.rendering.scaling == "sentinel-2 true-color 0 to 3000"


@pytest.mark.parametrize("how", ["tags", "product name", "metadata tag", "MTD file", "float", "fraction of 0.0001"])
def test_every_way_to_store_a_reflectance_looks_alike(write_raster: Write, tmp_path: Path, how: str) -> None:
    shifted = REFLECTANCE + 1000
    if how == "tags":
        path = tagged(write_raster(shifted, descriptions=RGBN), 0.0001, -0.1)
    elif how == "product name":
        path = write_raster(
            shifted, "S2A_MSIL2A_20230601T100031_N0509_R122_T33TWN_20230601T160000.tif", descriptions=RGBN
        )
    elif how == "metadata tag":
        path = tagged(write_raster(shifted, descriptions=RGBN), PROCESSING_BASELINE="05.09")
    elif how == "MTD file":
        (tmp_path / "MTD_MSIL2A.xml").write_text("<x><PROCESSING_BASELINE>04.00</PROCESSING_BASELINE></x>")
        path = write_raster(shifted, descriptions=RGBN)
    elif how == "float":
        path = write_raster((REFLECTANCE / 10_000).astype(np.float32), descriptions=RGBN)
    else:
        path = tagged(write_raster(REFLECTANCE, descriptions=RGBN), 0.0001, 0.0)
    assert np.abs(open_image(path).pixels.astype(int) - WANTED).max() <= 1


@pytest.mark.parametrize(
    "name", ["S2A_MSIL2A_20210601T100031_N0300_R122_T33TWN.tif", "S2A_MSIL2A_20230601T100031_N0509_R122_harmonized.tif"]
)
def test_an_offset_that_is_not_there_is_not_taken_off(write_raster: Write, name: str) -> None:
    pixels = open_image(write_raster(REFLECTANCE, name, descriptions=RGBN)).pixels
    assert np.abs(pixels.astype(int) - WANTED).max() <= 1


def test_an_index_is_computed_from_reflectances(write_raster: Write) -> None:
    names = ("B02", "B03", "B04", "B08")
    old = open_image(write_raster(REFLECTANCE, descriptions=names), composite="ndvi").pixels
    new = tagged(write_raster(REFLECTANCE + 1000, "new.tif", descriptions=names), 0.0001, -0.1)
    assert np.abs(open_image(new, composite="ndvi").pixels.astype(int) - old).max() <= 1
    np.testing.assert_array_equal(open_scene([write_raster(REFLECTANCE, "s.tif", descriptions=names, **UTM_33N)],
                                             composite="ndvi").read()[0], old)  # fmt: skip


def test_landsat_surface_reflectance_has_its_own_limits(write_raster: Write) -> None:
    names = [f"SR_B{n}" for n in range(1, 8)]
    values = RNG.integers(7300, 18000, (7, 30, 40)).astype(np.uint16)
    plain = open_image(write_raster(values, descriptions=names))
    assert plain.rendering.scaling == "landsat-c2-l2 true-color 7273 to 18182" and plain.rendering.bands == [4, 3, 2]
    with_tags = open_image(tagged(write_raster(values, "tagged.tif", descriptions=names), 0.0000275, -0.2))
    np.testing.assert_array_equal(with_tags.pixels, plain.pixels)


@pytest.mark.parametrize(
    ("values", "sensor", "why"),
    [
        (RNG.integers(0, 255, (12, 20, 20)).astype(np.uint8), "sentinel-2-l2a", "values of uint8"),
        (RNG.integers(50_000, 65_000, (12, 20, 20)).astype(np.uint16), "sentinel-2-l2a", "2nd and 98th percentile"),
        (RNG.integers(100, 3000, (7, 20, 20)).astype(np.uint16), "landsat-c2-l2", "2nd and 98th percentile"),
        (RNG.normal(-12, 3, (2, 20, 20)).astype(np.float32), "sentinel-1", "its values are decibels"),
        (RNG.uniform(0, 1, (2, 20, 20)).astype(np.float32), "sentinel-1-db", "its values are power"),
        (RNG.integers(0, 9, (3, 20, 20)).astype(np.uint16), "sentinel-2-l2a", "3 bands, sentinel-2-l2a has 12"),
    ],
)
def test_a_named_sensor_whose_values_these_cannot_be_is_one_line(
    write_raster: Write, values: np.ndarray, sensor: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=why) as error:
        open_image(write_raster(values), sensor=sensor)
    assert "\n" not in str(error.value)


def test_what_is_unknown_is_stretched_over_all_bands_and_said(write_raster: Write) -> None:
    ramp = np.linspace(0, 60_000, 1200).reshape(1, 30, 40)
    path = write_raster(np.concatenate([ramp, ramp / 2, ramp / 4]).astype(np.uint16))
    image = open_image(path)
    assert image.rendering.scaling == "2-98 percentile of all bands"
    assert image.pixels[..., 0].mean() > 1.5 * image.pixels[..., 1].mean()
    alone = open_image(path, composite="per-band")
    assert alone.rendering.scaling == "2-98 percentile of each band"
    assert abs(alone.pixels[..., 0].mean() - alone.pixels[..., 2].mean()) < 1
    with pytest.raises(ConfigError, match="name its sensor"):
        open_image(path, composite="swir")


def test_a_ground_sampling_distance_resamples_what_is_georeferenced_and_states_it_for_the_rest(
    write_raster: Write,
) -> None:
    values = RNG.integers(1, 255, (3, 30, 40)).astype(np.uint8)
    assert open_image(write_raster(values, **UTM_33N), gsd_m=20).pixels.shape == (15, 20, 3)
    assert open_image(write_raster(values, **UTM_33N), gsd_m=5).pixels.shape == (60, 80, 3)
    stated = open_image(write_raster(values, "b.tif"), gsd_m=20)
    assert stated.pixels.shape == (30, 40, 3) and stated.gsd_m == 20


def test_a_safe_folder_is_one_scene_of_its_finest_bands(write_raster: Write, tmp_path: Path) -> None:
    safe = tmp_path / "S2B_MSIL2A_20230601T100031_N0509_R122_T33TWN_20230601T130000.SAFE"
    images = safe / "GRANULE/L2A_T33TWN/IMG_DATA"
    for n, (band, side) in enumerate([("B02", 10), ("B03", 10), ("B04", 10), ("B02", 20), ("B8A", 20), ("SCL", 20)]):
        folder = images / f"R{side}m"
        folder.mkdir(parents=True, exist_ok=True)
        size = 400 // side
        place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, side, side)}
        path = write_raster(np.full((1, size, size), 1300 + 300 * n, np.uint16), f"{n}.tif", **place)
        path.rename(folder / f"T33TWN_20230601T100031_{band}_{side}m.tif")
    (source,) = sources([safe])
    assert [Path(file).stem[-7:] for file in source.files[:3]] == ["B04_10m", "B03_10m", "B02_10m"]
    scene = open_scene_source(source)
    assert scene is not None and "offset -1000 of baseline 04.00" in scene.scaling.description
    np.testing.assert_array_equal(scene.read()[0][0, 0], np.round(np.array([900, 600, 300]) / 3000 * 255))
    assert open_source(safe).band_names[:3] == ("B04", "B03", "B02")


def test_a_planet_folder_shows_its_image_and_not_its_mask(write_raster: Write, tmp_path: Path) -> None:
    folder = tmp_path / "planet"
    folder.mkdir()
    values = RNG.integers(100, 3000, (4, 30, 40)).astype(np.uint16)
    write_raster(values, "a.tif", **UTM_33N).rename(folder / "20230601_101500_12_24a1_3B_AnalyticMS_SR.tif")
    write_raster(np.ones((8, 30, 40), np.uint8), "b.tif", **UTM_33N).rename(
        folder / "20230601_101500_12_24a1_3B_udm2.tif"
    )
    (source,) = sources([folder])
    scene = open_scene_source(source)
    assert scene is not None and scene.plan.bands == (3, 2, 1)
    assert scene.scaling.description == "planetscope-4 true-color 0 to 3000"


@pytest.mark.parametrize("applied", [True, False])
def test_a_catalog_says_whether_the_offset_was_applied(write_raster: Write, tmp_path: Path, applied: bool) -> None:
    stored = REFLECTANCE if applied else REFLECTANCE + 1000
    assets = {}
    for n, color in enumerate(("red", "green", "blue")):
        path = write_raster(stored[n : n + 1], f"{color}.tif", **UTM_33N)
        assets[color] = {
            "href": str(path), "roles": ["data"], "eo:bands": [{"name": color, "common_name": color}],
            "raster:bands": [{"scale": 0.0001, "offset": -0.1}],
        }  # fmt: skip
    properties = {
        "datetime": "2023-04-21T10:00:00Z", "constellation": "sentinel-2", "earthsearch:boa_offset_applied": applied,
    }  # fmt: skip
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2A_33TWN", "bbox": [9, 47, 10, 48], "links": [],
        "geometry": {"type": "Point", "coordinates": [9, 47]}, "properties": properties, "assets": assets,
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(item))
    (source,) = sources([tmp_path / "item.json"])
    scene = open_scene_source(source)
    assert scene is not None
    assert np.abs(scene.read()[0].astype(int) - WANTED).max() <= 1
