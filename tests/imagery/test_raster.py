import pickle
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin
from rasterio.warp import transform as warp

from lhrs.errors import DataError
from lhrs.imagery import open_image

Write = Callable[..., Path]
UTM_33N = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
RNG = np.random.default_rng(0)


def bands(count: int, dtype: type = np.uint8, low: int = 0, high: int = 256) -> np.ndarray:
    return RNG.integers(low, high, (count, 30, 40)).astype(dtype)


def test_a_sentinel2_stack_shows_its_true_colors(write_raster: Write) -> None:
    values = bands(13, np.uint16, 0, 3001)
    image = open_image(write_raster(values, **UTM_33N))
    assert image.rendering.bands == [4, 3, 2]
    assert image.rendering.scaling == "Sentinel-2 reflectance 0-3000"
    np.testing.assert_allclose(image.pixels, values[[3, 2, 1]].transpose(1, 2, 0) / 3000 * 255, atol=0.501)


def test_colors_declared_as_blue_green_red_are_put_right(write_raster: Write) -> None:
    values = bands(4)
    colors = [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.alpha]
    values[3] = 255
    image = open_image(write_raster(values, colorinterp=colors))
    np.testing.assert_array_equal(image.pixels, values[[2, 1, 0]].transpose(1, 2, 0))


def test_band_descriptions_are_read_from_the_file(write_raster: Write) -> None:
    names = ["nir", "red", "swir", "blue", "green"]
    image = open_image(write_raster(bands(5), descriptions=names, photometric="MINISBLACK"))
    assert image.rendering.bands == [2, 5, 4]
    assert image.rendering.chosen_by == "band names"


def test_two_bands_make_a_radar_composite(write_raster: Write) -> None:
    image = open_image(write_raster(RNG.gamma(1, 1, (2, 30, 40)), **UTM_33N))
    assert image.rendering.bands == [1, 2, 1]
    np.testing.assert_array_equal(image.pixels[..., 0], image.pixels[..., 2])
    assert (image.pixels[..., 0] != image.pixels[..., 1]).any()


def test_complex_radar_shows_its_amplitude(write_raster: Write) -> None:
    amplitude = np.linspace(1, 2, 1200).reshape(1, 30, 40)
    values = (amplitude * np.exp(1j * RNG.uniform(0, 6, amplitude.shape))).astype(np.complex64)
    image = open_image(write_raster(values))
    assert image.rendering.scaling.startswith("amplitude")
    assert (np.diff(image.pixels[..., 0].ravel().astype(int)) >= 0).all()


def test_a_color_table_is_applied_and_reduced_without_mixing_classes(write_raster: Write) -> None:
    codes = RNG.integers(0, 2, (1, 300, 400)).astype(np.uint8)
    path = write_raster(codes)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (255, 0, 0, 255), 1: (0, 0, 255, 255)})
    image = open_image(path, max_side=100)
    assert image.rendering.scaling == "color table"
    assert {tuple(c) for c in image.pixels.reshape(-1, 3).tolist()} == {(255, 0, 0), (0, 0, 255)}


@pytest.mark.parametrize("kind", ["nodata", "nan", "mask", "alpha", "undeclared"])
def test_pixels_without_data_are_black_and_counted(write_raster: Write, kind: str) -> None:
    values = RNG.uniform(1, 2, (1, 40, 40)).astype(np.float32)
    hole = np.zeros((40, 40), bool)
    hole[:10] = True
    if kind == "mask":
        path = write_raster(values, mask=~hole)
    elif kind == "alpha":
        alpha = np.where(hole, 0, 255).astype(np.float32)[None]
        path = write_raster(np.concatenate([values, values, alpha]), colorinterp=list(map(ColorInterp, (1, 0, 6))))
    else:
        values[0, hole] = {"nodata": 7, "nan": np.nan, "undeclared": -9999}[kind]
        path = write_raster(values, nodata=7 if kind == "nodata" else None)
    image = open_image(path)
    assert image.valid_fraction == pytest.approx(0.75)
    assert not image.pixels[hole].any()
    assert image.pixels[~hole].mean() == pytest.approx(127.5, abs=8), "the hole took part in the stretch"


def test_a_saturated_color_that_equals_nodata_is_kept(write_raster: Write) -> None:
    values = np.full((3, 20, 20), 90, np.uint8)
    values[0] = 255
    values[:, 0] = 255
    image = open_image(write_raster(values, nodata=255, photometric="RGB"))
    assert image.pixels[5, 5].tolist() == [255, 90, 90]
    assert image.valid_fraction == pytest.approx(0.95)


@pytest.mark.parametrize("nodata", [0, None])
def test_an_image_without_a_valid_pixel_is_refused(write_raster: Write, nodata: int | None) -> None:
    values = np.zeros((3, 20, 20), np.float32) if nodata == 0 else np.full((3, 20, 20), np.nan, np.float32)
    with pytest.raises(DataError, match=r"image\.tif contains no valid pixel"):
        open_image(write_raster(values, nodata=nodata))


def test_overviews_are_what_a_reduced_view_is_made_from(write_raster: Write) -> None:
    path = write_raster(np.full((3, 2048, 2048), 9, np.uint8), tiled=True, nodata=9)
    write_raster(np.full((3, 512, 512), 200, np.uint8), name="image.tif.ovr")
    image = open_image(path, max_side=256)
    assert (image.pixels == 200).all() and image.valid_fraction == 1, "the mask too comes from the overview"
    with pytest.raises(DataError, match="no valid pixel"):
        open_image(path, max_side=2048)


def test_hundred_gigapixels_open_in_a_moment_from_overviews_only(write_raster: Write, tmp_path: Path) -> None:
    path = tmp_path / "planet.tif"
    side = 320_000
    options = {"tiled": True, "blockxsize": 4096, "blockysize": 4096, "sparse_ok": True, "bigtiff": "YES"}
    with rasterio.open(
        path, "w", "GTiff", side, side, 3, dtype="uint8", nodata=0, compress="deflate", **options, **UTM_33N
    ):
        pass  # all tiles left out: the file is small, its header is not
    started = time.monotonic()
    with pytest.raises(DataError, match=r"planet\.tif: 320000 x 320000 pixels .* gdaladdo"):
        open_image(path)
    with pytest.raises(DataError, match="max_side"):
        open_image(path, max_side=None)
    write_raster(np.full((3, 1250, 1250), 99, np.uint8), name="planet.tif.ovr")
    image = open_image(path)
    assert (image.width, image.height, image.pixels.shape) == (side, side, (1024, 1024, 3))
    assert (image.pixels == 99).all()
    assert time.monotonic() - started < 5


def test_decimation_averages_instead_of_picking(write_raster: Write) -> None:
    checkers = np.indices((512, 512)).sum(0) % 2 * 200
    image = open_image(write_raster(checkers[None].astype(np.uint8)), max_side=128)
    assert (image.pixels == 100).all()


@pytest.mark.parametrize(
    ("crs", "transform", "expected_m", "tolerance"),
    [
        ("EPSG:32633", from_origin(500_000, 5_000_000, 10, 10), 10, 0),
        ("EPSG:32633", from_origin(500_000, 5_000_000, 10, 10) @ Affine.rotation(30), 10, 1e-9),
        ("EPSG:3857", from_origin(0, 8_399_737.9, 10, 10), 5.0, 0.02),  # latitude 60: half the nominal size
        ("EPSG:4326", from_origin(10, 60, 0.001, 0.001), np.sqrt(111.412 * 55.800), 0.05),  # m per 0.001 degrees at 60
        ("EPSG:4326", from_origin(10, 0.01, 0.001, 0.001), np.sqrt(110.574 * 111.320), 0.05),
        ("EPSG:2263", from_origin(980_000, 200_000, 1, 1), 1200 / 3937, 1e-9),  # New York, survey feet
    ],
)
def test_gsd_is_metres_on_the_ground(
    write_raster: Write, crs: str, transform: Affine, expected_m: float, tolerance: float
) -> None:
    image = open_image(write_raster(bands(3), crs=crs, transform=transform), max_side=10)
    assert image.gsd_m == pytest.approx(expected_m, abs=tolerance)


def test_lonlat_agrees_with_rasterio_on_rotated_and_geographic_files(shared_data: Path) -> None:
    fixtures = shared_data / "geotiff_fixtures"
    for path in (fixtures / "solaris/sar_hh.tif", fixtures / "torchsat/tiff_1channel_uint8.tif"):
        image = open_image(path, max_side=64)
        with rasterio.open(path) as dataset:
            points = RNG.uniform(0, [dataset.width, dataset.height], (20, 2))
            x, y = dataset.xy(points[:, 1], points[:, 0], offset="ul")
            expected = np.transpose(warp(dataset.crs, "EPSG:4326", x, y))
            outer = rasterio.warp.transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds, densify_pts=21)
        lonlat = image.to_lonlat(points)
        np.testing.assert_allclose(lonlat, expected, atol=1e-9)
        assert (lonlat >= np.subtract(outer[:2], 1e-6)).all() and (lonlat <= np.add(outer[2:], 1e-6)).all()


def test_pixel_coordinates_start_at_the_outer_corner(write_raster: Write) -> None:
    image = open_image(write_raster(bands(3), crs="EPSG:4326", transform=from_origin(10, 50, 0.5, 0.25)))
    lonlat = image.to_lonlat(np.array([[0, 0], [40, 30], [0.5, 1]]))
    np.testing.assert_allclose(lonlat, [[10, 50], [30, 42.5], [10.25, 49.75]])
    assert image.to_lonlat(np.empty((0, 2))).shape == (0, 2)


def test_ground_control_points_locate_a_raster_without_transform(write_raster: Write) -> None:
    truth = from_origin(10, 50, 0.001, 0.001) @ Affine.rotation(20)
    corners = [(0, 0), (40, 0), (0, 30), (40, 30), (20, 15)]
    points = [GroundControlPoint(y, x, *(truth @ (x, y))) for x, y in corners]
    image = open_image(write_raster(bands(3), gcps=(points, rasterio.crs.CRS.from_epsg(4326))))
    wanted = np.array([[7, 3], [31.5, 22]])
    np.testing.assert_allclose(image.to_lonlat(wanted), [truth @ tuple(p) for p in wanted], atol=1e-9)
    assert image.gsd_m == pytest.approx(np.sqrt(111.23 * 71.70), rel=1e-3)


def test_longitudes_past_the_antimeridian_wrap(write_raster: Write) -> None:
    image = open_image(write_raster(bands(3), crs="EPSG:4326", transform=from_origin(178, 10, 0.1, 0.1)))
    np.testing.assert_allclose(image.to_lonlat(np.array([[5, 0], [40, 0]])), [[178.5, 10], [-178, 10]])
    assert image.gsd_m == pytest.approx(0.1 * 111_000, rel=0.02)


def test_points_beside_the_earth_are_nan(shared_data: Path) -> None:
    image = open_image(shared_data / "geotiff_fixtures/rasterio_fixtures/goes.tif")
    lonlat = image.to_lonlat(np.array([[1, 1], [271, 271]]))
    assert np.isnan(lonlat[0]).all()
    assert np.abs(lonlat[1, 1]) < 0.1
    assert image.gsd_m == pytest.approx(20_055, rel=0.01)


MOON = rasterio.crs.CRS.from_proj4("+proj=longlat +R=1737400 +no_defs")


@pytest.mark.parametrize(
    "place",
    [
        {},
        {"transform": from_origin(0, 0, 10, 10)},
        {"crs": UTM_33N["crs"]},
        {"crs": MOON, "transform": from_origin(0, 10, 1, 1)},
        UTM_33N | {"crs": 'LOCAL_CS["site",UNIT["metre",1]]'},
    ],
)
def test_images_of_nowhere_open_without_a_position(write_raster: Write, place: dict[str, object]) -> None:
    image = open_image(write_raster(bands(3), **place))
    assert image.gsd_m is None and image.to_lonlat(np.zeros((1, 2))) is None


def test_a_container_of_several_rasters_says_which_to_take(tmp_path: Path) -> None:
    path = tmp_path / "many.gpkg"
    for table in ("first", "second"):
        options = {"raster_table": table, "append_subdataset": "YES" if path.exists() else "NO"}
        with rasterio.open(path, "w", "GPKG", 20, 20, 3, dtype="uint8", **UTM_33N, **options) as dataset:
            dataset.write(np.zeros((3, 20, 20), np.uint8))
    with pytest.raises(DataError, match=r"many\.gpkg has no bands of its own.*first"):
        open_image(path)


def test_a_cut_jpeg2000_does_not_pass_for_whole(write_raster: Write, capfd: pytest.CaptureFixture) -> None:
    values = RNG.integers(0, 2000, (3, 600, 600)).astype(np.uint16)
    path = write_raster(values, "image.jp2", driver="JP2OpenJPEG", blockxsize=256, blockysize=256)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(DataError, match=r"image\.jp2: the file is damaged"):
        open_image(path)
    assert capfd.readouterr().err == ""


def test_opening_is_silent_and_safe_in_threads(write_raster: Write, recwarn: pytest.WarningsRecorder) -> None:
    path = write_raster(bands(3))
    filters = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(open_image, [path] * 64))
    assert all((image.pixels == images[0].pixels).all() for image in images)
    assert not recwarn.list
    assert warnings.filters == filters


def test_an_opened_image_travels_between_processes(write_raster: Write) -> None:
    image = open_image(write_raster(bands(3), **UTM_33N))
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.to_lonlat(np.ones((1, 2))), image.to_lonlat(np.ones((1, 2))))
