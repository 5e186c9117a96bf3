"""Captions say what the facts hold, in English; the checker sees it when they do not."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from lhrs.align.caption_templates import caption
from lhrs.align.claim_check import unsupported_fraction, verify_claims
from lhrs.align.clip import clip_features
from lhrs.align.facts import Fact, extract_facts
from lhrs.align.feature_store import FeatureStore, write_store
from lhrs.align.footprints import footprint_grid, lonlat_bounds, lonlat_corners
from lhrs.align.osm import read_features
from lhrs.align.phrases import join_words, spell_number, with_article


def fact(kind, group="building", count=1, share=0.05, length_m=0.0, position=None, orientation=None, **more):
    return Fact(kind, group, None, True, count, count, share, 100.0, length_m, share, position, [], orientation, **more)


@pytest.fixture(scope="module")
def described(shared_data, tmp_path_factory):
    """Facts and captions of footprints in five towns at three sampling distances."""
    found = []
    for name, region in {
        "liechtenstein-latest.osm.pbf": (9.49, 47.05, 9.56, 47.25), "monaco.osm.gz": (7.41, 43.72, 7.44, 43.75),
        "Helsinki.osm.pbf": (24.92, 60.15, 24.97, 60.19), "nyc.osm.pbf": (-74.02, 40.70, -73.93, 40.80),
        "andorra.osm.pbf": (1.48, 42.48, 1.58, 42.58),
    }.items():  # fmt: skip
        store = tmp_path_factory.mktemp("store") / "s.parquet"
        write_store(store, read_features(shared_data / "osm" / name))
        for size, gsd_m in ((256, 0.3), (512, 1.0), (128, 10.0)):
            footprints = list(footprint_grid(region, size, gsd_m))[:1500]
            for start in range(0, len(footprints), 500):
                block = footprints[start : start + 500]
                features = FeatureStore(store).read(lonlat_bounds(lonlat_corners(block).reshape(-1, 2)))
                facts = extract_facts(block, clip_features(block, features), features.ids)
                for f, known in zip(block, facts, strict=True):
                    text = caption(known, f.id, 0, gsd_m, True)
                    if text is not None:
                        found.append((known, text))
    return found


def test_no_caption_claims_what_its_facts_do_not_hold(described):
    assert len(described) > 1000
    num_claims = 0
    for facts, text in described:
        claims = verify_claims(text, facts)
        assert claims, text
        assert not [c for c in claims if c.verdict != "supported"], text
        num_claims += len(claims)
    assert num_claims > 4000


def test_the_checker_sees_captions_of_other_places(described):
    """The same captions against the facts of another footprint: nearly all say something that is not so there."""
    order = np.random.default_rng(0).permutation(len(described))
    wrong = [unsupported_fraction(verify_claims(described[i][1], described[j][0])) > 0
             for i, j in pairwise(order[:1001]) if len(described[i][1]) > 60]  # fmt: skip
    assert np.mean(wrong) > 0.9


def test_the_checker_sees_changed_numbers(described):
    seen = total = 0
    for facts, text in described:
        changed = re.sub(r"\b(\d\d)\b(?! \w+ road)", lambda m: str(int(m[1]) * 2 + 7), text)
        if changed != text and "more than" not in text:
            total += 1
            seen += any(c.kind == "count" and c.verdict == "contradicted" for c in verify_claims(changed, facts))
    assert total > 50 and seen > 0.95 * total


@pytest.mark.parametrize(
    ("text", "about", "verdict"),
    [
        ("There are three buildings.", "count", "supported"),
        ("There are four buildings.", "count", "contradicted"),
        ("There are 3 large white buildings.", "count", "supported"),
        ("More than two buildings can be seen.", "count", "supported"),
        ("More than ten buildings can be seen.", "count", "contradicted"),
        ("Several structures stand here.", "count", "supported"),
        ("Buildings in the top left.", "position", "supported"),
        ("Buildings in the bottom right.", "position", "contradicted"),
        ("A forest covering about half of the image.", "share", "supported"),
        ("A forest covering most of the image.", "share", "contradicted"),
        ("Woodland.", "presence", "supported"),
        ("A main road running from left to right.", "direction", "supported"),
        ("A main road running from top to bottom.", "direction", "contradicted"),
        ("A swimming pool.", "presence", "unsupported"),
        ("Cars on a main road.", "presence", "unsupported"),
        ("There are no buildings.", "absence", "contradicted"),
        ("There is no swimming pool.", "absence", "unsupported"),
        ("A scene without any swimming pools.", "absence", "unsupported"),
        ("Tiny sheds.", "presence", "unsupported"),
    ],
)
def test_claims(text, about, verdict):
    facts = [
        fact("forest", "nature", share=0.5), fact("building", count=3, position="top left"),
        fact("main road", "transport", 4, 0.0, 300.0, orientation="horizontal"),
        replace(fact("small building"), visible=False),
    ]  # fmt: skip
    found = {(c.kind, c.verdict) for c in verify_claims(text, facts)}
    assert (about, verdict) in found, verify_claims(text, facts)


def test_loose_counts_are_for_people():
    facts = [fact("building", count=20)]
    assert verify_claims("There are 23 buildings.", facts)[1].verdict == "contradicted"
    assert verify_claims("There are 23 buildings.", facts, exact=False)[1].verdict == "supported"


def test_captions_vary_with_the_seed_and_only_with_it():
    facts = [fact("forest", "nature", share=0.3), fact("building", count=7, position="top left"),
             fact("main road", "transport", 4, 0.0, 300.0, orientation="rising")]  # fmt: skip
    said = {caption(facts, "a", seed) for seed in range(50)}
    assert len(said) > 30
    assert caption(facts, "a", 3) == caption(facts, "a", 3)


def test_grammar(described):
    for _, text in described:
        assert (
            (text[0].isupper() or text[0].isdigit()) and text.endswith(".") and "  " not in text and "None" not in text
        ), text
        assert not re.search(r"\ba [aeio]\w+|\ban [bcdfgjklmnpqrstvwxyz]", text), text
        assert not re.search(r"\bthere is (several|two|three|\d)|\bthere are an? (?!number)", text, re.I), text
    assert [with_article(w) for w in ("airport", "university", "house", "hour", "ice rink")] == [
        "an airport", "a university", "a house", "an hour", "an ice rink"]  # fmt: skip
    assert (spell_number(12), spell_number(13), join_words(["a"]), join_words(["a", "b", "c"])) == (
        "twelve",
        "13",
        "a",
        "a, b and c",
    )


def test_nothing_visible_is_no_caption():
    assert caption([], "a") is None
    assert caption([replace(fact("building"), visible=False)], "a") is None


@pytest.mark.parametrize(
    "text",
    [
        "A hundred buildings.", "There are ninety-nine buildings.", "Twenty buildings can be seen.",
        "Dozens upon dozens of buildings.", "Hundreds of buildings.", "The building covers 90% of the image.",
        "Buildings in the north-east, and in the southwest corner.",
        "Buildings in the top left and in the bottom right.",
        "Sorry, I cannot see the image, but buildings are common.", "There is no vegetation, but buildings.",
        "Buildings without any shade.", "The buildings are not visible.",
    ],
)  # fmt: skip
def test_the_checker_is_not_talked_round(text):
    facts = [fact("building", count=4, share=0.06, position="top right")]
    assert unsupported_fraction(verify_claims(text, facts, exact=False)) > 0, verify_claims(text, facts)


@pytest.mark.parametrize(
    "text",
    ["Four buildings.", "There are 4 buildings in the northeast.", "Buildings in the top right.",
     "The buildings cover about 6 percent of the image.", "Several buildings."],
)  # fmt: skip
def test_the_checker_lets_the_truth_pass(text):
    facts = [fact("building", count=4, share=0.06, position="top right")]
    assert unsupported_fraction(verify_claims(text, facts)) == 0, verify_claims(text, facts)
