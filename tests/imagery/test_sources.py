"""Where scenes come from, and what is not taken for one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin

from lhrs.errors import ConfigError, DataError
from lhrs.imagery.discover import open_scene_source, sources
from lhrs.imagery.tiles import parse_xyz

Write = Callable[..., Path]
UTM_33N = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 30, 30)}
STRETCHED = "2-98 percentile of all bands"
S2_L1C, S2_L2A = (f"sentinel-2-{level} true-color 0 to 3000" for level in ("l1c", "l2a"))
SURFACE = "landsat-c2-l2 true-color 7273 to 18182"
LANDSAT_8 = "LC08_L2SP_190028_20200801_20200915_02_T1_SR_B{}.TIF"


def write_bands(write_raster: Write, name: str, *bands: str) -> None:
    for n, band in enumerate(bands):
        values = np.random.default_rng(n).integers(7500, 14000, (1, 30, 40), np.uint16)
        write_raster(values, name.format(band), **UTM_33N)


@pytest.mark.parametrize(
    ("name", "bands", "scaling"),
    [
        (LANDSAT_8, "234", SURFACE),
        ("B{}.tif", "234", STRETCHED),
        ("T32TQM_20200801T101031_B0{}.tif", "234", S2_L2A),
        ("S2A_MSIL1C_20200801_T32TQM_B0{}.tif", "234", S2_L1C),
        ("b{}.tif", ("02", "03", "04", "8a"), S2_L2A),
        ("B{}.tif", ("02", "03", "04", "8A"), S2_L2A),
    ],
)
def test_only_sentinel2_is_scaled_as_sentinel2(
    write_raster: Write, tmp_path: Path, name: str, bands: str, scaling: str
) -> None:
    write_bands(write_raster, name, *bands)
    (source,) = sources([tmp_path])
    scene = open_scene_source(source)
    assert scene is not None and scene.scaling.description == scaling
    if scaling == STRETCHED:
        pixels, _ = scene.read()
        assert pixels.min() == 0 and 120 < np.median(pixels) < 136
        with pytest.raises(ConfigError, match="its bands are unknown"):
            open_scene_source(source, composite="swir")


def test_a_named_sensor_shows_landsat_stored_band_by_band(write_raster: Write, tmp_path: Path) -> None:
    write_bands(write_raster, LANDSAT_8, *"234567")
    (source,) = sources([tmp_path])
    scene = open_scene_source(source, "landsat-c2-l2", "swir")
    assert scene is not None and scene.scaling.limits == ((7273, 23636),) * 3
    assert [Path(file).stem[-2:] for file in scene.files] == ["B7", "B5", "B4"]


@pytest.mark.parametrize(
    "name", ["LT05_L2SP_190028_20000801_02_T1_SR_B{}.TIF", "LE07_L1TP_B{}.TIF", "LT51900282000214_B{}.tif"]
)
def test_older_landsats_number_red_green_and_blue_from_3_to_1(write_raster: Write, tmp_path: Path, name: str) -> None:
    write_bands(write_raster, name, *"234")
    (source,) = sources([tmp_path])
    with pytest.raises(DataError, match="there is no file of the band blue next to it, for landsat-4-7"):
        open_scene_source(source)
    write_bands(write_raster, name, *"1234")
    (source,) = sources([tmp_path])
    scene = open_scene_source(source)
    assert scene is not None and [Path(file).stem[-2:] for file in scene.files] == ["B3", "B2", "B1"]


TILES = {
    "OAM-386719-220253-19.png": (386719, 220253, 19),
    "19/386719/220253.png": (386719, 220253, 19),
    "0-0-0.png": (0, 0, 0),
    "5-3-4.png": (5, 3, 4),
    "2150-1389-12.png": (2150, 1389, 12),
}
NO_TILES = [
    "farm_2021-06-30.png", "farm_2021-6-30.png", "farm_2021-10-12.png", "30-06-2021.png", "2021/06/30.png",
    "2021/10/12.png", "07-3-12.png", "16-3-4.png", "1-2-25.png", "25/1/2.png", "3/8/1.png", "03/1/2.png",
]  # fmt: skip


def test_tiles_are_told_from_dates(shared_data: Path) -> None:
    for name, address in TILES.items():
        assert parse_xyz(Path("2021") / name) == address
    for name in NO_TILES:
        with pytest.raises(DataError, match="web-mercator"):
            parse_xyz(Path("x") / name)
    real = sorted((shared_data / "oam_osm_sites").rglob("OAM-*.png"))
    assert real and all("OAM-{}-{}-{}".format(*parse_xyz(path)) == path.stem for path in real)


def test_a_dated_picture_lies_nowhere_and_a_georeference_goes_before_a_name(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "farm_2021-06-30.png")
    path = tmp_path / "386719-220253-19.jpg"
    Image.fromarray(pixels).save(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.crs, dataset.transform = UTM_33N["crs"], UTM_33N["transform"]
    dated, placed = sources([tmp_path / "farm_2021-06-30.png", path])
    assert open_scene_source(dated) is None
    scene = open_scene_source(placed)
    assert scene is not None and scene.crs == "EPSG:32633" and scene.transform[2] == 500_000


@pytest.mark.parametrize("kind", ["palette", "gray", "gray-alpha", "color"])
def test_tiles_of_every_kind_show_what_they_are(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    made = {
        "palette": Image.fromarray(pixels).quantize(16), "gray": Image.fromarray(pixels[..., 0]),
        "gray-alpha": Image.fromarray(pixels[..., :2], "LA"), "color": Image.fromarray(pixels),
    }[kind]  # fmt: skip
    path = tmp_path / "16/34000/22000.png"
    path.parent.mkdir(parents=True)
    made.save(path)
    (source,) = sources([path])
    scene = open_scene_source(source)
    assert scene is not None and scene.crs == "EPSG:3857"
    shown, _ = scene.read()
    known = np.asarray(made.convert("RGBA"))[..., 3:] > 0
    np.testing.assert_array_equal(shown, np.asarray(made.convert("RGB")) * known)


@pytest.mark.parametrize("identity", ["../../../x", "/etc/x", "..", "", "a/../../b", "a\\b", ".work", "S2A_32TQM.1"])
def test_ids_of_items_are_names_and_no_paths(write_raster: Write, tmp_path: Path, identity: str) -> None:
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": identity, "bbox": [9, 47, 10, 48], "links": [],
        "geometry": {"type": "Point", "coordinates": [9, 47]}, "properties": {"datetime": "2024-04-21T10:00:00Z"},
        "assets": {"visual": {"href": str(write_raster(np.zeros((3, 8, 8), np.uint8), **UTM_33N))}},
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(item))
    (source,) = sources([tmp_path / "item.json"])
    assert not {"/", "\\"} & set(source.name) and source.name.strip(".") == source.name != ""
    assert identity != "S2A_32TQM.1" or source.name == identity
