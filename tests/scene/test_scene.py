"""`lhrs scene`: every window once, every object once, exactly where it lies; stopped or not, by whoever."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import geopandas
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from tests.training.tiny import SRC, finish

from lhrs.errors import ConfigError, DataError
from lhrs.imagery.discover import ImageSource
from lhrs.imagery.windows import make_windows
from lhrs.scene import run as running
from lhrs.scene.run import SceneConfig, run
from lhrs.scene.window_inference import SceneQuery


def write(path, pixels, gsd=0.5, crs="EPSG:32632", **profile):
    bands, height, width = pixels.shape
    with rasterio.open(path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype, crs=crs,
                       transform=from_origin(500_000, 5_300_000, gsd, gsd), **profile) as file:  # fmt: skip
        file.write(pixels)
    return path


@pytest.mark.parametrize(
    ("width", "height", "side", "overlap"),
    [(2000, 2100, 256, 0), (1000, 70, 64, 16), (64, 64, 64, 0), (65, 640, 64, 63), (7, 9, 64, 0)],
)
def test_cores_share_the_scene_without_gap_or_overlap(width, height, side, overlap):
    covered = np.zeros((height, width), np.uint8)
    for one in make_windows(width, height, side, overlap):
        left, top, w, h = one.core
        covered[top : top + h, left : left + w] += 1
        x, y, across, down = one.window
        assert x <= left and y <= top and x + across >= left + w and y + down >= top + h
        assert x >= 0 and y >= 0 and x + across <= width and y + down <= height
        assert across == min(side, width) and down == min(side, height)
    assert (covered == 1).all()


@pytest.mark.parametrize("largest", [30, 60, 300])
def test_objects_on_seams_are_found_once_and_whole(sees, tmp_path, largest):
    side, pitch = 1600, largest + 29  # not a multiple of the step of 96: all places relative to seams occur
    pixels, rng, planted = np.zeros((3, side, side), np.uint8), np.random.default_rng(largest), []
    for top in range(3, side - largest, pitch):
        for left in range(3, side - largest, pitch):
            height, width = rng.integers(max(6, largest // 3), largest, 2)
            code = len(planted) + 1
            pixels[:, top : top + height, left : left + width] = np.array([200, code // 256, code % 256])[:, None, None]
            planted.append([left, top, left + width, top + height])
    path = write(tmp_path / "planted.tif", pixels)
    run(
        SceneConfig(
            scenes=(str(path),), out=tmp_path / "out", query=SceneQuery("ground", target="the squares"), size=128
        )
    )
    answers = geopandas.read_file(tmp_path / "out/answers.geojson")
    found = np.array([json.loads(row) if isinstance(row, str) else row for row in answers["xyxy"]])
    wanted = np.array(planted, float)
    assert len(found) == len(wanted)
    order = [a[np.lexsort(a.T)] for a in (found, wanted)]
    np.testing.assert_allclose(order[0], order[1], atol=0.01)


def test_places_are_exact_in_both_files(sees, tmp_path):
    pixels = np.zeros((3, 300, 500), np.uint8)
    pixels[:, 100:180, 200:290] = 90
    path = write(tmp_path / "one.tif", pixels, gsd=0.3, crs="EPSG:32733")
    run(SceneConfig(scenes=(str(path),), out=tmp_path / "out", query=SceneQuery("ground", target="it"), size=512))
    for name in ("answers.geojson", "answers.parquet"):
        read = geopandas.read_parquet if name.endswith("parquet") else geopandas.read_file
        frame = read(tmp_path / "out" / name).to_crs("EPSG:32733")
        with rasterio.open(path) as file:
            corners = np.array(frame.geometry[0].exterior.coords)
            columns, rows = ~file.transform * corners.T
        np.testing.assert_allclose(
            [columns.min(), rows.min(), columns.max(), rows.max()], [200, 100, 290, 180], atol=0.01
        )
        assert frame["model"][0] == "sees" and len(frame["model_hash"][0]) == 16 and frame["gsd_m"][0] == 0.3


def test_classes_have_areas_a_raster_and_nothing_where_there_is_no_data(sees, tmp_path):
    pixels = np.full((3, 640, 1000), 7, np.uint8)
    pixels[:, :128, :256] = 0  # the other class
    pixels[:, 512:, :] = 255
    path = write(tmp_path / "s.tif", pixels, nodata=255)
    query = SceneQuery("classify", labels=("Bare land", "built_up"))
    manifest = run(SceneConfig(scenes=(str(path),), out=tmp_path / "out", query=query, size=128))
    (summary,) = manifest["scenes"]
    assert summary["windows"] == 40 and summary["answered"] == 32
    assert summary["by_answer_km2"]["Bare land"] == pytest.approx(128 * 256 * 0.25 / 1e6, rel=2e-3)
    assert summary["by_answer_km2"]["built_up"] == pytest.approx((512 * 1000 - 128 * 256) * 0.25 / 1e6, rel=2e-3)
    with rasterio.open(path) as scene, rasterio.open(tmp_path / "out/classes.tif") as classes:
        assert classes.crs == scene.crs and np.allclose(classes.bounds, scene.bounds)
        codes = np.kron(classes.read(1), np.ones((round(classes.res[0] / 0.5),) * 2, np.uint8))
        assert classes.tags(1) == {"class_1": "Bare land", "class_2": "built_up"}
        assert classes.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    wanted = np.full((640, 1000), 2)
    wanted[:128, :256], wanted[512:] = 1, 0
    np.testing.assert_array_equal(codes, wanted)


@pytest.mark.parametrize("overlap", [None, 0.5])
def test_what_two_windows_see_is_counted_once(sees, tmp_path, overlap):
    pixels = np.zeros((3, 104, 200), np.uint8)
    pixels[:, 4::8, 4::8] = 200  # 13 x 25 dots; the last windows of rows and columns lie over those before
    path = write(tmp_path / "dots.tif", pixels)
    manifest = run(
        SceneConfig(
            scenes=(str(path),),
            out=tmp_path / "out",
            query=SceneQuery("count", target="the dots"),
            size=64,
            overlap=overlap,
        )
    )
    assert manifest["scenes"][0]["count"] == 13 * 25
    frame = geopandas.read_file(tmp_path / "out/answers.geojson")
    assert set(frame["answer"]) == {"64"}


def test_a_coarser_look_reads_what_gdal_averages(sees, tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (1, 512, 512), np.uint8).repeat(3, 0)
    path = write(tmp_path / "s.tif", values)
    run(
        SceneConfig(
            scenes=(str(path),), out=tmp_path / "out", query=SceneQuery("vqa", target="mean?"), size=64, gsd_m=2.0
        )
    )
    frame = geopandas.read_file(tmp_path / "out/answers.geojson")
    assert len(frame) == 4
    means = values[0].reshape(2, 256, 2, 256).mean((1, 3)).ravel()
    np.testing.assert_allclose(frame["answer"].astype(float), means, atol=1)


def test_change_compares_the_same_ground(sees, tmp_path):
    before, after = np.zeros((3, 256, 256), np.uint8), np.zeros((3, 128, 200), np.uint8)
    after[:, 64:100, 10:20] = 9  # two metres a pixel: windows of the first scene 64 x 64 at 1 m
    one, two = write(tmp_path / "a.tif", before, 1.0), write(tmp_path / "b.tif", after, 2.0)
    query = SceneQuery("change", labels=("empty", "built"))
    manifest = run(SceneConfig(scenes=(str(one), str(two)), out=tmp_path / "out", query=query, size=64))
    frame = geopandas.read_file(tmp_path / "out/answers.geojson")
    changed = [window for window, yes in zip(frame["window"], frame["changed"], strict=True) if yes]
    assert [list(map(int, json.loads(w) if isinstance(w, str) else w)) for w in changed] == [
        [0, 128, 64, 64],
        [0, 192, 64, 64],
    ]
    assert manifest["scenes"][0]["by_answer_km2"]["empty to built"] == pytest.approx(2 * 64 * 64 / 1e6, rel=2e-3)
    with pytest.raises(DataError, match="does not cover"):
        run(SceneConfig(scenes=(str(two), str(one)), out=tmp_path / "no", query=query, size=64))
    with pytest.raises(ConfigError, match="two scenes"):
        run(SceneConfig(scenes=(str(one),), out=tmp_path / "no", query=query, size=64))


def start(*words):
    command = [sys.executable, "-m", "lhrs", "scene", *map(str, words)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SRC)}, text=True, **pipes)


def content(folder, time_of):
    """Return all files' bytes but for the time of the run."""
    told = json.loads((folder / "manifest.json").read_text())["time"].encode()
    return {p.name: p.read_bytes().replace(told, time_of) for p in sorted(folder.iterdir()) if p.suffix != ".parquet"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    pixels = np.random.default_rng(3).integers(0, 255, (3, 480, 620), np.uint8)
    return write(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, compress="deflate", tiled=True)


def test_killed_and_gone_on_with_is_the_same_and_so_are_workers_and_ray(scene, tmp_path):
    words = [scene, "--task", "classify", "--window-size", 32, "--out"]
    finish(start(*words, tmp_path / "whole"))
    wanted = content(tmp_path / "whole", b"now")
    process = start(*words, tmp_path / "killed")
    parts = tmp_path / "killed/.work/parts"
    while process.poll() is None and not list(parts.glob("*.parquet")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 1 <= len(list(parts.glob("*.parquet"))) < 3 and not (tmp_path / "killed/answers.geojson").exists()
    other = start(scene, "--task", "caption", "--window-size", 32, "--out", tmp_path / "killed")
    assert (
        other.wait() == 2
        and "contains work with other settings (kind: classify before, caption now" in other.stderr.read()
    )
    finish(start(*words, tmp_path / "killed"))
    assert content(tmp_path / "killed", b"now") == wanted and not (tmp_path / "killed/.work").exists()
    finish(start(*words, tmp_path / "two", "--workers", 2))
    assert content(tmp_path / "two", b"now") == wanted
    pytest.importorskip("ray")
    finish(start(*words, tmp_path / "ray", "--workers", 2, "--engine", "ray"))
    assert content(tmp_path / "ray", b"now") == wanted


@pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="ogrinfo is not installed here")
def test_ogrinfo_opens_the_answers(scene, tmp_path):
    finish(start(scene, "--task", "caption", "--window-size", 512, "--out", tmp_path / "out"))
    told = subprocess.run(["ogrinfo", "-so", "-al", tmp_path / "out/answers.geojson"], capture_output=True, text=True)
    assert "Feature Count: 2" in told.stdout and "answer: String" in told.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "vqa"], "--question"),
        (["--task", "ground"], "--target"),
        (["--task", "caption", "--labels", "a,b"], "--labels belong"),
        (["--task", "classify", "--labels", "a"], "two options"),
        (["--task", "classify", "--sensor", "sentinel2"], "did you mean"),
        (["--task", "classify", "--sensor", "naip", "--composite", "ndvi"], "3 bands, naip has 4"),
        (["--task", "classify", "--composite", "swir"], "its bands are unknown"),
        (["--task", "sing"], "--task is one of"),
    ],
)
def test_what_does_not_go_together_is_one_line(scene, tmp_path, words, said):
    process = start(scene, *words, "--out", tmp_path / "out")
    assert process.wait() == 2
    told = process.stderr.read()
    assert said in told and "Traceback" not in told and len(told.strip().splitlines()) == 1
    assert not (tmp_path / "out/answers.geojson").exists()


def test_two_scenes_of_one_name_are_one_line(scene, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "scene.tif").write_bytes(scene.read_bytes())
    process = start(*(folder / "scene.tif" for folder in folders), "--task", "caption", "--out", tmp_path / "out")
    assert process.wait() == 2 and "two scenes are called scene; give their common folder" in process.stderr.read()


def test_results_stay_in_their_folder_whatever_a_catalogue_calls_its_items(sees, tmp_path, monkeypatch):
    path = write(tmp_path / "s.tif", np.zeros((3, 64, 64), np.uint8))
    links = []
    for n, identity in enumerate(["../../../escaped", str(tmp_path / "absolute"), "S2A_1"]):
        item = {
            "type": "Feature", "stac_version": "1.0.0", "id": identity, "bbox": [9, 47, 10, 48], "links": [],
            "geometry": {"type": "Point", "coordinates": [9, 47]}, "properties": {"datetime": "2024-04-21T10:00:00Z"},
            "assets": {"visual": {"href": str(path)}},
        }  # fmt: skip
        (tmp_path / f"{n}.json").write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"./{n}.json"})
    catalogue = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "description": "three", "links": links}
    (tmp_path / "catalogue.json").write_text(json.dumps(catalogue))
    before, out = set(tmp_path.rglob("*")), tmp_path / "a/b/c/out"
    job = SceneConfig(scenes=(str(tmp_path / "catalogue.json"),), out=out, query=SceneQuery("caption"), size=64)
    assert len(run(job)["scenes"]) == 3
    written = [p for p in set(tmp_path.rglob("*")) - before if p.is_file()]
    assert len(written) > 9 and all(p.is_relative_to(out) for p in written)
    assert len(list(out.iterdir())) == 4 and (out / "S2A_1/summary.json").exists()
    for name in ("../x", str(tmp_path / "x"), "a/../.."):
        found = [ImageSource(name, (str(path),)), ImageSource("y", (str(path),))]
        monkeypatch.setattr(running, "sources", lambda scenes, dropped, found=found: found)
        with pytest.raises(DataError, match="its results would be outside of"):
            run(SceneConfig(scenes=("given",), out=tmp_path / "other", query=SceneQuery("caption"), size=64))
        assert not (tmp_path / "other").exists()


def test_a_picture_without_a_place_is_one_line(tmp_path):
    path = tmp_path / "plain.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(path, "w", driver="GTiff", width=8, height=8, count=3, dtype="uint8") as file,
    ):
        file.write(np.zeros((3, 8, 8), np.uint8))
    process = start(path, "--task", "caption", "--out", tmp_path / "out")
    assert process.wait() == 2 and "is not georeferenced" in process.stderr.read()
