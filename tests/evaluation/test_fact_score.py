"""Captions against facts: what says everything, nothing or the safest thing stays below what is true."""

import pytest

from lhrs.align.tags import tag_table
from lhrs.evaluation.metrics.fact_score import score_facts

FACTS = [{"kind": "river", "count": 1}, {"kind": "house", "count": 3}, {"kind": "tennis court", "count": 2},
         {"kind": "forest", "count": 1, "area_fraction": 0.3}]  # fmt: skip
HONEST = "A river beside a forest, with three houses and two tennis courts."
ATTACKS = {
    "nothing": "",
    "refusal": "I'm sorry, I cannot see the image.",
    "no nouns": "A beautiful and detailed aerial view of the area.",
    "everything": ", ".join(sorted(tag_table().kinds)),
    "safest": "Some houses.",
    "vague": "Several things, many houses, some trees.",
    "wrong counts": "Nine houses, seven tennis courts, a river and a forest.",
    "other facts": "An airport with four airplanes and a stadium.",
    "unicode": "\u0000\u202e houses \U0001f3e0" * 50,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_stay_below_the_truth(name):
    honest = score_facts([{"prediction": HONEST, "facts": FACTS}])
    assert honest["fact_f1"] == honest["fact_recall"] == honest["fact_precision"] == 1
    found = score_facts([{"prediction": ATTACKS[name], "facts": FACTS}])
    assert found["fact_f1"] < 0.85
    if name in ("nothing", "refusal", "no nouns", "other facts"):
        assert found["fact_f1"] == 0
    if name == "everything":
        assert found["fact_precision"] < 0.2


def test_verbosity_about_the_truth_costs_nothing():
    long = "In this picture one can see a river. Beside it lies a forest. There are three houses and two tennis courts."
    assert score_facts([{"prediction": long, "facts": FACTS}])["fact_f1"] == 1
