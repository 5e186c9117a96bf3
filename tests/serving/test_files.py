import io
import json
import socket
import time

import numpy as np
import openai
import pytest
import rasterio
import rasterio.warp
from PIL import Image
from rasterio.transform import from_origin
from tests.serving.conftest import RIVER, picture, refusal, running, said

from lhrs.serving.errors import APIError
from lhrs.serving.files import FileStore
from lhrs.serving.settings import Settings

NUMBER = {"type": "number"}


def ground(server, image, **extra):
    done = server.ask(
        [image, said("locate the buildings.")], lhrs={"task": "ground", "expression": "buildings", **extra}
    )
    assert done.status_code == 200, done.text
    return done.json()["lhrs"]


def test_a_file_is_kept_asked_about_shown_and_deleted(server):
    client = server.client()
    file = client.files.create(file=RIVER.open("rb"), purpose="vision")
    assert file.bytes == RIVER.stat().st_size and file.filename == "river.tif"
    about = server.http.get(f"/v1/files/{file.id}").json()["image"]
    assert (about["width"], about["height"], about["gsd_m"], about["bands"]) == (256, 256, 10.0, [1, 2, 3])
    with rasterio.open(RIVER) as dataset:
        west, north = rasterio.warp.transform(dataset.crs, "EPSG:4326", [dataset.bounds.left], [dataset.bounds.top])
    assert about["corners"][0] == pytest.approx([west[0], north[0]], abs=1e-9)
    shown = Image.open(io.BytesIO(server.http.get(f"/v1/files/{file.id}/preview?max_side=64").content))
    assert (shown.format, shown.size) == ("PNG", (64, 64))
    by_id = server.ask([{"type": "file", "file": {"file_id": file.id}}, said("is there a river?")]).json()
    sent = server.ask([picture(RIVER), said("is there a river?")]).json()
    assert by_id["choices"] == sent["choices"]
    assert file.id in [f.id for f in client.files.list()]
    assert client.files.delete(file.id).deleted
    refusal(server.http.get(f"/v1/files/{file.id}"), 404)
    refusal(server.ask([{"type": "file", "file": {"file_id": file.id}}, said("x")]), 404)


def test_what_is_no_image_is_not_kept(server):
    before = len(server.service.files)
    with pytest.raises(openai.BadRequestError, match="is not a PNG"):
        server.client().files.create(file=("x.tif", b"hello"), purpose="vision")
    refusal(server.http.post("/v1/files", files={"file": ("x.tif", RIVER.read_bytes()[:3000])}))
    refusal(server.http.post("/v1/files", data={"purpose": "vision"}), 415)
    refusal(server.http.post("/v1/files", files={"other": b"x"}))
    refusal(server.http.get("/v1/files/x/preview?max_side=9"))
    assert len(server.service.files) == before and not list(server.service.files._folder.glob("*/image"))[before:]


def test_limits_of_files(assistant, tmp_path):
    with running(assistant, max_file=100_000, quota=200_000, file_ttl_s=4.0) as server:
        folder = server.service.files._folder
        assert folder.stat().st_mode & 0o777 == 0o700
        refusal(server.http.post("/v1/files", files={"file": bytes(200_000)}), 413)
        upload = {"file": ("../../../etc/passwd", RIVER.read_bytes())}
        first = server.http.post("/v1/files", files=upload).json()
        assert first["filename"] == "passwd" and first["id"].startswith("file-")
        assert server.http.post("/v1/files", files=upload).status_code == 200
        assert refusal(server.http.post("/v1/files", files=upload), 429)["code"] == "insufficient_quota"
        chunked = server.http.post(
            "/v1/files", content=iter([b"x"]), headers={"content-type": "multipart/form-data; boundary=x"}
        )
        refusal(chunked, 411)
        time.sleep(5.1)  # times are whole seconds
        refusal(server.http.get(f"/v1/files/{first['id']}"), 404)
        assert not list(folder.iterdir())
    assert not folder.exists()


def test_the_length_of_an_upload_is_said_once_and_meant(assistant):
    """Both headers at once: a body in chunks of any length behind a promise of ten bytes."""
    with running(assistant, max_file=20_000, quota=60_000, max_files=2) as server:
        form = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.png"\r\n\r\n%s\r\n--b--\r\n'
        data = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(data, "PNG")
        body = form % data.getvalue()
        head = (b"POST /v1/files HTTP/1.1", b"host: 127.0.0.1", b"content-length: 10", b"transfer-encoding: chunked",
                b"content-type: multipart/form-data; boundary=b", b"connection: close")  # fmt: skip
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
            line.sendall(b"\r\n".join(head) + b"\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            assert line.recv(1000).startswith(b"HTTP/1.1 411")
        assert server.service.files.used == 0
        # The room around a file is for its form, not for more of it.
        assert 20_000 < len(data.getvalue()) < 30_000
        large = server.http.post("/v1/files", files={"file": ("a.png", data.getvalue())})
        assert refusal(large, 413)["code"] == "file_too_large"
        assert not list(server.service.files._folder.iterdir())


def test_room_is_looked_for_again_when_the_size_is_known(tmp_path):
    store = FileStore(Settings(max_file=1000, quota=1500, max_files=3))
    try:
        with store.reserved(10), store.reserved(10):  # both said so
            wrote = [store.write(io.BytesIO(bytes(900))) for _ in range(2)]
        store.add(*wrote[0], "", "a", "vision")
        with pytest.raises(APIError, match="no room"):
            store.add(*wrote[1], "", "b", "vision")
        assert store.used == 900 and len(store) == 1 and len(list(store._folder.iterdir())) == 1
    finally:
        store.close()


@pytest.fixture
def scene(tmp_path):
    """Two images side by side, 10 m a pixel, in UTM 33 N: the left is black, the right is noise."""
    values = np.zeros((3, 200, 400), np.uint8)
    values[:, :, 200:] = np.random.default_rng(0).integers(60, 200, (3, 200, 200))
    path = tmp_path / "scene.tif"
    profile = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_000_000, 10, 10), "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", width=400, height=200, count=3, **profile) as dataset:
        dataset.write(values)
    return path


def test_only_a_part_is_looked_at_and_boxes_are_of_the_whole(server, scene):
    right = {"bbox": [502_000, 4_998_000, 504_000, 5_000_000], "crs": "EPSG:32633"}
    told = ground(server, picture(scene), **right)
    assert told["rendering"]["window"] == [200, 0, 400, 200] and told["rendering"]["size"] == [200, 200]
    alone = io.BytesIO()
    with rasterio.open(scene) as dataset:
        Image.fromarray(dataset.read()[:, :, 200:].transpose(1, 2, 0)).save(alone, "PNG")
    other = ground(server, picture(alone.getvalue()))
    assert other["geojson"] is None
    moved = [np.add(box["xyxy"], [200, 0, 200, 0]).tolist() for box in other["boxes"]]
    assert [box["xyxy"] for box in told["boxes"]] == pytest.approx(moved)
    lonlat = rasterio.warp.transform_bounds("EPSG:32633", "EPSG:4326", *right["bbox"])
    assert ground(server, picture(scene), bbox=lonlat)["rendering"]["window"][0] in (199, 200)
    for bad in ([10, 10, 11, 11], [16, 45, 15, 46]):
        refusal(server.ask([picture(scene), said("x")], lhrs={"bbox": bad}))
    refusal(server.ask([picture(alone.getvalue()), said("x")], lhrs={"bbox": [15, 45, 16, 46]}))


def test_boxes_lie_on_the_map(server, scene, assistant, monkeypatch):
    """Whatever the model says: a box of known pixels has known coordinates, in degrees and in the CRS asked for."""
    inner = assistant.runtime.generate

    def generate(requests, on_text=None):
        replies = inner(requests)
        return [type(r)("box", ("box",), (0.5, 0.5), np.array([[0.25, 0.5, 0.5, 1.0]], np.float32)) for r in replies]

    monkeypatch.setattr(assistant.runtime, "generate", generate)
    part = {"bbox": [502_000, 4_998_000, 504_000, 5_000_000], "crs": "EPSG:32633"}
    told = ground(server, picture(scene), **part)
    assert told["boxes"][0]["xyxy"] == pytest.approx([250, 100, 300, 200], abs=2)  # a model's cell is half a bin wide
    (feature,) = told["geojson"]["features"]
    east, north = np.array(feature["geometry"]["coordinates"][0]).T
    assert east.min() == pytest.approx(500_000 + 10 * told["boxes"][0]["xyxy"][0], abs=0.01)
    assert north.max() == pytest.approx(5_000_000 - 10 * told["boxes"][0]["xyxy"][1], abs=0.01)
    assert told["geojson"]["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    form = {"type": "object", "properties": {"boxes": {"type": "array", "items": {"type": "array", "items": NUMBER}}}}
    asked = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": form}}, "lhrs": part}
    held = server.ask([picture(scene), said("locate the buildings.")], **asked).json()
    content = json.loads(held["choices"][0]["message"]["content"])["boxes"]
    assert content == [pytest.approx(box["xyxy"], abs=0.06) for box in held["lhrs"]["boxes"]] and content[0][0] > 240
    degrees = ground(server, picture(scene))
    assert "crs" not in degrees["geojson"] and degrees["boxes"][0]["lonlat"][0][0] == pytest.approx(15.01, abs=0.01)


def test_every_odd_raster_gets_an_answer_or_one_clear_refusal(server, shared_data):
    files = sorted(p for p in (shared_data / "geotiff_fixtures").rglob("*") if p.is_file())
    assert len(files) > 20
    answered = 0
    for path in files:
        done = server.ask([picture(path), said("what is the land use in this image?")])
        if done.status_code == 200:
            answered += 1
        else:
            assert refusal(done)["code"] == "invalid_image", path
    assert answered > len(files) / 2
