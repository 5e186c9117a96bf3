import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lhrs.errors import DataError
from lhrs.imagery import list_images, open_image

RNG = np.random.default_rng(0)


def noise(height: int = 40, width: int = 60) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_image(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_every_odd_fixture_opens_or_says_in_one_line_why_not(shared_data: Path, capfd: pytest.CaptureFixture) -> None:
    refused = {}
    for path in sorted((shared_data / "geotiff_fixtures").rglob("*.*")):
        try:
            image = open_image(path)
        except DataError as error:
            refused[path.name] = str(error)
            continue
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 3 and image.pixels.shape[2] == 3
        assert max(image.pixels.shape) <= 1024
        assert 0 < image.valid_fraction <= 1
        assert len(image.rendering.bands) == 3 and image.rendering.scaling
    assert sorted(refused) == ["RGB.byte.tif.aux.xml", "all-nodata.tif", "corrupt.tif", "sample_geotiff.tif.txt"]
    assert not any("\n" in message for message in refused.values())
    assert "no valid pixel" in refused["all-nodata.tif"]
    assert "damaged" in refused["corrupt.tif"]
    assert capfd.readouterr() == ("", ""), "GDAL's messages belong in the log"


def test_every_image_of_the_real_sets_opens(shared_data: Path) -> None:
    folders = [shared_data / name for name in ("terramesh", "oscd/paris", "rsvqa", "banepa")]
    images = list_images(folders)
    assert len(images) > 100
    for path in images:
        assert open_image(path).valid_fraction > 0


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_lossless_color_pictures_come_back_unchanged(tmp_path: Path, suffix: str) -> None:
    pixels = noise()
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(path)
    image = open_image(path)
    np.testing.assert_array_equal(image.pixels, pixels)
    assert (image.width, image.height, image.valid_fraction, image.gsd_m) == (60, 40, 1.0, None)
    assert image.rendering.bands == [1, 2, 3] and image.rendering.scaling == "uint8 as is"
    assert image.to_lonlat(np.zeros((1, 2))) is None


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif", "avif"])
def test_lossy_pictures_open_whatever_they_are_called(tmp_path: Path, suffix: str) -> None:
    pixels = np.full((40, 60, 3), (200, 100, 50), np.uint8)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(path)
    renamed = path.rename(tmp_path / "image.data")
    assert np.abs(open_image(renamed).pixels.astype(int) - pixels).max() < 12


def test_gray_pictures_show_their_band_three_times(tmp_path: Path) -> None:
    gray = noise()[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    image = open_image(tmp_path / "gray.png")
    np.testing.assert_array_equal(image.pixels, np.stack([gray] * 3, -1))
    assert image.rendering.bands == [1, 1, 1]


def test_sixteen_bit_png_is_stretched_not_cut_to_its_high_byte(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(1000, 1200, 64 * 64).reshape(64, 64).astype(np.uint16)).save(tmp_path / "deep.png")
    image = open_image(tmp_path / "deep.png")
    assert image.pixels.min() == 0 and image.pixels.max() == 255
    assert len(np.unique(image.pixels)) > 150
    assert image.rendering.scaling == "2-98 percentile of all bands"


def test_palette_pictures_show_their_colors_and_transparency(tmp_path: Path) -> None:
    codes = np.zeros((10, 10), np.uint8)
    codes[:, 5:] = 1
    picture = Image.fromarray(codes, "P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / "codes.png", transparency=0)
    image = open_image(tmp_path / "codes.png")
    assert image.rendering.scaling == "color table" and image.rendering.bands == [1, 1, 1]
    assert image.valid_fraction == 0.5
    assert image.pixels[0, 0].tolist() == [0, 0, 0] and image.pixels[0, 9].tolist() == [0, 0, 255]


def test_transparent_pixels_are_no_data(tmp_path: Path) -> None:
    rgba = np.dstack([noise(), np.full((40, 60), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "part.png")
    image = open_image(tmp_path / "part.png")
    assert image.valid_fraction == 0.75 and not image.pixels[:10].any()
    np.testing.assert_array_equal(image.pixels[10:], rgba[10:, :, :3])
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(tmp_path / "none.png")
    assert "no valid pixel" in error_of(tmp_path / "none.png")


def test_photographs_are_turned_upright_and_sized_as_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    pixels = np.zeros((1600, 2400, 3), np.uint8)
    pixels[:, :1200] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif)
    image = open_image(tmp_path / "photo.jpg", max_side=300)
    assert (image.width, image.height) == (1600, 2400)
    assert image.pixels.shape == (300, 200, 3)
    assert image.pixels[:140].min() > 240 and image.pixels[160:].max() < 15


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_large_images_shrink_to_the_asked_side_and_keep_their_size(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"large.{suffix}"
    ramp = np.linspace(0, 255, 3000).astype(np.uint8)
    Image.fromarray(np.tile(ramp[None, :, None], (1500, 1, 3))).save(path)
    image = open_image(path)
    assert image.pixels.shape == (512, 1024, 3)
    assert (image.width, image.height) == (3000, 1500)
    assert np.abs(image.pixels[256, :, 0].astype(int) - np.linspace(0, 255, 1024)).max() < 4
    assert open_image(path, max_side=10).pixels.shape == (5, 10, 3)
    assert open_image(path, max_side=None).pixels.shape == (1500, 3000, 3)


def test_an_image_is_never_reduced_to_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 1), "red").save(tmp_path / "line.png")
    assert open_image(tmp_path / "line.png", max_side=100).pixels.shape == (1, 100, 3)


def test_cmyk_and_one_bit_pictures_open_in_true_colors(tmp_path: Path) -> None:
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(tmp_path / "print.jpg")
    assert np.abs(open_image(tmp_path / "print.jpg").pixels.astype(int) - [255, 0, 0]).max() < 8
    Image.new("1", (20, 20), 1).save(tmp_path / "bits.png")
    assert open_image(tmp_path / "bits.png").pixels.min() == 255


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif"])
def test_a_truncated_file_is_named_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(200, 200)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error_of(path)


def test_missing_empty_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    assert "does not exist" in error_of(tmp_path / "nothing.tif")
    (tmp_path / "empty.tif").touch()
    assert "is empty" in error_of(tmp_path / "empty.tif")
    (tmp_path / "text.png").write_text("not a picture\nat all\n" * 10)
    assert "not an image" in error_of(tmp_path / "text.png")
    (tmp_path / "folder.tif").mkdir()
    error_of(tmp_path / "folder.tif")


def test_a_decompression_bomb_is_refused_before_it_unpacks(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    assert "gdal_translate" in error_of(tmp_path / "bomb.png")


def test_a_big_but_honest_picture_opens_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    Image.new("1", (10_000, 10_000), 1).save(tmp_path / "big.png")
    assert open_image(tmp_path / "big.png").pixels.shape == (1024, 1024, 3)
    assert not recwarn.list


def test_a_png_beside_its_georeferencing_knows_where_it_is(tmp_path: Path) -> None:
    import rasterio
    from rasterio.transform import from_origin

    path = tmp_path / "map.png"
    with rasterio.open(
        path, "w", driver="PNG", width=8, height=8, count=3, dtype="uint8",
        crs="EPSG:32633", transform=from_origin(500_000, 5_000_000, 10, 10),
    ) as dataset:  # fmt: skip
        dataset.write(np.full((3, 8, 8), 7, np.uint8))
    assert open_image(path).gsd_m == 10


def test_folders_are_listed_in_natural_order_and_files_as_given(tmp_path: Path) -> None:
    for name in ("tile_10.tif", "tile_2.TIF", "b/3.jpg", "b/11.jpg", "b/notes.txt", ".hidden.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "z.data").touch()
    (tmp_path / "a.png").touch()
    listed = list_images([tmp_path / "z.data", tmp_path / "in", str(tmp_path / "a.png")])
    names = [path.relative_to(tmp_path).as_posix() for path in listed]
    assert names == ["z.data", "in/b/3.jpg", "in/b/11.jpg", "in/tile_2.TIF", "in/tile_10.tif", "a.png"]


def test_missing_paths_and_folders_without_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list_images([tmp_path / "nothing"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="contains no image"):
        list_images([tmp_path])


def test_a_picture_opens_without_loading_gdal_or_torch(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    code = (
        "import sys; import lhrs.boxes, lhrs.imagery.draw_boxes; from lhrs.imagery import open_image; "
        f"open_image({str(tmp_path / 'a.png')!r}); print([m for m in ('rasterio', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
