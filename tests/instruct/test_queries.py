"""Training text of queries: deterministic, well formed, and apart from what is held out."""

import json
import re
from collections import Counter

import pytest
from typer.testing import CliRunner

from lhrs.cli.instruct import app
from lhrs.data.dataset import open_dataset
from lhrs.instruct.queries import query_samples
from lhrs.instruct.question_bank import patterns, pluralize, read_resource, region_phrase
from lhrs.instruct.wording import Part, join, misspell, perturb
from lhrs.perception.query import INTENTS, REGIONS, UNKNOWN, format_query, parse_query

FILES = (
    *("presence", "count", "locate", "share", "choose", "more", "class", "caption", "list", "at", "relation"),
    *("compare", "compound", "first_turns", "later_turns", "follow_ups", "unanswerable", "help"),
)
SLOTS = {"x", "xs", "one", "a", "y", "ys", "b", "z", "zs", "c", "options", "where", "region", "side of"}


def normal(template):
    return " ".join(re.sub(r"[^\w{} %#<>]", "", template).lower().split())


@pytest.fixture(scope="module")
def samples():
    return list(query_samples(1500, seed=5))


def test_a_sample_depends_on_seed_and_index_only(samples):
    assert list(query_samples(5, seed=5, start=700)) == samples[700:705]
    assert [s.turns for s in query_samples(50, seed=6)] != [s.turns for s in samples[:50]]


def test_queries_are_well_formed_and_arguments_are_spans_of_the_question(samples):
    for sample in samples:
        for question, answer in zip(sample.turns[::2], sample.turns[1::2], strict=True):
            query = parse_query(answer.text)
            assert format_query(query) == answer.text
            assert query != UNKNOWN or answer.text == "unknown:"
            words = " ".join(question.text.split())
            assert all(argument in words for clause in query.clauses for argument in clause.arguments), sample


def test_all_intents_and_regions_occur_without_and_with_history(samples):
    clauses = [clause for sample in samples for clause in parse_query(sample.turns[-1].text).clauses]
    assert {clause.intent for clause in clauses} == set(INTENTS)
    assert {clause.region for clause in clauses} == {None, *REGIONS}
    assert {len(sample.turns) for sample in samples} == {2, 4, 6}


def test_questions_are_varied(samples):
    texts = [sample.turns[-2].text for sample in samples]
    assert len(set(texts)) > 0.9 * len(texts)
    assert sum(text.endswith("?") for text in texts) in range(len(texts) // 4, len(texts) * 3 // 4)
    assert any(text.isupper() and len(text) > 10 for text in texts)


def test_wordings_of_each_intent_are_many_and_some_are_held_out():
    number: Counter[str] = Counter()
    for name in FILES:
        for split in ("train", "held_out"):
            for pattern in patterns(name, split):
                number[pattern.query.partition(":")[0]] += len(pattern.templates)
    assert set(number) == set(INTENTS)
    assert min(number.values()) >= 60, number
    assert number["unknown"] >= 300


@pytest.mark.parametrize("name", FILES)
def test_held_out_wordings_are_not_for_training_and_all_slots_are_known(name):
    for query, lists in read_resource(name).items():
        held_out = set(map(normal, lists["held_out"]))
        assert not held_out & set(map(normal, lists["train"])) - {""}, query
        for template in lists["train"] + lists["held_out"]:
            assert set(re.findall(r"\{([^}]+)\}", template)) <= SLOTS, template


@pytest.mark.parametrize("name", FILES)
def test_a_template_has_every_slot_of_its_query(name):
    for query, lists in read_resource(name).items():
        for template in lists["train"] + lists["held_out"]:
            slots = set(re.findall(r"\{([^}]+)\}", template))
            for needed, forms in (
                *(("x", {"x", "xs", "one", "a"}), ("y", {"y", "ys", "b"}), ("z", {"z", "zs", "c"})),
                *(("region", {"region", "where"}), ("side", {"side of"}), ("options", {"options"})),
            ):
                if f"{{{needed}}}" in query:
                    assert slots & forms, (query, template)


def test_the_same_wording_never_has_two_queries_in_messages_without_history():
    queries: dict[str, str] = {}
    for name in set(FILES) - {"later_turns"}:
        for query, lists in read_resource(name).items():
            for template in lists["train"] + lists["held_out"]:
                key = normal(template)
                assert not re.search("[a-z]", key) or queries.setdefault(key, query) == query, template


def test_held_out_nouns_are_other_nouns():
    nouns = read_resource("nouns")
    lists = [kind for topic in ("land", "general") for kind in nouns[topic].values()]
    train = {word for kind in lists for word in kind["train"]}
    held_out = {word for kind in lists for word in kind["held_out"]}
    assert not train & held_out
    assert len(held_out) > 100


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        *(("house", "houses"), ("church", "churches"), ("factory", "factories"), ("bay", "bays"), ("bus", "buses")),
        *(("body of water", "bodies of water"), ("fire", "fires"), ("tall man", "tall men"), ("box", "boxes")),
    ],
)
def test_plurals(singular, plural):
    assert pluralize(singular) == plural


def test_regions_have_a_phrase_for_every_slot():
    from random import Random

    for slot in ("where", "region", "side of"):
        assert {region_phrase(Random(n), slot)[0] for n in range(300)} == set(REGIONS)


def test_noise_keeps_arguments():
    from random import Random

    parts = [Part("is there a "), Part("river", "x"), Part("?")]
    for n in range(300):
        changed = perturb(parts, Random(n), "train")
        arguments = [part.text for part in changed if part.argument == "x"]
        assert len(arguments) == 1 and arguments[0] in join(changed)
        assert abs(len(arguments[0]) - len("river")) <= 2


def test_a_message_of_marks_stays_as_it_is():
    from random import Random

    assert all(perturb([Part("...")], Random(n), "train") for n in range(300))


def test_a_typing_error_changes_little():
    from random import Random

    for n in range(200):
        word = misspell("factory", Random(n))
        assert word[0] == "f" and abs(len(word) - 7) <= 1


def test_the_command_writes_conversations_that_training_reads(tmp_path):
    out = tmp_path / "queries.jsonl"
    result = CliRunner().invoke(app, ["queries", "-o", str(out), "--num", "30", "--seed", "2"])
    assert result.exit_code == 0, result.output
    assert [sample.turns for sample in open_dataset(out)] == [s.turns for s in query_samples(30, seed=2)]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {row["license"] for row in rows} == {"Apache-2.0"}
    held = tmp_path / "held.jsonl"
    result = CliRunner().invoke(app, ["queries", "-o", str(held), "--num", "30", "--held-out", "both"])
    assert result.exit_code == 0 and len(held.read_text().splitlines()) == 30
