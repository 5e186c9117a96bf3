import itertools
import os
import time

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin
from tests.serving.conftest import RIVER, refusal, running

from lhrs.imagery.geo_image import GeoImage, Rendering
from lhrs.imagery.windows import make_windows
from lhrs.inference.model_family import ModelFamily, get_family
from lhrs.serving.scene_jobs import SceneRequest, _environment

CLASSES = {"task": "classify", "labels": ["River", "Forest"], "size": 64}


def upload(server, path=RIVER, **headers):
    done = server.http.post("/v1/files", files={"file": ("scene.tif", path.read_bytes())}, headers=headers)
    assert done.status_code == 200, done.text
    return done.json()["id"]


def start(server, file, headers=None, **asked):
    return server.http.post("/v1/scenes", json={"file_id": file, **asked}, headers=headers or {})


def until(server, scene, *states):
    for _ in range(1200):
        found = server.http.get(f"/v1/scenes/{scene}").json()
        if found["state"] in states:
            return found
        time.sleep(0.1)
    raise AssertionError(found)


@pytest.mark.slow
def test_a_scene_is_asked_window_by_window_and_goes_with_its_file(server):
    file = upload(server)
    begun = start(server, file, **CLASSES).json()
    assert begun["state"] in ("queued", "running") and begun["windows"] == 16 and begun["summary"] is None
    refusal(server.http.get(f"/v1/scenes/{begun['id']}/answers.geojson"), 409)
    done = until(server, begun["id"], "done", "failed")
    assert (done["state"], done["error"], done["progress"]) == ("done", None, 1.0)
    features = server.http.get(f"/v1/scenes/{begun['id']}/answers.geojson").json()["features"]
    assert len(features) == done["summary"]["answered"] == 16
    assert {one["properties"]["answer"] for one in features} <= {"River", "Forest"}
    with rasterio.open(RIVER) as source, rasterio.open(_saved(server, begun["id"])) as raster:
        assert raster.bounds == source.bounds and set(np.unique(raster.read(1))) <= {1, 2}
    folder = server.service.scenes._runs[begun["id"]].folder
    assert folder.is_dir()
    server.http.delete(f"/v1/files/{file}")
    refusal(server.http.get(f"/v1/scenes/{begun['id']}"), 404)
    assert not folder.exists()


def _saved(server, scene):
    return rasterio.io.MemoryFile(server.http.get(f"/v1/scenes/{scene}/classes.tif").content)


@pytest.mark.slow
def test_one_at_a_time_each_for_its_key_and_cancelled_for_good(assistant, asked_of):
    keys = {name: {"authorization": f"Bearer {name * 20}"} for name in "ab"}
    with running(assistant, keys=("a" * 20, "b" * 20), scene_queue=1, **asked_of) as server:
        refusal(server.http.post("/v1/scenes", json={}), 401)
        file = upload(server, **keys["a"])
        refusal(start(server, file, keys["b"], **CLASSES), 404)
        scenes = server.service.scenes
        first = start(server, file, keys["a"], **CLASSES).json()["id"]
        while scenes._runs[first].process is None:
            time.sleep(0.02)
        second = start(server, file, keys["a"], **CLASSES).json()
        assert second["state"] == "queued"
        full = start(server, file, keys["a"], **CLASSES)
        assert refusal(full, 429)["code"] == "queue_full" and full.headers["retry-after"]
        for path in (first, f"{first}/answers.geojson"):
            refusal(server.http.get(f"/v1/scenes/{path}", headers=keys["b"]), 404)
        refusal(server.http.delete(f"/v1/scenes/{first}", headers=keys["b"]), 404)
        process, folder = scenes._runs[first].process, scenes._runs[first].folder
        assert server.http.delete(f"/v1/scenes/{first}", headers=keys["a"]).json()["deleted"]
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)
        assert not folder.exists()
        for _ in range(200):
            if scenes._runs[second["id"]].process is not None:
                break
            time.sleep(0.05)
        last = scenes._runs[second["id"]].process  # its turn has come, and the server ends
    with pytest.raises(ProcessLookupError):
        os.kill(last.pid, 0)


@pytest.mark.slow
def test_what_cannot_be_is_said_in_one_line(assistant, asked_of, tmp_path):
    with running(assistant, scene_windows=100, scene_s=60, **asked_of) as server:
        file = upload(server)
        for wrong in ({"task": "change"}, {"task": "vqa"}, {**CLASSES, "target": "x"}, {**CLASSES, "size": 8},
                      {**CLASSES, "labels": ["a,b", "c"]}, {**CLASSES, "out": "/tmp/x"}):  # fmt: skip
            refusal(start(server, file, **wrong))
        assert "larger gsd_m" in refusal(start(server, file, **{**CLASSES, "size": 16}))["message"]
        place = tmp_path / "nowhere.png"
        place.write_bytes(RIVER.with_suffix(".png").read_bytes())
        assert refusal(start(server, upload(server, place), **CLASSES))["code"] == "not_georeferenced"
        alike = start(server, file, **{**CLASSES, "labels": ["River", "river"]}).json()["id"]
        failed = until(server, alike, "failed", "done")
        assert failed["state"] == "failed" and "river" in failed["error"].lower() and "/tmp" not in failed["error"]
        refusal(server.http.get(f"/v1/scenes/{alike}/classes.tif"), 409)


def test_windows_are_counted_as_they_are_cut():
    for (width, height), size, gsd, task in itertools.product(
        [(256, 256), (1000, 333), (40, 900)], [16, 64, 300], [None, 2.5, 30.0], ["count", "ground"]
    ):
        asked = SceneRequest(file_id="x", task=task, target="roofs", size=size, gsd_m=gsd)
        image = GeoImage(np.zeros((1, 1, 3), np.uint8), 1.0, width, height, Rendering([1], "", ""), 10.0)
        side = max(1, round(size / (10.0 / (gsd or 10.0))))
        overlap = min(side - 1, round(0.25 * side)) if task == "ground" else 0
        count = len(make_windows(width, height, side, overlap))
        assert asked.num_windows(image, ModelFamily()) == count, (width, height, size, gsd, task)


@pytest.mark.parametrize(
    ("task", "gsd_m", "windows"), [("classify", 10.0, 100), ("count", 10.0, 9), ("classify", 0.3, 9)]
)
def test_windows_have_the_size_of_the_model(task, gsd_m, windows):
    image = GeoImage(np.zeros((1, 1, 3), np.uint8), 1.0, 640, 640, Rendering([1], "", ""), gsd_m)
    assert SceneRequest(file_id="f", task=task).num_windows(image, get_family("perception")) == windows


def test_the_process_knows_no_key_and_no_format_that_refers_to_others(tmp_path, monkeypatch):
    """A file that GDAL would take for a VRT is not opened, whatever it was taken for when it came."""
    import subprocess
    import sys

    inner = tmp_path / "inner.tif"
    profile = {"width": 4, "height": 4, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    with rasterio.open(inner, "w", driver="GTiff", transform=from_origin(0, 1, 0.1, 0.1), **profile) as dataset:
        dataset.write(np.ones((1, 4, 4), np.uint8))
    rasterio.shutil.copy(inner, tmp_path / "outer", driver="VRT")
    code = "import rasterio, sys; rasterio.open(sys.argv[1])"
    opened = [
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], env=_environment(), capture_output=True)
        for name in ("inner.tif", "outer")
    ]
    assert [done.returncode for done in opened] == [0, 1] and b"RasterioIOError" in opened[1].stderr
    monkeypatch.setenv("LHRS_API_KEYS", "secret")
    assert "secret" not in _environment().values()
