"""Windows for pretraining: what lies in a shard is read as what lies in a folder."""

import tarfile

import numpy as np
import pytest
import rasterio
from PIL import Image

from lhrs.data.unlabeled import UnlabeledWindows
from lhrs.errors import DataError


@pytest.fixture
def pictures(tmp_path):
    """A folder of a raster of five bands and a larger one, a folder of a picture, and a shard of each."""
    rng = np.random.default_rng(0)
    (tmp_path / "rasters").mkdir()
    (tmp_path / "pictures").mkdir()
    for name, side in (("a.tif", 100), ("b.tif", 300)):
        values = rng.integers(0, 60_000, (5, side, side), np.uint16)
        with rasterio.open(
            tmp_path / "rasters" / name, "w", driver="GTiff", width=side, height=side, count=5, dtype="uint16"
        ) as out:
            out.write(values)
    Image.fromarray(rng.integers(0, 256, (150, 200, 3), np.uint8)).save(tmp_path / "pictures/c.png")
    for name in ("rasters", "pictures"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            for file in sorted((tmp_path / name).iterdir()):
                archive.add(file, f"sample/{file.name}")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "bands"),
    [("rasters", [4, 3, 2]), ("rasters", None), ("pictures", [3, 1]), ("pictures", None)],
)
def test_shards_are_cut_and_chosen_from_like_folders(pictures, name, bands):
    shard, folder = (UnlabeledWindows([pictures / path], 100, bands) for path in (f"{name}.tar", name))
    assert len(shard) == len(folder) == {"rasters": 10, "pictures": 2}[name]
    for epoch in range(3):
        for n in range(len(folder)):
            assert shard[epoch, n].shape[1:] == (100, 100)
            np.testing.assert_array_equal(shard[epoch, n], folder[epoch, n])


def test_bands_of_pictures_are_chosen(pictures):
    whole = np.asarray(Image.open(pictures / "pictures/c.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(UnlabeledWindows([pictures / "pictures"], 500, [3, 1])[0, 0], whole[[2, 0]])


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("pictures/c.png", r"c\.png has 3 bands, there is no band 4"),
        ("pictures.tar", r"pictures\.tar: sample/c\.png has 3 bands, there is no band 4"),
        ("rasters.tar", r"rasters\.tar: sample/a\.tif has 5 bands, there is no band 9"),
        ("broken.tar", r"broken\.tar: x\.png is not an image"),
    ],
)
def test_what_cannot_be_read_is_one_line_that_names_it(pictures, path, line):
    (pictures / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with tarfile.open(pictures / "broken.tar", "w") as archive:
        archive.add(pictures / "x.png", "x.png")
    with pytest.raises(DataError, match=line) as error:
        UnlabeledWindows([pictures / path], 100, [4, 9])
    assert "\n" not in str(error.value)


def test_sixteen_bits_of_a_picture_stay(tmp_path):
    values = np.array([[0, 255], [256, 3000]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "a.png")
    for name in ("a.png", "a.tar"):
        np.testing.assert_array_equal(UnlabeledWindows([tmp_path / name], 2)[0, 0], values[None])
