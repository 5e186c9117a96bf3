"""Probabilities of labels follow the evidence, whatever words are used, and unknown words get none."""

from itertools import permutations

import numpy as np
import pytest

from lhrs.perception.evidence import Evidence
from lhrs.perception.score_labels import LabelScorer, SourceWeights, score_labels
from lhrs.perception.vocabulary import SCENES


def evidence(scenes, cover=None, tags=None):
    scenes = {scenes: 1.0} if isinstance(scenes, str) else scenes
    maps = np.array(list((cover or {}).values()), np.float32).reshape(-1, 1, 1)
    return Evidence({scene: scenes.get(scene, 0.0) for scene in SCENES}, tags or {}, tuple(cover or {}), maps)


FOREST = evidence("eurosat/Forest", {"trees": 0.9, "grass": 0.1}, {"trees": 0.98})
FIELDS = evidence("eurosat/AnnualCrop", {"crops": 0.8, "bare": 0.2}, {"crops": 0.9})
TOWN = evidence(
    {"eurosat/Residential": 0.7, "ucmerced/mediumresidential": 0.2, "eurosat/Industrial": 0.1},
    {"building": 0.35, "paved": 0.25, "trees": 0.25, "grass": 0.15},
    {"building": 0.99, "trees": 0.9, "road": 0.9},
)
WORKS = evidence("eurosat/Industrial", {"building": 0.5, "paved": 0.4, "grass": 0.1}, {"building": 0.99})
RIVER = evidence(
    "eurosat/River", {"water": 0.2, "trees": 0.4, "crops": 0.4}, {"water": 0.95, "river": 0.9, "trees": 0.9}
)
LAKE = evidence("eurosat/SeaLake", {"water": 1.0}, {"water": 0.99})
DUNES = evidence(
    {"ucmerced/chaparral": 0.3, "eurosat/AnnualCrop": 0.4, "ucmerced/beach": 0.3}, {"bare": 1.0}, {"bare": 0.99}
)


@pytest.mark.parametrize(
    ("image", "names"),
    [
        (FOREST, ["forest", "woods", "woodland", "trees", "tree cover", "nature", "vegetation", "green"]),
        (FIELDS, ["farmland", "cropland", "agriculture", "arable land", "fields", "crops", "annual crops"]),
        (TOWN, ["city", "urban", "built-up", "town", "settlement", "residential", "housing", "neighborhood", "homes"]),
        (WORKS, ["industry", "factory", "warehouses", "industrial area", "city", "built-up", "urban"]),
        (RIVER, ["water", "river", "stream", "waterway", "rivers"]),
        (LAKE, ["water", "sea", "lake", "ocean", "pond", "SeaLake"]),
        (DUNES, ["bare ground", "desert", "sand", "barren land"]),
    ],
)
def test_synonyms_win_alike(image, names):
    others = {
        id(FOREST): "tree plantation", id(FIELDS): "ploughed fields", id(TOWN): "suburb", id(WORKS): "factory",
        id(RIVER): "brook", id(LAKE): "reservoir", id(DUNES): "dunes",
    }  # fmt: skip
    for name in names:
        labels = [name, *(other for key, other in others.items() if key != id(image) and not related(name, other))]
        scores = score_labels(labels, image)
        assert scores.best == name, (labels, scores)
        assert scores.probabilities[0] > 0.5
        assert sum(scores.probabilities) == pytest.approx(1)


def related(name, other):
    """Return whether two labels describe the same kind of image."""
    kinds = [
        {"city", "urban", "built-up", "town", "settlement", "suburb", "factory"},
        {"water", "brook", "reservoir"},
        {"nature", "vegetation", "green", "tree plantation", "ploughed fields", "brook", "reservoir", "dunes"},
    ]
    return any(name in kind and other in kind for kind in kinds)


def test_words_for_the_same_thing_have_the_same_probability():
    sets = [["forest", "water", "city"], ["woodland", "Waters", "an urban area"], ["rain forest", "watr", "TOWN"]]
    for image in (FOREST, TOWN, RIVER):
        scores = [score_labels(labels, image).probabilities for labels in sets]
        assert scores[0] == scores[1] == scores[2]


@pytest.mark.parametrize("word", ["unicorn", "wind farm", "plant", "solar panels", "asdfgh", "", "beech"])
def test_a_word_without_a_place_gets_no_probability_and_a_warning(word):
    plain = score_labels(["forest", "city"], TOWN)
    scores = score_labels(["forest", word, "city"], TOWN)
    assert scores.probabilities == (plain.probabilities[0], 0, plain.probabilities[1])
    assert len(scores.warnings) == 1 and repr(word) in scores.warnings[0]
    assert not plain.warnings


def test_warnings_give_the_reason():
    scores = score_labels(["unicorn", "wind farm", "plant", "rivr", "woods", "forest"], FOREST)
    reasons = ["not in the table", "not trained to see", "vegetation, power plant or factory", "as 'river'", "the same"]
    for reason, warning in zip(reasons, scores.warnings, strict=True):
        assert reason in warning


def test_no_label_has_a_place():
    scores = score_labels(["unicorn", "wind farm"], FOREST)
    assert scores.probabilities == (0, 0) and scores.best is None and scores.rest == 1
    empty = score_labels([], FOREST)
    assert empty.probabilities == () and empty.best is None


def test_labels_with_the_same_meaning_share_one_probability():
    scores = score_labels(["woods", "city", "forest", "woods"], TOWN)
    alone = score_labels(["woods", "city"], TOWN)
    assert scores.probabilities[0] == scores.probabilities[2] == scores.probabilities[3]
    assert scores.probabilities[0] == pytest.approx(alone.probabilities[0] / 3)
    assert scores.probabilities[1] == alone.probabilities[1]
    assert "'woods', 'forest' and 'woods' mean the same" in scores.warnings[0]


@pytest.mark.parametrize(
    ("broad", "narrow", "of_narrow", "of_broad"),
    [
        ("built-up", "residential", TOWN, WORKS),
        ("urban", "industry", WORKS, TOWN),
        ("vegetation", "forest", FOREST, FIELDS),
        ("nature", "water", LAKE, FOREST),
        ("water", "river", RIVER, LAKE),
        ("rural", "farmland", FIELDS, FOREST),
    ],
)
def test_a_broader_label_leaves_evidence_to_the_narrower_one(broad, narrow, of_narrow, of_broad):
    for labels in ([broad, narrow], [narrow, broad]):
        assert score_labels(labels, of_narrow).best == narrow
        assert score_labels(labels, of_broad).best == broad
    both = score_labels([broad, "beach"], of_narrow), score_labels([broad, "beach"], of_broad)
    assert [scores.best for scores in both] == [broad, broad]


def test_the_order_of_labels_makes_no_difference():
    labels = ["built-up", "residential", "trees", "vegetation", "no water"]
    expected = dict(zip(labels, score_labels(labels, TOWN).probabilities, strict=True))
    for order in permutations(labels):
        assert dict(zip(order, score_labels(order, TOWN).probabilities, strict=True)) == expected


def test_the_rest():
    assert score_labels(["forest", "water"], FIELDS).rest > 0.9
    assert score_labels(["forest", "farmland"], FIELDS).rest < 0.15
    scores = score_labels(["forest", "water", "other"], FIELDS)
    assert scores.best == "other" and scores.probabilities[2] > 0.8
    assert score_labels(["forest", "water", "background"], FOREST).best == "forest"
    assert score_labels(["others"], FOREST).probabilities == (1,)


def test_labels_that_do_not_fit_are_nearly_equal():
    assert max(score_labels(["airport", "harbor", "river"], FIELDS).probabilities) < 0.4


def test_negations_and_lists():
    assert score_labels(["water", "no water"], LAKE).best == "water"
    assert score_labels(["water", "no water"], FIELDS).best == "no water"
    assert score_labels(["forest or farmland", "water"], FIELDS).probabilities[0] > 0.9
    assert score_labels(["forest or farmland", "forest"], FOREST).best == "forest"
    clear = score_labels(["cloud", "no cloud"], evidence({}, {}, {"cloud": 0.1}))
    assert clear.best == "no cloud"


def test_each_source_counts():
    scene = evidence("ucmerced/airplane")
    cover = evidence({}, {"bare": 0.9, "trees": 0.1})
    tag = evidence({}, {}, {"snow or ice": 0.9, "trees": 0.1})
    labels = ["aircraft", "bare soil", "snow", "forest"]
    assert [score_labels(labels, image).best for image in (scene, cover, tag)] == labels[:3]


def test_a_tag_alone_does_not_outvote_a_scene():
    image = evidence("eurosat/Residential", {"building": 0.4, "grass": 0.6}, {"pool": 0.95, "building": 0.95})
    assert score_labels(["swimming pool", "residential"], image).best == "residential"


def test_more_evidence_means_more_probability():
    images = [evidence({"eurosat/Forest": p, "eurosat/SeaLake": 1 - p}) for p in (0.1, 0.3, 0.5, 0.7, 0.9)]
    scorer = LabelScorer(["woods", "lake"])
    probabilities = [scorer.score(image).probabilities[0] for image in images]
    assert probabilities == sorted(probabilities) and probabilities[2] == pytest.approx(0.5)


def test_weights_of_sources():
    image = evidence("eurosat/River", {"trees": 1.0})
    assert score_labels(["river", "forest"], image).best == "river"
    assert score_labels(["river", "forest"], image, SourceWeights(scene=0.1, cover=0.9)).best == "forest"
