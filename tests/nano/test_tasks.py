"""Generated questions say only what the labels support."""

import re

import numpy as np
import pytest

from lhrs.boxes import parse_boxes
from lhrs.nano.building_tasks import referring
from lhrs.nano.image_facts import ImageFacts
from lhrs.nano.phrasing import Draw, dress
from lhrs.nano.tasks import LETTERS, TASKS
from lhrs.nano.templates import ABSTAIN, load_banks

BANKS = load_banks()


def draws(n: int, split: str = "train"):
    return (Draw(np.random.default_rng(i), BANKS, split) for i in range(n))


def eurosat(scene: str) -> ImageFacts:
    return ImageFacts("eurosat", scene=scene)


def sites(*boxes: tuple[float, float, float, float]) -> ImageFacts:
    return ImageFacts("sites", buildings=np.array(boxes, float).reshape(-1, 4))


def quadrants(top_left: str, rest: str) -> ImageFacts:
    cover = np.zeros((2, 4, 4))
    cover[1] = 1
    cover[:, :2, :2] = np.array([1, 0])[:, None, None]
    return ImageFacts("eurosat", cover=cover, classes=[top_left, rest])


def test_the_same_seed_asks_the_same_question():
    a, b = (TASKS["scene_options"](eurosat("River"), next(iter(draws(1)))) for _ in range(2))
    assert a == b


@pytest.mark.parametrize("key", sorted(BANKS.classes["eurosat"]))
def test_options_hold_the_answer_exactly_once(key):
    for draw in draws(40):
        question, answer = TASKS["scene_options"](eurosat(key), draw)
        assert answer in question


@pytest.mark.parametrize("task", ["choice_two", "choice_four", "choice"])
@pytest.mark.parametrize("key", sorted(BANKS.classes["ucmerced"]))
def test_the_letter_points_at_the_class(key, task):
    names = {BANKS.name("ucmerced", key), *BANKS.classes["ucmerced"][key].get("scene_synonyms", [])}
    for draw in draws(30):
        question, letter = TASKS[task](ImageFacts("ucmerced", scene=key), draw)
        start = max(question.find(mark) for mark in (f"{letter}. ", f"({letter}) ", f"{letter}) ", f"{letter}: "))
        assert start >= 0 and letter in LETTERS
        assert any(name in question[start:] for name in names), question


def test_presence_is_balanced_and_true():
    answers = []
    for draw in draws(400):
        question, answer = TASKS["presence"](eurosat("Forest"), draw)
        answers.append(answer)
        if "forest" in question:
            assert answer == "yes", question
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_is_class_is_balanced():
    answers = [TASKS["is_class"](eurosat("Highway"), draw)[1] for draw in draws(400)]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_captions_name_the_class():
    for key in BANKS.classes["eurosat"]:
        for draw in draws(20):
            assert BANKS.name("eurosat", key) in TASKS["caption"](eurosat(key), draw)[1]


def test_regions_are_answered_from_their_own_cells():
    facts = quadrants("River", "Forest")
    for draw in draws(60):
        question, answer = TASKS["region"](facts, draw)
        corner = any(w in question for w in ["top left", *BANKS.regions["top left"]])
        assert answer == BANKS.name("eurosat", "River" if corner else "Forest"), question


def test_where_names_the_quadrant():
    for draw in draws(20):
        assert TASKS["where"](quadrants("River", "Forest"), draw)[1] == "top left"


def test_a_class_that_is_everywhere_has_no_quadrant():
    facts = ImageFacts("eurosat", cover=np.ones((1, 4, 4)), classes=["Forest"])
    assert TASKS["where"](facts, next(iter(draws(1)))) is None


def test_buildings_are_counted_and_boxed():
    facts = sites((0.1, 0.1, 0.2, 0.2), (0.6, 0.5, 0.9, 0.7))
    draw = next(iter(draws(1)))
    assert TASKS["count"](facts, draw)[1] == "2"
    boxes = parse_boxes(TASKS["ground"](facts, draw)[1], (1, 1), "loc64").boxes
    assert np.abs(boxes - facts.buildings).max() <= 0.5 / 63 + 1e-6


def test_nobody_is_asked_to_count_what_ten_metres_hide():
    assert TASKS["count"](eurosat("Residential"), next(iter(draws(1))))[1] == ABSTAIN


def test_an_expression_fits_one_building_only():
    facts = sites((0.05, 0.05, 0.1, 0.1), (0.5, 0.5, 0.9, 0.9), (0.8, 0.1, 0.9, 0.2))
    for draw in draws(60):
        expression, box = referring(facts, draw)
        if "largest" in expression or "biggest" in expression:
            assert box.tolist() == [0.5, 0.5, 0.9, 0.9]
    twins = sites((0.4, 0.4, 0.45, 0.45), (0.46, 0.4, 0.51, 0.45))
    assert all("est building" not in (referring(twins, d) or ("",))[0] for d in draws(60))


def test_unanswerable_questions_are_refused():
    assert {TASKS["abstain"](eurosat("River"), d)[1] for d in draws(50)} == {ABSTAIN}


def test_no_slot_is_left_in_a_question():
    known = [
        eurosat("River"),
        ImageFacts("ucmerced", scene="harbor"),
        quadrants("River", "Forest"),
        sites((0, 0, 1, 1)),
    ]
    for facts in known:
        for name, task in TASKS.items():
            for draw in draws(40):
                found = task(facts, draw)
                if found:
                    assert "{" not in dress(found[0], draw) + found[1], (name, found)


def test_held_out_phrasings_are_never_trained():
    for name, bank in BANKS.questions.items():
        assert not set(bank["train"]) & set(bank["held_out"]), name
    assert not set(BANKS.unanswerable["train"]) & set(BANKS.unanswerable["held_out"])


def test_the_letter_looked_up_stands_before_the_name():
    for draw in draws(60):
        question, letter = TASKS["lookup"](eurosat("River"), draw)
        assert any(mark in question for mark in (f"{letter}. ", f"({letter}) ", f"{letter}) ", f"{letter}: "))


@pytest.mark.parametrize("task", ["lookup_two", "lookup_three", "lookup"])
def test_a_lookup_names_the_option_of_its_letter(task):
    most = {"lookup_two": 2, "lookup_three": 3, "lookup": 6}[task]
    seen = set()
    for draw in draws(60):
        question, letter = TASKS[task](eurosat("River"), draw)
        seen.add(letter)
        listed = dict(re.findall(r"(?<!\w)\(?([a-f])[.:)] (.+?)(?=\n| \(?[a-f][.:)] |$)", question))
        asked = re.sub(r"(?<!\w)\(?([a-f])[.:)] (.+?)(?=\n| \(?[a-f][.:)] |$)", "", question)
        assert len(listed) <= most and listed[letter] in asked, question
    assert seen <= set(LETTERS[:most]) and len(seen) > 1


def test_noise_never_touches_the_words_an_answer_repeats():
    for draw in draws(300):
        question, right = TASKS["scene_options"](eurosat("HerbaceousVegetation"), draw)
        assert right in dress(question, draw, "scene_options")


def test_open_questions_meet_unknown_and_missing_words():
    original = "what is shown in this image?"
    asked = [dress(original, draw, "scene") for draw in draws(300)]
    words = [set(a.strip(" ?.").removesuffix(" thanks").split()) for a in asked]
    known = set(original.strip("?").split())
    assert 40 < sum(not known <= w for w in words) < 150  # a word was exchanged, left out or misspelt
    assert all(len(w & known) >= len(known) - 2 for w in words)
