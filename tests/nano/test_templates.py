"""The hand-written question banks agree with themselves and with what generates questions from them."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from lhrs.nano.image_facts import REGIONS

RESOURCES = Path(__file__).parents[2] / "src" / "lhrs" / "resources"
VOCABULARIES = {
    "eurosat": "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop "
    "Residential River SeaLake",
    "ucmerced": "agricultural airplane baseballdiamond beach buildings chaparral denseresidential forest freeway "
    "golfcourse harbor intersection mediumresidential mobilehomepark overpass parkinglot river runway "
    "sparseresidential storagetanks tenniscourt",
    "dubai": "building land road vegetation water",
}
# The slot sets that a phrase of the task may have.
NOUNS = [{"thing"}, {"things"}]
SLOTS: dict[str, list[set[str]]] = {
    "scene": [set()],
    "scene_options": [{"options"}],
    "choice": [{"question", "options"}],
    "presence": [{"a_thing"}, {"things"}],
    "presence_plural": NOUNS,
    "presence_mass": [{"things"}],
    "is_class": [{"a_thing"}, {"thing"}],
    "caption": [set()],
    "region": [{"region"}],
    "where": NOUNS,
    "count": NOUNS,
    "ground": NOUNS,
    "ground_one": [{"expression"}],
    "dominant": [set()],
}
TEMPLATE_SLOTS = {"property", "noun", "person", "place", "thing", "time"}
SLOT = re.compile(r"\{(\w+)\}")


@cache
def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((RESOURCES / f"{name}.yaml").read_text(encoding="ascii"))


def plain(text: str) -> str:
    """Lower case, without punctuation; slots keep their braces, so that they differ from words."""
    return " ".join(re.sub(r"[^a-z0-9_{} ]", " ", text.lower()).split())


def combinations(template: dict[str, Any]) -> Iterator[str]:
    slots = [key for key in template if key != "text"]
    for words in product(*(template[slot] for slot in slots)):
        text = template["text"]
        for slot, word in zip(slots, words, strict=True):
            text = text.replace("{" + slot + "}", word)
        yield text


def named_nouns() -> list[dict[str, Any]]:
    """Return every noun that questions with an answer are asked about."""
    classes = read("classes")
    entries = [entry for vocabulary in VOCABULARIES for entry in classes[vocabulary].values()]
    return [*entries, *classes["attributes"].values(), *classes["buildings"]]


def expressions() -> Iterator[str]:
    regions = read("classes")["regions"]
    places = [word for name, words in regions.items() for word in (name, *words)]
    for word in (entry["thing"] for entry in read("classes")["buildings"]):
        yield from (f"the {word}", f"the largest {word}", f"the biggest {word}")
        for place in places:
            yield from (f"the {word} in the {place}", f"the {word} nearest the {place}")


@cache
def answerable() -> frozenset[str]:
    """Return the plain form of every question that the answerable templates can generate."""
    classes, questions = read("classes"), read("questions")
    everything, absent, buildings = named_nouns(), classes["objects_absent"], classes["buildings"]
    labels = [{"options": text} for v in VOCABULARIES for e in classes[v].values() for text in labels_of(e)]
    names = [{"a_thing": e["a_thing"], "thing": e["name"]} for v in VOCABULARIES for e in classes[v].values()]
    fillings = {
        **{task: [{}] for task in ("scene", "caption", "dominant")},
        **dict.fromkeys(("presence", "presence_plural", "presence_mass"), everything + absent),
        **dict.fromkeys(("count", "ground"), buildings),
        "where": everything,
        "scene_options": labels,
        "is_class": names,
        "region": [{"region": word} for name, words in classes["regions"].items() for word in (name, *words)],
        "ground_one": [{"expression": text} for text in expressions()],
    }
    out = set()
    for task, nouns in fillings.items():
        for template, forms in product(questions[task]["train"] + questions[task]["held_out"], nouns):
            out.add(plain(SLOT.sub(lambda match, forms=forms: forms[match[1]], template)))
    return frozenset(out)


def labels_of(entry: dict[str, Any]) -> list[str]:
    return [entry["name"], *entry["scene_synonyms"]]


def repeated(texts: list[str]) -> list[str]:
    return [text for text, times in Counter(texts).items() if times > 1]


def strings(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in ("yes", "no"):  # class keys keep the case of their folders
                yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)
    elif not isinstance(node, bool):
        assert isinstance(node, str), f"{node!r} is not text: quote it"
        yield node


@pytest.mark.parametrize("name", ["questions", "classes", "unanswerable"])
def test_banks_hold_only_trimmed_lower_case_text(name: str) -> None:
    assert [text for text in strings(read(name)) if not text or text != text.lower().strip()] == []


def test_every_task_has_train_and_held_out_phrases() -> None:
    questions = read("questions")
    assert set(questions) == set(SLOTS)
    for task, lists in questions.items():
        assert set(lists) == {"train", "held_out"}, task
        assert len(lists["held_out"]) >= 8, task


def test_phrases_use_only_the_slots_of_their_task() -> None:
    for task, lists in read("questions").items():
        for phrase in lists["train"] + lists["held_out"]:
            found = SLOT.findall(phrase)
            assert set(found) in SLOTS[task] and len(found) == len(set(found)), f"{task}: {phrase}"
            assert not set("{}") & set(SLOT.sub("", phrase)), f"{task}: {phrase}"


def test_no_phrase_repeats_and_no_held_out_phrase_is_a_train_phrase() -> None:
    questions = read("questions")
    train = [plain(phrase) for lists in questions.values() for phrase in set(lists["train"])]
    held_out = [plain(phrase) for lists in questions.values() for phrase in lists["held_out"]]
    for task, lists in questions.items():
        assert not repeated(lists["train"]), task
    assert not repeated(held_out)
    assert not set(train) & set(held_out)


def test_no_phrase_belongs_to_two_tasks() -> None:
    owner: dict[str, str] = {}
    for task, lists in read("questions").items():
        for phrase in lists["train"] + lists["held_out"]:
            assert owner.setdefault(plain(phrase), task) == task, phrase


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_every_class_is_covered_and_named_once(vocabulary: str) -> None:
    entries = read("classes")[vocabulary]
    assert list(entries) == VOCABULARIES[vocabulary].split()
    assert not repeated([label for entry in entries.values() for label in labels_of(entry)])
    for key, entry in entries.items():
        assert 3 <= len(entry["captions"]) <= 6, key
        for text in entry["captions"]:
            assert set(entry["name"].split()) <= set(plain(text).split()), text
            assert text.endswith("."), text


def test_noun_forms_are_consistent() -> None:
    for entry in [*named_nouns(), *read("classes")["objects_absent"]]:
        if entry["mass"]:
            assert entry["a_thing"] == entry["thing"] == entry["things"], entry
        else:
            article, thing = entry["a_thing"].split(" ", 1)
            assert thing == entry["thing"] and article in ("a", "an"), entry
            assert (article == "an") == (thing[0] in "aeiou" and not thing.startswith("uni")), entry


@pytest.mark.parametrize("vocabulary", ["eurosat", "ucmerced"])
def test_attributes_are_never_both_present_and_absent(vocabulary: str) -> None:
    classes = read("classes")
    for name, entry in classes["attributes"].items():
        present, absent = entry[vocabulary]["yes"], entry[vocabulary]["no"]
        assert not repeated(present + absent), name
        assert set(present + absent) <= set(classes[vocabulary]), name
        same = {key for key, other in classes[vocabulary].items() if other["things"] == entry["things"]}
        assert not same & set(absent), name


def test_absent_objects_are_named_nowhere_else() -> None:
    absent = [entry["thing"] for entry in read("classes")["objects_absent"]]
    assert len(absent) >= 40 and not repeated(absent)
    assert not set(absent) & {entry["thing"] for entry in named_nouns()}


def test_region_words_name_one_region_each() -> None:
    regions = read("classes")["regions"]
    assert list(regions) == list(REGIONS)
    assert not repeated([word for name, words in regions.items() for word in (name, *words)])


def test_unanswerable_templates_have_a_list_for_every_slot() -> None:
    for template in read("unanswerable")["templates"]:
        assert set(SLOT.findall(template["text"])) == set(template) - {"text"} <= TEMPLATE_SLOTS, template["text"]
        for slot in set(template) - {"text"}:
            assert not repeated(template[slot]), template["text"]


def test_unanswerable_held_out_questions_are_new() -> None:
    bank = read("unanswerable")
    train, held_out = [plain(q) for q in bank["train"]], [plain(q) for q in bank["held_out"]]
    made = {plain(text) for template in bank["templates"] for text in combinations(template)}
    assert len(train) >= 450 and not repeated(train)
    assert len(held_out) >= 90 and not repeated(held_out)
    assert not set(held_out) & (set(train) | made)


def test_no_unanswerable_question_could_be_asked_with_an_answer() -> None:
    bank = read("unanswerable")
    made = [text for template in bank["templates"] for text in combinations(template)]
    assert [q for q in bank["train"] + bank["held_out"] + made if plain(q) in answerable()] == []
