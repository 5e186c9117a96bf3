"""Recalls of image-text retrieval, against counting by hand and against rankings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhrs.metrics.retrieval import RECALLS, score_similarity
from lhrs.metrics.scoring import score_per_sample, score_records


def test_recalls_by_hand():
    # Texts 0 and 1 belong to image 0, text 2 to image 1. Ranks of texts: 1, 2, 1; of images: 1 and 2.
    similarity = np.array([[0.9, 0.1], [0.2, 0.3], [0.1, 0.25]])
    found = score_similarity(similarity, [0, 0, 1])
    assert found["text to image R@1"] == pytest.approx(2 / 3) and found["text to image R@5"] == 1
    assert found["image to text R@1"] == 0.5 and found["image to text R@10"] == 1
    assert found["mean_recall"] == pytest.approx((2 / 3 + 1 + 1 + 0.5 + 1 + 1) / 6)


def test_ties_count_against_the_model():
    found = score_similarity(np.zeros((22, 11)), np.repeat(range(11), 2))
    assert found["mean_recall"] == 0


@pytest.mark.parametrize(
    ("similarity", "owner"), [(np.zeros((2, 2)), [0, 0]), (np.zeros((2, 2)), [0]), (np.array([[np.nan]]), [0])]
)
def test_what_cannot_be_scored_is_refused(similarity, owner):
    with pytest.raises(ValueError, match=r"need one of|must be finite"):
        score_similarity(similarity, owner)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.randoms(use_true_random=False))
def test_rankings_give_the_same_as_similarities(num_images, texts_each, random):
    owner = np.repeat(range(num_images), texts_each)
    values = list(range(len(owner) * num_images))
    random.shuffle(values)
    similarity = np.array(values, float).reshape(len(owner), num_images)
    texts, images = [f"t{n}" for n in range(len(owner))], [f"i{n}" for n in range(num_images)]
    records = [
        {"prediction": [texts[n] for n in np.argsort(-similarity[:, image])], "type": "image to text",
         "answer": [texts[n] for n in np.flatnonzero(owner == image)]}
        for image in range(num_images)
    ] + [
        {"prediction": [images[n] for n in np.argsort(-similarity[text])], "type": "text to image",
         "answer": [images[owner[text]]]}
        for text in range(len(owner))
    ]  # fmt: skip
    found = score_records(records, "retrieval")
    assert found == {**score_similarity(similarity, owner), "n": len(records), "parse_failure_rate": 0}
    per_sample = score_per_sample(records, "retrieval")
    assert set(np.round(per_sample * len(RECALLS))) <= {0, 1, 2, 3}
