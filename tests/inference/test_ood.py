import numpy as np

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
