"""Queries: their text form, read back and forgiving of nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhrs.perception.query import INTENTS, MAX_CLAUSES, REGIONS, UNKNOWN, Clause, Query, format_query, parse_query

WORDS = st.text(st.characters(exclude_characters="|@;:", exclude_categories=("Z", "C")), min_size=1, max_size=8)
ARGUMENTS = st.lists(WORDS, min_size=1, max_size=4).map(" ".join)


@st.composite
def clauses(draw):
    intent = draw(st.sampled_from(sorted(INTENTS)))
    form = INTENTS[intent]
    num = draw(st.sampled_from(form.num_arguments))
    arguments = tuple(draw(ARGUMENTS) for _ in range(num))
    needed = form.region_required and not arguments
    region = draw(st.sampled_from(REGIONS)) if needed or (form.region and draw(st.booleans())) else None
    return Clause(intent, arguments, region)


@given(st.lists(clauses(), min_size=1, max_size=MAX_CLAUSES))
def test_queries_are_read_as_they_were_written(parts):
    query = Query(tuple(parts))
    assert parse_query(format_query(query)) == query


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("presence: rivr", Query((Clause("presence", ("rivr",)),))),
        ("class:", Query((Clause("class"),))),
        ("at: @ top left", Query((Clause("at", (), "top left"),))),
        ("count: houses ; presence: water", Query((Clause("count", ("houses",)), Clause("presence", ("water",))))),
        ("choose:urban|rural@top", Query((Clause("choose", ("urban", "rural"), "top"),))),
        ("  locate:   oil  tanks  @  bottom ", Query((Clause("locate", ("oil tanks",), "bottom"),))),
        ("unknown:", UNKNOWN),
    ],
)
def test_examples(text, query):
    assert parse_query(text) == query


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a river",
        "paint: house",
        "class: forest",
        "choose: urban",
        "choose: urban |",
        "more: | trees",
        "at:",
        "follow:",
        "relation: @ top",
        "count: houses @ somewhere",
        "count: houses @",
        "caption: @ top",
        "count: houses ;",
        "count: houses ; paint: walls",
        "presence: a | b",
        " ; ".join(["class:"] * (MAX_CLAUSES + 1)),
    ],
)
def test_malformed_text_is_unknown(text):
    assert parse_query(text) == UNKNOWN
