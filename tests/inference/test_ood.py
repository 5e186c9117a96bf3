import numpy as np
import pytest

from lhrs.data.synthetic_outliers import night_lights, radar
from lhrs.inference.ood import OODDetector


def fitted():
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 300)
    features = rng.normal(size=(600, 8)) * np.array([5, 1, 1, 1, 1, 1, 1, 0.1]) + 20 * groups[:, None]
    return OODDetector.fit(features[::2], groups[::2], features[1::2])


def test_distance_counts_spread_not_length():
    near = np.array([6, 0, 0, 0, 0, 0, 0, 0.0])  # far, but along the direction in which the class varies
    odd = np.array([0, 0, 0, 0, 0, 6, 0, 0.0])
    assert fitted().ood_score(near) < fitted().ood_score(odd)


def test_one_in_a_hundred_known_images_is_flagged():
    found = fitted()
    rng = np.random.default_rng(1)
    known = rng.normal(size=(2000, 8)) * np.array([5, 1, 1, 1, 1, 1, 1, 0.1])
    assert 0.001 < np.mean([found.ood_score(k) > found.threshold for k in known]) < 0.03


def test_saved_and_loaded_it_measures_the_same(tmp_path):
    found = fitted()
    found.save(tmp_path / "f.npz")
    loaded = OODDetector.load(tmp_path / "f.npz")
    point = np.linspace(0, 3, 8)
    assert abs(loaded.ood_score(point) / found.ood_score(point) - 1) < 5e-3 and loaded.threshold == np.float32(
        found.threshold
    )


def test_outliers_inside_the_cloud_are_told_by_the_linear_score():
    rng = np.random.default_rng(5)
    familiar, held_back = rng.normal(size=(2, 600, 8)).astype(np.float32)
    outliers = rng.normal(size=(200, 8)).astype(np.float32)
    for array, sign in ((familiar, -1), (held_back, -1), (outliers, 1)):
        array[:, 0] = sign * np.abs(array[:, 0])  # no farther away, but on the other side
    groups = np.zeros(600, int)
    plain = OODDetector.fit(familiar, groups, held_back)
    exposed = OODDetector.fit(familiar, groups, held_back, outliers)
    assert np.mean([plain.is_ood(x) for x in outliers]) < 0.2
    assert np.mean([exposed.is_ood(x) for x in outliers]) > 0.6
    assert np.mean([exposed.is_ood(x) for x in held_back]) <= 0.03


@pytest.mark.parametrize("make", [radar, night_lights])
def test_made_outliers_are_images_and_repeat(make):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    first, second = (make(pixels, np.random.default_rng(3)) for _ in range(2))
    assert first.dtype == np.uint8
    assert first.ndim == 3
    assert first.shape[2] == 3
    assert (first == second).all()
    assert first.std() > 1
    assert make(np.zeros((40, 60, 3), np.uint8), np.random.default_rng(0)).shape[2] == 3
