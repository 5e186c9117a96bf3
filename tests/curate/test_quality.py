"""Scores of texts and images do what their docstrings say."""

import numpy as np
import pytest
from PIL import Image
from tests.curate.scenes import blurred, scene

from lhrs.align.claim_check import claim_coverage_precision
from lhrs.align.facts import Fact
from lhrs.curate.image_stats import compute_image_stats, sharpness
from lhrs.curate.quality import mean_rank_score, readability, specificity


def fact(kind, visible=True, parent=None, count=1):
    return Fact(kind, kind, parent, visible, count, count, 0.2, 100.0, 0.0, 0.2, None, [], None)


def test_coverage_is_of_what_can_be_seen():
    facts = [fact("forest"), fact("quarry"), fact("meadow"), fact("school building", visible=False)]
    assert claim_coverage_precision("A forest beside a quarry.", facts) == (pytest.approx(2 / 3, abs=1e-4), 1.0)
    assert claim_coverage_precision("There is a road, and an airplane.", facts) == (0.0, 0.0)
    coverage, precision = claim_coverage_precision("A forest, a quarry, a meadow and two ships.", facts)
    assert coverage == 1.0 and precision == pytest.approx(3 / 4)


def test_a_kind_is_told_by_one_of_its_own():
    facts = [fact("building", count=3), fact("church", parent="building")]
    assert claim_coverage_precision("A church.", facts)[0] == 1.0
    assert claim_coverage_precision("Some buildings.", facts)[0] == 0.5


def test_readability():
    plain = "There is a small lake. The road goes to the town. Trees stand near the house."
    dense = "Heterogeneous urbanization characteristics demonstrate anthropogenic interrelationships comprehensively."
    assert readability(plain) == 1.0 and readability(dense) == 0.0
    middle = "The residential area, with numerous buildings arranged regularly, surrounds an agricultural property."
    assert 0 < readability(middle) < 0.7
    assert readability("the lake " * 20) < 0.1
    assert readability("two ships") is None and readability("") is None


def test_specificity_counts_the_bits_that_words_tell():
    texts = ["a field", "a field", "a field", "a quarry", "", "a field a field"]
    bits = specificity(texts)
    assert bits[0] == bits[5] == pytest.approx(np.log2(5 / 4), abs=1e-4)
    assert bits[3] == pytest.approx(np.log2(5), abs=1e-4) and np.isnan(bits[4])


def test_the_score_is_the_mean_rank_over_what_is_known():
    one = np.array([0.1, 0.5, 0.9, np.nan])
    other = np.array([np.nan, 100.0, 200.0, np.nan])
    score = mean_rank_score([one, other])
    assert score[:3].tolist() == pytest.approx([1 / 6, (0.5 + 0.25) / 2, (5 / 6 + 0.75) / 2], abs=1e-6)
    assert np.isnan(score[3])
    assert mean_rank_score([np.array([1.0, 1.0])]).tolist() == [0.5, 0.5]


def test_blurred_images_are_less_sharp_than_any_sharp_one():
    sharp = [sharpness(np.array(scene(seed))) for seed in range(10)]
    soft = [sharpness(np.array(blurred(scene(seed)))) for seed in range(10)]
    assert min(sharp) > 5 * max(soft)
    assert sharpness(np.full((20, 20, 3), 77, np.uint8)) == 0
    ramp = np.arange(60, dtype=np.uint8)[None, :, None].repeat(60, 0).repeat(3, 2)
    assert sharpness(ramp) < 0.1 and sharpness(ramp * (1 + ramp % 2)) > 100


def test_what_is_measured_of_a_file(tmp_path):
    picture = scene(0)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.bmp")
    half = np.array(picture)
    half[:, :48] = 0
    Image.fromarray(half).save(tmp_path / "half.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    files = [str(tmp_path / name) for name in ("a.png", "b.bmp", "half.png", "broken.png", "none.png")]
    one, same, empty, broken, missing = compute_image_stats(files).to_pylist()
    assert one["digest"] == same["digest"] != empty["digest"] and one["num_pixels"] == 96 * 96
    assert one["nodata_fraction"] < 0.1 and empty["nodata_fraction"] == pytest.approx(0.5, abs=0.1)
    assert "damaged" in broken["error"] and "does not exist" in missing["error"] and one["error"] is None
