"""`sensor`, `composite` and `gsd_m` from the command line, over HTTP and as tools."""

import json
import time

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from tests.cli.conftest import records, run
from tests.serving.conftest import refusal, said

SWIR = {"sensor": "sentinel-2-l1c", "composite": "swir", "gsd_m": 20}


@pytest.fixture(scope="module")
def bands13(tmp_path_factory):
    """Thirteen bands without names, each of its own brightness."""
    values = np.stack([np.full((64, 64), 400 + 300 * n, np.uint16) for n in range(13)])
    values[:, :32] //= 2
    path = tmp_path_factory.mktemp("rendering") / "s2.tif"
    where = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5.2e6, 10, 10)}
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=13, dtype="uint16", **where) as dataset:
        dataset.write(values)
    return path


@pytest.mark.parametrize("command", ["ask", "caption", "classify", "ground", "count"])
def test_commands(bands13, command, trained):
    words = {"ask": ["is there a river?"], "ground": ["the buildings"]}.get(command, [])
    options = ("--sensor", SWIR["sensor"], "--composite", "swir", "--gsd", "20", "--json")
    (rendered,) = records(run(command, bands13, *words, *options))
    (plain,) = records(run(command, bands13, *words, "--json"))
    assert rendered["rendering"]["bands"] == [13, 8, 4] != plain["rendering"]["bands"]
    if command == "ask":
        for wrong in (("--sensor", "nonesuch"), ("--composite", "nonesuch"), ("--gsd", "-1")):
            done = run(command, bands13, *words, *wrong, code=2)
            assert done.stderr.count("\n") == 1 and wrong[0].strip("-") in done.stderr


def test_a_chat(bands13, trained):
    done = run("chat", bands13, "--sensor", SWIR["sensor"], "--composite", "swir", stdin="is there a river?\n")
    assert "bands 13,8,4" in done.stderr


def test_requests(server, bands13):
    with bands13.open("rb") as file:
        uploaded = server.client().files.create(file=file, purpose="vision").id
    content = [{"type": "file", "file": {"file_id": uploaded}}, said("is there a river?")]

    def rendering(**fields):
        return server.ask(content, lhrs=fields).json()["lhrs"]["rendering"]

    assert rendering(**SWIR)["bands"] == [13, 8, 4] and rendering(**SWIR)["size"] == [32, 32]
    assert rendering()["bands"] != [13, 8, 4] and rendering()["size"] == [64, 64]
    assert rendering(sensor=None, composite=None, gsd_m=None) == rendering()
    for wrong in ({"sensor": "nonesuch"}, {"composite": "nonesuch"}):
        error = refusal(server.ask(content, lhrs=wrong))
        assert error["param"] == "messages.0.content.0.file" and "nonesuch" in error["message"]
    for wrong in ({"sensor": "../x"}, {"gsd_m": 0}, {"gsd_m": "fine"}):
        assert refusal(server.ask(content, lhrs=wrong))["param"] == f"lhrs.{next(iter(wrong))}"
    image = server.http.get(f"/v1/files/{uploaded}", params=SWIR).json()["image"]
    assert image["bands"] == [13, 8, 4] and image["scaling"]
    previews = [server.http.get(f"/v1/files/{uploaded}/preview", params=query) for query in ({}, SWIR)]
    assert (
        all(r.headers["content-type"] == "image/png" for r in previews) and previews[0].content != previews[1].content
    )
    assert refusal(server.http.get(f"/v1/files/{uploaded}/preview", params={"gsd_m": -1}))["param"] == "query.gsd_m"


def test_the_sensors_are_listed(server):
    listed = {entry["id"]: entry for entry in server.http.get("/v1/sensors").json()["data"]}
    assert "swir" in listed["sentinel-2-l1c"]["composites"] and listed["naip"]["description"]


def test_scenes(server, bands13):
    uploaded = server.http.post("/v1/files", files={"file": ("s2.tif", bands13.read_bytes())}).json()["id"]
    body = {"file_id": uploaded, "task": "caption", "size": 64}
    for wrong in ({"sensor": "nonesuch"}, {"sensor": SWIR["sensor"], "composite": "nonesuch"}):
        assert "nonesuch" in refusal(server.http.post("/v1/scenes", json={**body, **wrong}))["message"]
    scene = server.http.post("/v1/scenes", json={**body, **SWIR}).json()
    while scene["state"] in ("queued", "running"):
        time.sleep(0.1)
        scene = server.http.get(f"/v1/scenes/{scene['id']}").json()
    assert scene["state"] == "done" and scene["composite"] == "swir"
    assert scene["summary"]["composite"] == "sentinel-2-l1c swir 0 to 4500"


def test_tools(bands13, assistant):
    anyio = pytest.importorskip("anyio")
    pytest.importorskip("mcp")
    from mcp import Client

    from lhrs.serving.mcp import make_server

    async def ask() -> dict:
        async with Client(make_server(bands13.parent, lambda: assistant, None, None)) as client:
            asked = {"image": bands13.name, "question": "is there a river?", **SWIR}
            done = await client.call_tool("ask", asked)
            return json.loads(done.content[0].text)

    assert anyio.run(ask)["rendering"]["bands"] == [13, 8, 4]
