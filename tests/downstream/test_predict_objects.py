"""Objects of whole scenes lie on the right ground, in every format."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from rasterio.warp import transform
from tests.downstream.answers import BARS, find_bright, make_detector, run, turns_left
from tests.downstream.world import write_raster

from lhrs.boxes import polygon_iou_pairs
from lhrs.downstream import load_predictor
from lhrs.downstream.detect.oriented_rcnn import OrientedRCNN
from lhrs.metrics.iou import oriented_corners


@pytest.fixture
def bars(tmp_path):
    """Four white bars in UTM at 10 m, some on the edges of tiles; and the same as a picture."""
    image = Image.new("RGB", (300, 220))
    for corners in oriented_corners(BARS):
        ImageDraw.Draw(image).polygon([tuple(p) for p in corners], fill=(255, 255, 255))
    image.save(tmp_path / "bars.png")
    return write_raster(tmp_path / "bars.tif", np.array(image).transpose(2, 0, 1))


def test_objects_of_a_scene_lie_on_the_right_ground(bars, tmp_path, monkeypatch, capsys):
    model = make_detector(tmp_path / "m")
    monkeypatch.setattr(OrientedRCNN, "forward", find_bright)
    code, said, err = run(monkeypatch, capsys, model, bars, "--out", tmp_path / "o/found.geojson", "--device", "cpu")
    assert code == 0 and said.strip() == str(tmp_path / "o/found.geojson"), err
    features = json.loads((tmp_path / "o/found.geojson").read_text())["features"]
    assert len(features) == 4 and {f["properties"]["class"] for f in features} == {"ship"}
    for one in features:
        ring = np.array(one["geometry"]["coordinates"][0])
        assert ring.shape == (5, 2) and turns_left(ring)
        east, north = transform("EPSG:4326", "EPSG:32633", *ring[:4].T)
        corners = np.stack([(np.array(east) - 500_000) / 10, (5_000_000 - np.array(north)) / 10], -1)
        overlap = [polygon_iou_pairs(corners[None], box[None])[0] for box in oriented_corners(BARS)]
        assert max(overlap) > 0.8
    scores = [f["properties"]["score"] for f in features]
    assert scores == sorted(scores, reverse=True)
    least = (scores[1] + scores[2]) / 2
    run(monkeypatch, capsys, model, bars, "--out", tmp_path / "few.geojson", "--min-score", least)
    assert len(json.loads((tmp_path / "few.geojson").read_text())["features"]) == 2
    # A picture knows no ground: pixels, as lines or as DOTA has them.
    picture = bars.with_suffix(".png")
    run(monkeypatch, capsys, model, picture, "--out", tmp_path / "o/found.jsonl", "--device", "cpu")
    lines = [json.loads(line) for line in (tmp_path / "o/found.jsonl").read_text().splitlines()]
    assert [line["score"] for line in lines] == scores and lines[0]["image"] == str(picture)
    run(monkeypatch, capsys, model, picture, "--out", tmp_path / "dota", "--device", "cpu")
    rows = [line.split() for line in (tmp_path / "dota/Task1_ship.txt").read_text().splitlines()]
    assert {row[0] for row in rows} == {"bars"}
    corners = np.array([row[2:] for row in rows], float).reshape(-1, 4, 2)
    np.testing.assert_allclose(corners, [line["corners"] for line in lines], atol=0.011)
    before = {p.name: p.read_bytes() for p in (tmp_path / "dota").iterdir()}
    code, _, err = run(monkeypatch, capsys, model, picture, "--out", tmp_path / "dota", "--device", "cpu")
    assert code == 2 and "exists already" in err
    assert {p.name: p.read_bytes() for p in (tmp_path / "dota").iterdir()} == before
    objects = load_predictor(model, "cpu")(picture)
    np.testing.assert_allclose([one.corners for one in objects], corners, atol=0.006)
    assert objects[0].label == "ship" and objects[0].score == pytest.approx(scores[0], abs=1e-6)
    code, _, err = run(monkeypatch, capsys, model, picture, "--out", tmp_path / "p/found.geojson")
    assert code == 2 and "is not georeferenced" in err and not (tmp_path / "p").exists()


def test_horizontal_boxes_come_through(bars, tmp_path):
    found = load_predictor(make_detector(tmp_path / "m", "horizontal"))(bars)
    assert found  # one that has learned nothing finds something everywhere
    for one in found:
        assert one.label == "ship" and one.corners.shape == (4, 2)
        low, high = one.corners.min(0), one.corners.max(0)
        assert (np.isclose(one.corners, low) | np.isclose(one.corners, high)).all()


def test_what_cannot_be_written_is_told_before_looking(tmp_path, monkeypatch, capsys):
    detector, seen = make_detector(tmp_path / "m"), []
    monkeypatch.setattr("lhrs.downstream.predict.Predictor.detect_objects", lambda *_: seen.append(1))
    placed = write_raster(tmp_path / "a.tif", np.zeros((3, 20, 20), np.uint8))
    Image.new("RGB", (20, 20)).save(tmp_path / "b b.png")
    for out, why in (("x.geojson", "is not georeferenced"), ("folder", "must have no spaces")):
        code, _, err = run(monkeypatch, capsys, detector, placed, tmp_path / "b b.png", "--out", tmp_path / out)
        assert code == 2 and why in err and not seen
