"""`--out`: what is found, as map features and as a picture. The answers are written here; the images are real files."""

import json

import numpy as np
import pytest
import rasterio
import rasterio.warp
from PIL import Image

from lhrs.cli.ask import _write_boxes
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.image import open_image
from lhrs.inference.images import RenderingOptions
from lhrs.schema import Answer, AnswerBox, Rendering


def answer(path, *boxes: tuple[float, float, float, float]) -> Answer:
    image = open_image(path)
    found = []
    for x0, y0, x1, y1 in boxes:
        ring = image.to_lonlat(np.array([[x0, y0], [x0, y1], [x1, y1], [x1, y0], [x0, y0]]))
        lonlat = None if ring is None else [tuple(p) for p in ring.tolist()]
        found.append(AnswerBox(label="ships", xyxy=(x0, y0, x1, y1), lonlat=lonlat, confidence=0.5))
    rendering = Rendering(bands=[1, 2, 3], scaling="as is")
    about = {
        "question": "locate the ships.",
        "answer": "",
        "confidence": 0.5,
        "rendering": rendering,
        "out_of_distribution": False,
    }
    return Answer(image=str(path), boxes=found, model="test", **about)


def test_features_lie_where_the_boxes_do(tile, tmp_path):
    _write_boxes(tmp_path / "b.geojson", [answer(tile, (0, 0, 100, 50), (10, 10, 20, 20))], RenderingOptions())
    written = json.loads((tmp_path / "b.geojson").read_text())
    assert written["type"] == "FeatureCollection" and len(written["features"]) == 2
    whole = np.array(written["features"][0]["geometry"]["coordinates"][0])
    assert (whole[0] == whole[-1]).all() and len(whole) == 5
    with rasterio.open(tile) as dataset:  # GDAL's own way to the corners
        west, south, east, north = rasterio.warp.transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)
    assert whole.min(0) == pytest.approx([west, south], abs=1e-6)
    assert whole.max(0) == pytest.approx([east, north], abs=1e-6)
    assert written["features"][0]["properties"]["label"] == "ships"


def test_nothing_found_is_an_empty_collection(tile, tmp_path):
    _write_boxes(tmp_path / "b.geojson", [answer(tile)], RenderingOptions())
    assert json.loads((tmp_path / "b.geojson").read_text())["features"] == []


def test_the_picture_shows_the_boxes(tile, tmp_path):
    _write_boxes(tmp_path / "b.png", [answer(tile, (10, 10, 40, 40))], RenderingOptions())
    drawn = np.array(Image.open(tmp_path / "b.png").convert("RGB"))
    scale = drawn.shape[1] / 100
    assert drawn.shape[:2] == (50 * scale, 100 * scale) and scale == int(scale)
    assert (drawn[int(25 * scale), int(25 * scale)] == 90).all()
    assert (drawn[int(25 * scale), int(10 * scale)] != 90).any()


def test_a_picture_without_a_place_leaves_no_file(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "plain.png")
    with pytest.raises(ConfigError, match="not georeferenced"):
        _write_boxes(tmp_path / "b.geojson", [answer(tmp_path / "plain.png", (0, 0, 4, 4))], RenderingOptions())
    assert [p.name for p in tmp_path.iterdir()] == ["plain.png"]


@pytest.mark.parametrize("name", ["b.geojson", "b.png"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tile, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="cannot be written"):
        _write_boxes(tmp_path / name, [answer(tile, (0, 0, 4, 4))], RenderingOptions())
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, "tile.tif"]
