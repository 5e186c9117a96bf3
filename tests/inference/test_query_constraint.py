"""Queries under constraint: whatever a model prefers, arguments are words of the question."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.perception.question_tokens import Tokens

from lhrs.inference.query_constraint import QueryConstraint
from lhrs.instruct.queries import query_samples
from lhrs.perception.query import INTENTS, UNKNOWN, Clause, Query, format_query, parse_query


@pytest.fixture(scope="module")
def samples():
    return list(query_samples(400, seed=3))


@pytest.fixture(scope="module")
def tokens(samples):
    return Tokens([turn.text for sample in samples for turn in sample.turns])


def babble(constraint, tokens, seed, limit=96, end_probability=0.3):
    """Take allowed tokens at random, as a model that knows nothing would."""
    rng, path = np.random.default_rng(seed), []
    while len(path) < limit:
        allowed = constraint.allowed(path)
        ends = [token for token in allowed if token in tokens.eos_token_ids]
        if ends and (len(ends) == len(allowed) or rng.random() < end_probability):
            break
        path.append(int(rng.choice([token for token in allowed if token not in ends])))
        if rest := constraint.forced(path):
            path += rest[:-1]
            break
    return constraint.text(path)


@given(st.integers(0, 399), st.integers(0, 10**6), st.integers(1, 60))
@settings(max_examples=150, deadline=None)
def test_any_path_is_a_query_about_words_of_the_question(samples, tokens, index, seed, limit):
    question = samples[index].turns[-2].text
    text = babble(QueryConstraint(question, tokens), tokens, seed, limit)
    query = parse_query(text)
    assert text == format_query(query)
    words = " ".join(question.lower().split())
    for clause in query.clauses:
        positions = [words.find(argument) for argument in clause.arguments]
        assert -1 not in positions, (question, text)


def test_every_query_of_the_bank_is_allowed(samples, tokens):
    """The text that is trained is the text that the constraint lets through, token for token."""
    for sample in samples:
        question, query = sample.turns[-2].text, sample.turns[-1].text.lower()
        constraint, path = QueryConstraint(question, tokens), []
        for token in tokens.encode(query):
            assert token in constraint.allowed(path), (question, query, tokens.decode(path))
            path.append(token)
        assert set(tokens.eos_token_ids) <= set(constraint.allowed(path).tolist()), (question, query)
        assert constraint.text(path) == query


def test_a_word_is_copied_from_any_place_of_the_question(tokens):
    """The first word has no space before it, a quoted one neither; their tokens in a query begin with a space."""
    for question in ("rivr?", 'is there a "rivr"?', "water/rivr", "a rivr here"):
        path = tokens.encode("presence: rivr")
        constraint = QueryConstraint(question, tokens)
        assert all(token in constraint.allowed(path[:n]) for n, token in enumerate(path))
        assert constraint.text(path) == "presence: rivr"


def test_arguments_do_not_skip_words_or_cross_punctuation(tokens):
    constraint = QueryConstraint("red or blue houses, trees", tokens)
    for argument, is_span in (("red houses", False), ("blue houses", True), ("houses trees", False)):
        path = tokens.encode(f"count: {argument}")
        assert all(token in constraint.allowed(path[:n]) for n, token in enumerate(path)) is is_span


def test_arguments_neither_begin_nor_end_with_function_words(tokens):
    constraint = QueryConstraint("how many houses are in the rows of trees", tokens)
    for argument, is_phrase in (
        ("rows of trees", True),
        ("rows of", False),
        ("the rows", False),
        ("many houses", False),
    ):
        path = tokens.encode(f"count: {argument}")
        allowed = all(token in constraint.allowed(path[:n]) for n, token in enumerate(path))
        assert (allowed and constraint.text(path) == f"count: {argument}") is is_phrase


def test_clauses_of_one_intent_do_not_repeat_words(tokens):
    constraint = QueryConstraint("count the houses and trees", tokens)
    for text, is_allowed in (
        ("count: houses ; count: trees", True),
        ("count: houses ; locate: houses", True),
        ("count: houses ; count: houses", False),
    ):
        path = tokens.encode(text)
        assert all(token in constraint.allowed(path[:n]) for n, token in enumerate(path)) is is_allowed


def test_a_question_without_words_has_only_queries_without_arguments(tokens):
    texts = {babble(QueryConstraint("???", tokens), tokens, seed) for seed in range(40)}
    assert texts and all(not c.arguments for text in texts for c in parse_query(text).clauses)


def test_a_greeting_is_complete(tokens):
    constraint, path = QueryConstraint("hello", tokens), tokens.encode("help:")
    assert constraint.forced(path) == [tokens.eos_token_ids[0]]


@pytest.mark.parametrize(
    ("cut", "left"),
    [
        ("count: houses ; pres", "count: houses"),
        ("choose: houses |", format_query(UNKNOWN)),
        ("count: houses @", "count: houses"),
        ("at: @", format_query(UNKNOWN)),
    ],
)
def test_a_query_that_was_cut_off_is_truncated_to_a_valid_one(tokens, cut, left):
    constraint = QueryConstraint("how many houses are there", tokens)
    path = tokens.encode(cut)
    assert constraint.text(path) == left


def test_all_intents_can_be_written(tokens):
    question = "houses trees"
    for name, form in INTENTS.items():
        arguments = ("houses", "trees")[: min(form.num_arguments[-1], 2)]
        region = "top left" if form.region and form.region_required else None
        text = format_query(Query((Clause(name, arguments, region),)))
        constraint, path = QueryConstraint(question, tokens), tokens.encode(text)
        assert all(token in constraint.allowed(path[:n]) for n, token in enumerate(path)), text
        assert constraint.text(path) == text


def test_regions_are_of_the_closed_list(tokens):
    constraint, path = QueryConstraint("what is in the north", tokens), tokens.encode("at: @")
    starts = {tokens.decode([token]) for token in constraint.allowed(path)}
    assert all(re.match(r" (t|b|l|r|c)", text) for text in starts), starts
