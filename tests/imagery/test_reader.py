"""One way from a path to values, validity, orientation and place, whatever the file is."""

import pickle
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from lhrs.errors import DataError
from lhrs.imagery import open_image
from lhrs.imagery.band_stack import BandStack
from lhrs.imagery.geo_image import GeoBounds
from lhrs.imagery.reader import open_source
from lhrs.imagery.scene import open_scene

Write = Callable[..., Path]
UTM_33N = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10)}
RNG = np.random.default_rng(0)
WKT = CRS.from_epsg(32633).to_wkt(version="WKT1_ESRI")
STATISTICS = """<PAMDataset><PAMRasterBand band="1"><Metadata><MDI key="STATISTICS_MAXIMUM">255</MDI></Metadata>
</PAMRasterBand></PAMDataset>"""


def noise(height: int = 20, width: int = 30) -> np.ndarray:
    return RNG.integers(1, 256, (height, width, 3), dtype=np.uint8)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels of an upright image, by an implementation of its own."""
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[0x0112] = inverse
    image = Image.fromarray(pixels)
    method = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }[inverse]  # fmt: skip
    return np.array(image.transpose(method))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_every_orientation_is_turned_upright_by_every_reader(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = noise()
    path = tmp_path / f"photo.{suffix}"
    stored = Image.fromarray(turned(upright, orientation))
    if suffix == "tif":
        stored.save(path, tiffinfo={274: orientation})
    else:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(path, exif=exif)
    reader = open_source(path)
    assert reader.shape == upright.shape[:2]
    values, valid = reader.read()
    np.testing.assert_array_equal(values.transpose(1, 2, 0), upright)
    assert valid.all()
    part, _ = reader.read((3, 2, 10, 5))
    np.testing.assert_array_equal(part.transpose(1, 2, 0), upright[2:7, 3:13])
    np.testing.assert_array_equal(open_image(path).pixels, upright)
    np.testing.assert_array_equal(BandStack((path,)).read(), values)


def test_statistics_next_to_a_photo_are_no_georeference(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise(40, 60)).save(path, exif=exif)
    before = open_image(path)
    (tmp_path / "photo.jpg.aux.xml").write_text(STATISTICS)
    after = open_image(path)
    assert (after.width, after.height, after.georeference) == (40, 60, None)
    np.testing.assert_array_equal(after.pixels, before.pixels)


@pytest.mark.parametrize(
    ("image", "world"),
    [
        *[("a.jpg", "a.jgw"), ("a.png", "a.pgw"), ("a.png", "a.wld"), ("a.tif", "a.tfw")],
        *[("a.jpeg", "a.jpegw"), ("a.JPG", "a.JGW"), ("a.jpg", "a.jpg.wld")],
    ],
)
def test_a_world_file_and_its_prj_place_an_image(tmp_path: Path, image: str, world: str) -> None:
    Image.fromarray(noise()).save(tmp_path / image)
    (tmp_path / world).write_text("10\n0\n0\n-10\n500005\n4999995\n")
    assert open_image(tmp_path / image).georeference is None, "a world file names no CRS"
    (tmp_path / "a.prj").write_text(WKT)
    opened = open_image(tmp_path / image)
    assert opened.gsd_m == 10 and opened.georeference is not None
    assert opened.georeference.transform == UTM_33N["transform"]
    assert open_scene([tmp_path / image]).crs == "EPSG:32633"


@pytest.mark.parametrize("image", ["broken.jpg", "broken.tif"])
def test_a_projection_file_that_cannot_be_read_is_ignored_with_one_line(
    tmp_path: Path, image: str, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(noise()).save(tmp_path / image)
    (tmp_path / "broken").with_suffix(".jgw" if image.endswith("jpg") else ".tfw").write_text("10\n0\n0\n-10\n5\n5\n")
    (tmp_path / "broken.prj").write_text("no projection")
    for _ in range(2):
        assert open_image(tmp_path / image).georeference is None
    (record,) = caplog.records
    assert "broken.prj is ignored" in record.message and "\n" not in record.message


def test_a_turned_photo_with_a_world_file_keeps_each_pixel_in_its_place(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:8, :8] = 255  # at the top left as stored, at the top right when upright
    for name, told in (("plain", None), ("turned", exif)):
        Image.fromarray(stored).save(tmp_path / f"{name}.jpg", quality=95, **({} if told is None else {"exif": told}))
        (tmp_path / f"{name}.jgw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
        (tmp_path / f"{name}.prj").write_text(WKT)
    plain, upright = (open_image(tmp_path / f"{name}.jpg") for name in ("plain", "turned"))
    assert upright.pixels[2, -3].min() > 200 and (upright.width, upright.height) == (40, 60)
    np.testing.assert_allclose(
        upright.to_lonlat(np.array([[40 - 2, 2]])), plain.to_lonlat(np.array([[2, 2]])), atol=1e-9
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_transparency_of_every_kind_is_no_data_for_every_reader(tmp_path: Path, mode: str, suffix: str) -> None:
    if suffix != "png" and mode != "RGBA":
        pytest.skip("png alone stores it so")
    pixels = noise()
    pixels[:, :15] = 0
    alpha = np.where(np.arange(30) < 15, 0, 255).astype(np.uint8)[None].repeat(20, 0)
    path = tmp_path / f"tile.{suffix}"
    if mode == "RGBA":
        Image.fromarray(np.dstack([pixels, alpha])).save(path, **({"lossless": True} if suffix == "webp" else {}))
    elif mode == "LA":
        Image.fromarray(np.dstack([pixels[..., 0], alpha]), "LA").save(path)
    elif mode == "P":
        Image.fromarray((alpha > 0).astype(np.uint8), "P").save(path, transparency=0)
    else:
        Image.fromarray(pixels).save(path, transparency=(0, 0, 0))
    assert open_image(path).valid_fraction == pytest.approx(0.5)
    bands = (1, 2, 3) if suffix == "tif" else None
    known = BandStack((path,), bands).valid_mask()
    assert not known[:, :15].any() and known[:, 15:].all()


def test_masks_and_overviews_next_to_an_image_are_read(write_raster: Write, tmp_path: Path) -> None:
    path = write_raster(np.full((3, 30, 40), 90, np.uint8), name="a.tif")
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / "b.png")
    mask = np.full((1, 30, 40), 255, np.uint8)
    mask[:, :, :10] = 0
    for name in ("a.tif.msk", "b.png.msk"):
        write_raster(mask, name=name)
        with rasterio.open(tmp_path / name, "r+") as dataset:
            dataset.update_tags(INTERNAL_MASK_FLAGS_1="2", INTERNAL_MASK_FLAGS_2="2", INTERNAL_MASK_FLAGS_3="2")
    assert open_image(path).valid_fraction == pytest.approx(0.75)
    assert open_image(tmp_path / "b.png").valid_fraction == pytest.approx(0.75)


def test_nodata_is_each_bands_own_and_zero_in_some_bands_is_dark(write_raster: Write) -> None:
    values = np.full((3, 20, 20), 90, np.uint8)
    values[0, :, :5] = 0
    values[:, 0] = 0
    path = write_raster(values, nodata=0)
    _, valid = open_source(path).read()
    assert not valid[0, 1:, :5].any() and valid[1, 1:].all() and not valid[:, 0].any()
    _, usable = BandStack((path,)).read_valid()
    assert usable[:, 1:].all() and not usable[:, 0].any()
    assert (
        open_image(path).valid_fraction
        == open_scene([write_raster(values, "b.tif", nodata=0, **UTM_33N)]).read()[1]
        == 0.95
    )


def test_areas_and_points_are_found_whether_longitude_counts_to_180_or_to_360(write_raster: Write) -> None:
    place = {"crs": "EPSG:4326", "transform": from_origin(285, -12, 0.001, 0.001)}
    path = write_raster(RNG.integers(1, 255, (3, 30, 40), np.uint8), **place)
    for west in (-74.99, 285.01):
        part = open_image(path, area=GeoBounds((west, -12.02, west + 0.01, -12.01)))
        assert (part.width, part.height, part.offset) == (10, 10, (10, 10))
    georeference = open_source(path).georeference
    assert georeference is not None
    for lon in (-74.99, 285.01):
        np.testing.assert_allclose(
            georeference.to_pixels(np.array([[lon, -12.01]]), "EPSG:4326"), [[10, 10]], atol=1e-6
        )
    with pytest.raises(DataError, match="does not touch"):
        open_image(path, area=GeoBounds((-76.0, -12.02, -75.9, -12.01)))


def test_control_points_place_a_scene_if_an_affine_transform_fits_them(write_raster: Write) -> None:
    truth = UTM_33N["transform"] @ Affine.rotation(20)
    corners = [(x, y) for x in (0, 20, 40) for y in (0, 15, 30)]

    def points(bend: float) -> tuple:
        found = [GroundControlPoint(y, x, *(truth @ (x + bend * (x - 20) ** 2, y))) for x, y in corners]
        return found, CRS.from_epsg(32633)

    values = RNG.integers(1, 255, (3, 30, 40), np.uint8)
    scene = open_scene([write_raster(values, gcps=points(0))])
    np.testing.assert_allclose(scene.transform, truth[:6], atol=1e-6)
    with pytest.raises(DataError, match=r"control points that no affine transform fits within .* gdalwarp"):
        open_scene([write_raster(values, "bent.tif", gcps=points(0.01))])
    assert open_image(write_raster(values, "bent.tif", gcps=points(0.01))).georeference is not None


def test_an_rpc_model_places_an_image(write_raster: Write) -> None:
    from rasterio.rpc import RPC

    line, sample = [0.0] * 20, [0.0] * 20
    line[2], sample[1] = -1.0, 1.0  # rows follow latitude down, columns longitude
    one = [1.0, *[0.0] * 19]
    model = RPC(
        height_off=100.0, height_scale=500.0, lat_off=48.0, lat_scale=0.0015, line_den_coeff=one, line_num_coeff=line,
        line_off=15.0, line_scale=15.0, long_off=11.0, long_scale=0.002, samp_den_coeff=one, samp_num_coeff=sample,
        samp_off=20.0, samp_scale=20.0, err_bias=None, err_rand=None,
    )  # fmt: skip
    path = write_raster(RNG.integers(1, 255, (3, 30, 40), np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.rpcs = model
    opened = open_image(path)
    np.testing.assert_allclose(opened.to_lonlat(np.array([[20.0, 15.0]])), [[11, 48]], atol=1e-4)
    assert opened.gsd_m == pytest.approx(np.sqrt(11.1 * 7.45), rel=0.02)
    assert open_scene([path]).crs == "EPSG:32632"


def test_members_of_archives_and_subdatasets_are_opened_by_name(write_raster: Write, tmp_path: Path) -> None:
    values = RNG.integers(1, 255, (3, 30, 40), np.uint8)
    path = write_raster(values, **UTM_33N)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "in/b.tif")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(path, "b.tif")
    for name in (f"/vsizip/{tmp_path}/a.zip/in/b.tif", f"/vsitar/{tmp_path}/a.tar/b.tif", f"GTIFF_DIR:1:{path}"):
        np.testing.assert_array_equal(open_image(name).pixels, values.transpose(1, 2, 0))
        np.testing.assert_array_equal(open_image(Path(name)).pixels, values.transpose(1, 2, 0))
        assert open_scene([name]).gsd_m == 10
    for name in ("a.zip", "a.tar"):
        with pytest.raises(DataError, match=rf"1 image \(.*b\.tif\): name one as /vsi.*/{name}/.*b\.tif"):
            open_image(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.write(path, "in/c.TIF")
        archive.writestr("readme.txt", "x")
    for name in (str(tmp_path / "a.zip"), f"/vsizip/{tmp_path}/a.zip"):
        with pytest.raises(DataError, match=r"2 images \(in/b\.tif, in/c\.TIF\): name one as /vsizip//.*/in/b\.tif"):
            open_image(name)
    with pytest.raises(DataError, match="is not a file"):
        open_image(f"/vsizip/{tmp_path}/a.zip/in/b.tif", driver="GTiff")


def test_a_photo_in_heic_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(DataError, match="HEIC is not supported: convert it first"):
        open_image(tmp_path / "photo.heic")


def test_masks_are_read_as_codes_and_images_as_colors(tmp_path: Path) -> None:
    codes = RNG.integers(0, 4, (20, 30), np.uint8)
    image = Image.fromarray(codes, "P")
    image.putpalette([value for code in range(4) for value in (code * 50, 0, 200)])
    image.save(tmp_path / "mask.png")
    raw, valid = open_source(tmp_path / "mask.png", raw=True).read((2, 1, 10, 5))
    np.testing.assert_array_equal(raw[0], codes[1:6, 2:12])
    assert valid.all()
    colors, _ = open_source(tmp_path / "mask.png").read()
    np.testing.assert_array_equal(colors[0], codes * 50)


def test_a_palette_raster_is_read_in_colors_unless_raw(write_raster: Write) -> None:
    codes = RNG.integers(0, 3, (1, 20, 30), np.uint8)
    path = write_raster(codes)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {code: (100 + code, 0, 0, 255) for code in range(3)})
    np.testing.assert_array_equal(open_source(path).read()[0][0], 100 + codes[0])
    np.testing.assert_array_equal(open_source(path, raw=True).read()[0], codes)


def test_bands_of_several_files_are_read_at_the_finest_resolution(write_raster: Write) -> None:
    fine = write_raster(np.full((2, 40, 60), 7, np.uint16), "fine.tif", **UTM_33N)
    coarse = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 20, 20)}
    reader = open_source([write_raster(np.full((1, 20, 30), 9, np.uint16), "coarse.tif", **coarse), fine])
    assert (reader.width, reader.height, reader.count, reader.gsd_m) == (60, 40, 3, 10)
    values, valid = reader.read((10, 10, 20, 20), None, (3, 1))
    assert valid.all() and values[:, 0, 0].tolist() == [7, 9]
    elsewhere = UTM_33N | {"transform": from_origin(600_000, 5_000_000, 10, 10)}
    with pytest.raises(DataError, match="does not cover the same ground"):
        open_source([fine, write_raster(np.ones((1, 40, 60), np.uint16), "far.tif", **elsewhere)])


def test_a_window_beyond_the_image_is_without_data_there(write_raster: Write) -> None:
    values = RNG.integers(1, 255, (1, 20, 30), np.uint8)
    reader = open_source(write_raster(values))
    read, valid = reader.read((-5, -5, 20, 20))
    np.testing.assert_array_equal(read[:, 5:, 5:], values[:, :15, :15])
    assert valid[:, 5:, 5:].all() and valid.sum() == 225
    assert not reader.read((100, 100, 5, 5))[1].any()
    with pytest.raises(DataError, match="has 1 bands, there is no band 2"):
        reader.read(bands=[2])


def test_a_reader_travels_between_processes_and_an_untrusted_file_is_read_alone(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png")
    (tmp_path / "a.pgw").write_text("10\n0\n0\n-10\n500005\n4999995\n")
    (tmp_path / "a.prj").write_text(WKT)
    reader = pickle.loads(pickle.dumps(open_source(tmp_path / "a.png")))
    assert reader.georeference is not None
    np.testing.assert_array_equal(reader.read()[0], open_source(tmp_path / "a.png", driver="PNG").read()[0])
    assert open_source(tmp_path / "a.png", driver="PNG").georeference is None


def test_the_content_of_a_file_decides_what_it_is(write_raster: Write, tmp_path: Path) -> None:
    values = RNG.integers(1, 255, (3, 20, 30), np.uint8)
    shutil.move(write_raster(values), tmp_path / "named.png")
    np.testing.assert_array_equal(open_source(tmp_path / "named.png").read()[0], values)
    Image.fromarray(values.transpose(1, 2, 0)).save(tmp_path / "x.png")
    shutil.move(tmp_path / "x.png", tmp_path / "named.tif")
    np.testing.assert_array_equal(BandStack((tmp_path / "named.tif",)).read(), values)


def test_infrared_in_place_of_alpha_is_a_band_and_real_alpha_is_validity(write_raster: Write) -> None:
    values = RNG.integers(1, 255, (4, 20, 30), np.uint8)
    values[3, :, :10] = 0
    colors = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = open_source(write_raster(values, colorinterp=colors))
    assert reader.alpha == 4
    assert reader.read()[1].all(), "read as a band, it is not taken for transparency"
    assert not reader.read(bands=(1, 2, 3))[1][:, :, :10].any()
