"""Samples drawn to look at, and written as webdataset shards."""

import json
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import rasterio
from PIL import Image

from lhrs.data.dataset import open_dataset
from lhrs.data.shards import write_shards
from lhrs.data.unlabeled import UnlabeledWindows
from lhrs.data.visualize import contact_sheet, draw_sample, html_page
from lhrs.errors import ConfigError
from lhrs.schema import Box, Sample, Turn


@pytest.fixture
def samples(tmp_path):
    found = []
    for n in range(7):
        path = tmp_path / (f"{n}.png" if n % 2 else f"{n}.tif")
        pixels = np.full((64, 96, 3), 20 * n, np.uint8)
        if n % 2:
            Image.fromarray(pixels).save(path)
        else:
            with rasterio.open(path, "w", driver="GTiff", height=64, width=96, count=3, dtype="uint8") as out:
                out.write(pixels.transpose(2, 0, 1))
        turns = [Turn(role="user", text="?"), Turn(role="assistant", text=f"<b>No. {n}</b> & more")]
        found.append(Sample(id=f"s{n}", images=[str(path)], turns=turns, source="t", license="MIT",
                            boxes=[Box(label="roof", xyxy=(10, 10, 40, 30))]))  # fmt: skip
    return found


def test_boxes_are_drawn_where_they_are(samples):
    drawn = np.asarray(draw_sample(samples[0], 512).convert("RGB")).astype(int)
    yellow = (drawn[..., 0] > 200) & (drawn[..., 1] > 200) & (drawn[..., 2] < 110)
    rows, columns = np.nonzero(yellow)
    scale = 512 / 96
    assert abs(columns.min() / scale - 10) < 1 and abs(columns.max() / scale - 40) < 1
    assert abs(rows.max() / scale - 30) < 1


def test_a_sheet_has_room_for_all(samples):
    sheet = contact_sheet(samples, 3)
    assert sheet.width == 3 * (512 + 12) + 12 and sheet.height > 3 * 512
    text = Sample(
        id="a", turns=[Turn(role="user", text="?"), Turn(role="assistant", text="x")], source="t", license="MIT"
    )
    assert draw_sample(text).size == (512, 512)


def test_a_page_needs_nothing_beside_it_and_runs_nothing(samples, tmp_path):
    html_page(samples, tmp_path / "page.html", "<script>x</script>")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") == 7 and "<script" not in page and "<b>No." not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_shards_are_webdataset(samples, tmp_path):
    files = write_shards(samples, tmp_path / "out", 3)
    assert [f.name for f in files] == ["shard-000000.tar", "shard-000001.tar", "shard-000002.tar"]
    with tarfile.open(files[1]) as archive:
        names = archive.getnames()
        assert names == [f"00000000{n}{s}" for n in (3, 4, 5) for s in (".png", ".txt", ".json")]
        assert archive.extractfile("000000004.txt").read() == b"<b>No. 4</b> & more"
        assert json.loads(archive.extractfile("000000004.json").read())["boxes"][0]["label"] == "roof"
        picture = np.array(Image.open(archive.extractfile("000000004.png")))
    np.testing.assert_array_equal(picture, np.full((64, 96, 3), 80, np.uint8))
    before = [f.read_bytes() for f in files]
    files[2].unlink()
    write_shards(samples, tmp_path / "out", 3)
    assert [f.read_bytes() for f in files] == before
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest == {"kind": "webdataset", "num_samples": 7, "num_shards": 3, "dropped": {}}
    assert len(UnlabeledWindows([tmp_path / "out"], 64)) == 7  # what pretraining reads
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="contains other files"):
        write_shards(samples, tmp_path / "out", 3)


def test_shards_of_samples_that_changed_are_not_taken_for_theirs(samples, tmp_path):
    write_shards(samples, tmp_path / "out", 3)
    corrected = [sample.model_copy(update={"turns": [Turn(role="assistant", text="right")]}) for sample in samples]
    with pytest.raises(ConfigError, match="contains work on other inputs") as error:
        write_shards(corrected, tmp_path / "out", 3)
    assert "\n" not in str(error.value)
    Image.new("RGB", (32, 32)).save(samples[1].images[0])
    with pytest.raises(ConfigError, match="contains work on other inputs"):
        write_shards(samples, tmp_path / "out", 3)


def test_the_webdataset_library_reads_them(samples, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    write_shards(samples, tmp_path / "out", 4)
    urls = [str(p) for p in sorted((tmp_path / "out").glob("*.tar"))]
    read = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png", "txt", "json"))
    assert len(read) == 7 and read[5][1] == "<b>No. 5</b> & more" and read[5][2]["id"] == "s5"
    assert read[5][0].size == (96, 64)


def test_the_commands(shared_data, tmp_path):
    def run(*words):
        command = [sys.executable, "-m", "lhrs", "data", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True)

    data = shared_data / "vhr10"
    assert run("view", data, "--out", tmp_path / "a.png", "--limit", "4", "--columns", "2").returncode == 0
    assert Image.open(tmp_path / "a.png").width == 2 * 524 + 12
    assert run("view", data, "--out", tmp_path / "a.html", "--limit", "2").returncode == 0
    wrong = run("view", data, "--out", tmp_path / "a.pdf")
    assert wrong.returncode == 2 and "neither a .html page nor a .png sheet" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    data = tmp_path / "coco"
    (data / "images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(data / f"images/{name}.png")
    image = {"id": 1, "file_name": "a.png"}
    (data / "coco.json").write_text(json.dumps({"images": [image], "annotations": [], "categories": []}))
    done = run("export", data, "--out", tmp_path / "coco-tars")
    assert "left out 1: 1 images that are not listed (images/b.png)" in done.stderr
    assert json.loads((tmp_path / "coco-tars/manifest.json").read_text()) == {
        "kind": "webdataset", "num_samples": 1, "num_shards": 1, "dropped": {"images that are not listed": 1},
    }  # fmt: skip
    done = run("export", shared_data / "ucmerced", "--out", tmp_path / "tars")
    assert done.returncode == 0 and "tar files" in done.stderr, done.stderr
    assert len(open_dataset(shared_data / "ucmerced")) > 1000
