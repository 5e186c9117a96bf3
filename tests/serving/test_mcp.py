"""`lhrs mcp` with the protocol's own client over standard input and output."""

import asyncio
import json
import os
import shutil
import sys

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image
from rasterio.transform import from_origin
from tests.training.tiny import SRC

mcp = pytest.importorskip("mcp")


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "images"
    home.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (3, 128, 128), np.uint8)
    with rasterio.open(home / "scene.tif", "w", driver="GTiff", width=128, height=128, count=3, dtype="uint8",
                       crs="EPSG:32632", transform=from_origin(5e5, 5e6, 1, 1)) as file:  # fmt: skip
        file.write(pixels)
    Image.fromarray(pixels[0]).save(tmp_path / "secret.png")
    (home / "link.png").symlink_to(tmp_path / "secret.png")
    rasterio.shutil.copy(home / "scene.tif", tmp_path / "secret.tif", driver="GTiff")
    rasterio.shutil.copy(tmp_path / "secret.tif", home / "refers.vrt", driver="VRT")
    # What begins like a picture, and is a VRT to GDAL all the same.
    (home / "hidden.bmp").write_bytes(b"BM" + (home / "refers.vrt").read_bytes())
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "x", "bbox": [9, 47, 10, 48], "links": [],
        "geometry": {"type": "Point", "coordinates": [9, 47]}, "properties": {"datetime": "2024-04-21T10:00:00Z"},
        "assets": {"visual": {"href": str(tmp_path / "secret.tif")}},
    }  # fmt: skip
    (home / "item.json").write_text(json.dumps(item))
    shutil.copy(home / "scene.tif", home / "overview.tif")
    with rasterio.open(home / "overview.tif", "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(tmp_path / "secret.tif"))
    return home


def call(folder, *calls):
    from mcp.client.stdio import stdio_client

    async def talk():
        parameters = mcp.StdioServerParameters(
            command=sys.executable, args=["-m", "lhrs", "mcp", str(folder)], env={**os.environ, "PYTHONPATH": str(SRC)}
        )
        async with stdio_client(parameters) as pipes, mcp.ClientSession(*pipes) as session:
            await session.initialize()
            names = {tool.name for tool in (await session.list_tools()).tools}
            return names, [await session.call_tool(name, given) for name, given in calls]

    return asyncio.run(talk())


def test_agents_ask_find_and_read_whole_scenes_but_nothing_outside(folder):
    scene = {"scene": "scene.tif", "task": "classify", "labels": ["forest", "water"], "size": 64}
    names, (asked, boxes, whole, again, *refused) = call(
        folder,
        ("ask", {"image": "scene.tif", "question": "Is there water?", "options": ["yes", "no"]}),
        ("ground", {"image": "scene.tif", "expression": "the buildings"}),
        ("scene", scene), ("scene", scene),
        ("ask", {"image": "../secret.png", "question": "What?"}),
        ("ask", {"image": "link.png", "question": "What?"}),
        ("ask", {"image": "/etc/passwd", "question": "What?"}),
        ("ask", {"image": "a\0b", "question": "What?"}),
        ("classify", {"image": "scene.tif", "labels": ["one"]}),
    )  # fmt: skip
    assert names == {"ask", "caption", "classify", "ground", "count", "scene"}

    def told(result):
        return json.loads(result.content[0].text)

    assert told(asked)["answer"] in ("yes", "no") and 0 < told(asked)["confidence"] <= 1
    assert isinstance(told(boxes)["boxes"], list) and told(boxes)["image"] == "scene.tif"
    summary = told(whole)
    assert summary["windows"] == 4 and sum(summary["by_answer_km2"].values()) == pytest.approx(0.016384, rel=3e-3)
    assert (folder / summary["folder"] / "answers.geojson").exists() and told(again) == summary
    for result in refused[:-1]:
        assert result.is_error and "there is no file" in result.content[0].text
    assert refused[-1].is_error and "two options" in refused[-1].content[0].text


def test_files_that_refer_to_others_are_refused_in_one_line(folder):
    names = ("refers.vrt", "hidden.bmp", "item.json", "overview.tif")
    asked = [("ask", {"image": name, "question": "What?"}) for name in names]
    whole = [("scene", {"scene": name, "task": "caption", "size": 64}) for name in names]
    _, results = call(folder, *asked, *whole)
    for result, name in zip(results, 2 * names, strict=True):
        said = result.content[0].text
        assert result.is_error and name in said and "\n" not in said, said
        assert any(why in said for why in ("is not a", "refers to another file", "is damaged"))
    assert not (folder / "lhrs-scenes").exists()


def test_what_lies_beside_an_image_is_not_read(folder):
    """An overview of another place, by a link: the answer is that of the image alone."""
    with rasterio.open(folder.parent / "secret.ovr", "w", driver="GTiff", width=1024, height=1024, count=3,
                       dtype="uint8") as file:  # fmt: skip
        file.write(np.random.default_rng(0).integers(0, 255, (3, 1024, 1024), np.uint8))
    for name in ("scene.tif", "beside.tif"):
        Image.new("RGB", (2048, 2048), (30, 60, 90)).save(folder / name)
    (folder / "beside.tif.ovr").symlink_to(folder.parent / "secret.ovr")
    calls = [("caption", {"image": name}) for name in ("scene.tif", "beside.tif")]
    _, results = call(folder, *calls)
    alone, beside = (json.loads(result.content[0].text) for result in results)
    assert alone["answer"] == beside["answer"] and alone["confidence"] == beside["confidence"]
