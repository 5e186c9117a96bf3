import json
from pathlib import Path

import numpy as np
import pytest

from lhrs.errors import DataError
from lhrs.imagery.georeference import feature, write_geojson

SQUARE = np.array([[0, 0], [2, 0], [2, 1], [0, 1]], float)
EAST = np.array([179, 10])
TURN = np.array([360, 0])


def signed_area(ring: list[list[float]]) -> float:
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


@pytest.mark.parametrize("ring", [SQUARE, SQUARE[::-1]])
def test_outlines_are_closed_and_counter_clockwise(ring: np.ndarray) -> None:
    geometry = feature(ring, {"label": "building"})["geometry"]
    (outline,) = geometry["coordinates"]
    assert geometry["type"] == "Polygon"
    assert outline[0] == outline[-1] and len(outline) == 5
    assert signed_area(outline) == 2


@pytest.mark.parametrize("ring", [SQUARE + EAST, (SQUARE + EAST)[::-1]])
def test_an_outline_over_the_antimeridian_is_cut_in_two(ring: np.ndarray) -> None:
    ring = ring.copy()
    ring[ring[:, 0] > 180, 0] -= 360
    geometry = feature(ring, {})["geometry"]
    assert geometry["type"] == "MultiPolygon"
    outlines = [polygon[0] for polygon in geometry["coordinates"]]
    spans = sorted((min(x for x, _ in o), max(x for x, _ in o)) for o in outlines)
    assert spans == [(-180, -179), (179, 180)]
    assert [signed_area(o) for o in outlines] == pytest.approx([1, 1])


def test_a_rotated_outline_over_the_antimeridian_keeps_its_area() -> None:
    diamond = np.array([[179.5, 0], [-179, -1], [-178.5, 0.5], [-179.9, 1]])
    turned = np.where(diamond[:, :1] < 0, diamond + TURN, diamond)
    whole = signed_area([*turned.tolist(), turned[0].tolist()])
    outlines = [polygon[0] for polygon in feature(diamond, {})["geometry"]["coordinates"]]
    assert sum(map(signed_area, outlines)) == pytest.approx(whole)
    assert all(-180 <= x <= 180 for outline in outlines for x, _ in outline)


def test_geojson_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "boxes.geojson"
    write_geojson(path, [feature(SQUARE, {"label": "Häuser"})])
    before = path.read_text(encoding="utf-8")
    assert json.loads(before)["type"] == "FeatureCollection"
    assert json.loads(before)["features"][0]["properties"] == {"label": "Häuser"}
    (tmp_path / "reader").hardlink_to(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_geojson(path, [feature(SQUARE, {"confidence": np.nan})])
    assert path.read_text(encoding="utf-8") == before
    write_geojson(path, [])
    assert json.loads(path.read_text(encoding="utf-8"))["features"] == []
    assert (tmp_path / "reader").read_text(encoding="utf-8") == before, "whoever reads the old file reads it to its end"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boxes.geojson", "reader"]


def test_an_outline_off_the_earth_has_no_geometry() -> None:
    ring = SQUARE.copy()
    ring[0] = np.nan
    assert feature(ring, {"label": "x"}) == {"type": "Feature", "geometry": None, "properties": {"label": "x"}}


def test_a_folder_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"boxes\.geojson cannot be written: No such file or directory"):
        write_geojson(tmp_path / "no" / "boxes.geojson", [])
