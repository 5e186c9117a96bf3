"""Evidence: boxes from center maps, parts of images, areas."""

import numpy as np
import pytest

from lhrs.perception.evidence import Detection, Evidence, HeadNames, decode, find_objects
from lhrs.perception.measure import areas, fraction, objects, places, position, presence
from lhrs.perception.vocabulary import REGIONS
from lhrs.perception.word_table import word_table
from lhrs.training.perception_targets import STRIDE, object_targets

COVER = ("water", "trees", "grass", "crops", "bare", "building", "paved")


def logit(p):
    return np.log(np.clip(p, 1e-4, 1 - 1e-4) / (1 - np.clip(p, 1e-4, 1 - 1e-4)))


def evidence(cover_map, tags=None, detections=(), scenes=None):
    return Evidence(scenes or {"eurosat/Forest": 1.0}, tags or {}, COVER, cover_map, tuple(detections))


def one_hot(names):
    """Return the map of a grid of class names."""
    grid = np.array([[COVER.index(name) for name in row.split()] for row in names])
    return np.eye(len(COVER), dtype=np.float32)[grid].transpose(2, 0, 1)


def test_boxes_are_found_where_their_targets_were_made():
    pytest.importorskip("torch")
    boxes = np.array([[8, 8, 40, 32], [60, 20, 72, 52], [100, 100, 124, 120.5]], np.float32)
    kinds = np.array([0, 1, 0])
    heat, extent, ignore = object_targets(boxes, kinds, np.zeros(3, bool), 32, 2, set())
    assert not ignore.any()
    found = find_objects(logit(heat), np.nan_to_num(extent), ["building", "tree"], {"building": 0.5, "tree": 0.5})
    order = sorted(found, key=lambda d: d.box)
    assert [d.label for d in order] == ["building", "tree", "building"]
    np.testing.assert_allclose(np.array([d.box for d in order]) * 32 * STRIDE, boxes, atol=1e-3)


def test_small_and_cut_boxes_are_neither_objects_nor_background():
    pytest.importorskip("torch")
    heat, extent, ignore = object_targets(np.array([[0, 0, 40, 40.0]]), np.array([0]), np.array([True]), 32, 1, set())
    assert not heat.any()
    assert np.isnan(extent).all()
    assert ignore.sum() == 100


def test_overlapping_boxes_of_a_class_are_one_object():
    heat = np.full((1, 16, 16), -8.0)
    heat[0, 5, 5], heat[0, 5, 7] = 3, 2
    extents = np.log(np.full((4, 16, 16), 4.0))
    assert len(find_objects(heat, extents, ["building"], {})) == 1


def test_decoded_probabilities_sum_to_one():
    rng = np.random.default_rng(0)
    outputs = {
        "scene": rng.normal(size=3), "tags": rng.normal(size=2), "cover": rng.normal(size=(7, 4, 4)),
        "centers": np.full((1, 4, 4), -9.0), "extents": np.zeros((4, 4, 4)),
    }  # fmt: skip
    names = HeadNames(("a/x", "a/y", "b/z"), ("water", "road"), COVER, ("building",))
    seen = decode(outputs, names, {}, {"scene": 2.0})
    assert sum(seen.scenes.values()) == pytest.approx(1)
    assert sum(seen.cover.values()) == pytest.approx(1, abs=1e-5)
    flat = decode(outputs, names, {}, {"scene": 100.0})
    assert max(flat.scenes.values()) < max(seen.scenes.values())


def test_parts_of_an_image():
    seen = evidence(
        one_hot(["water water trees trees"] * 2 + ["water water building building"] * 2),
        detections=[Detection("building", (0.6, 0.6, 0.7, 0.7), 0.9), Detection("building", (0, 0, 0.1, 0.1), 0.8)],
    )
    assert seen.within("left").cover["water"] == pytest.approx(1)
    right = seen.within("bottom right")
    assert right.cover["building"] == pytest.approx(1)
    assert [d.score for d in right.detections] == [0.9]
    assert seen.within(None) is seen


def test_the_parts_cover_the_image():
    halves = [("left", "right"), ("top", "bottom")]
    assert all(sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (REGIONS[a], REGIONS[b])) == 1 for a, b in halves)


def test_fractions_and_places():
    seen = evidence(one_hot(["water water grass grass", "water water grass grass", "grass grass grass water"]))
    water = word_table().concepts["water"]
    assert fraction(water, seen) == pytest.approx(5 / 12)
    found = places(water, seen)
    assert [position(d.box) for d in found] == ["left", "bottom right"]
    assert found[0].box == pytest.approx((0, 0, 0.5, 2 / 3))


def test_an_area_with_a_hole_is_one_place():
    ring = np.ones((10, 10))
    ring[3:6, 3:6] = 0
    assert len(areas(ring, "x")) == 1


def test_presence_follows_tags_and_in_parts_the_area():
    seen = evidence(one_hot(["water grass"] * 4), tags={"water": 0.9})
    assert presence("water", seen) == pytest.approx(0.9)
    assert presence("water", seen.within("right"), is_part=True) < 0.1
    assert presence("water", seen.within("left"), is_part=True) > 0.8


def test_single_trees_are_no_forest():
    tags = {"trees": 0.95}
    houses = ["trees paved paved paved paved paved"] + ["building building paved paved grass grass"] * 3
    street = evidence(one_hot(houses), tags, scenes={"eurosat/Residential": 1.0})
    stand = evidence(one_hot(["trees trees trees grass"] * 4), tags, scenes={"eurosat/Residential": 1.0})
    assert presence("tree cover", street) == pytest.approx(0.95)
    assert presence("forest", street) < 0.5
    assert presence("forest", stand) > 0.7
    assert presence("forest", evidence(one_hot(["grass"]), tags, scenes={"eurosat/Forest": 1.0})) > 0.9


def test_only_objects_are_counted():
    seen = evidence(one_hot(["grass"]), detections=[Detection("building", (0, 0, 1, 1), 0.9)])
    assert len(objects(word_table().concepts["building"], seen)) == 1
    assert objects(word_table().concepts["water"], seen) is None
