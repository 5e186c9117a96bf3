"""Parsing never looks for the truth: what an answer says is decided without it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhrs.metrics.answer_parsing import (
    is_denial,
    label_key,
    letters_in,
    normalize,
    parse_choice,
    parse_choices,
    parse_label,
    parse_number,
    parse_yes_no,
)

OPTIONS = ["a river", "an airport", "parking lot", "forest"]


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1), ("b", 1), ("(B)", 1), ("B.", 1), ("B)", 1), ("[B]", 1), ("**B**", 1), (" B\n", 1), ("`B`", 1),
        ("Answer: B", 1), ("The answer is B.", 1), ("the correct answer is (b).", 1), ("Option C", 2), ("Choice: D", 3),
        ("B. an airport", 1), ("B) An Airport.", 1), ("b: airport", 1), ("airport", 1), ("An airport.", 1),
        ("parking_lot", 2), ("A", 0), ("A.", 0), ("a river", 0), ("A river", 0), ("A. a river", 0),
        ("", None), (" ", None), ("E", None), ("AB", None), ("A, B", None), ("A B C D", None), ("A or B", None),
        ("B. a river", None), ("Based on the image", None), ("A large river", None), ("A lake", None),
        ("It is not B", None), ("B because it has runways", None), ("river airport", None), ("I can't tell", None),
        ("The answer", None), ("ABCD", None), ("e", None), (".", None),
        ("\uff22", 1), ("\u0412", None),  # wide; Cyrillic
    ],
)  # fmt: skip
def test_choices(text, index):
    assert parse_choice(text, OPTIONS) == index


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("12.", 12), ("twelve", 12), ("There are 12 buildings.", 12), ("1,234", 1234), ("3.5", 3.5),
        ("-2", -2), ("12 or 13", None), ("10-12", None), ("none", None), ("", None), ("many", None),
        ("two or three", None), ("12 12", 12), ("123m2", None), ("1.2.3", None), ("two", 2), ("zero", 0),
        ("\uff11\uff12", 12), ("thirty-five", 35), ("Forty two ships.", 42), ("ninety", 90), ("sixteen", 16),
        ("twenty, five", None), ("two hundred", None), ("three dozen", None), ("a thousand", None),
    ],
)  # fmt: skip
def test_numbers(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yes", "yes"), ("Yes.", "yes"), ("YES!", "yes"), ("no", "no"), ("No, there is none.", "no"),
        ("Yes, there is a river.", "yes"), ("yes and no", None), ("No. Yes.", None), ("", None), ("maybe", None),
        ("not yes", None), ("y", None), ("there is none", None), ("nope", None), ("I think yes", None),
    ],
)  # fmt: skip
def test_yes_and_no(text, said):
    assert parse_yes_no(text) == said


def test_labels():
    labels = ["AnnualCrop", "Sea_Lake", "storage-tanks"]
    assert parse_label("annual crop", labels) == "AnnualCrop" and parse_label(" Sea/Lake", labels) is None
    assert parse_label("a sea lake.", labels) == "Sea_Lake" and parse_label("Storage tanks", labels) == "storage-tanks"
    for text in ("", "annual", "crop", "AnnualCrop, Sea_Lake", "storage tank", "an image of annual crop"):
        assert parse_label(text, labels) is None


def test_several_letters():
    assert letters_in("A, C", 4) == letters_in("(A) and (C)", 4) == letters_in("CA", 4) == [0, 2]
    assert letters_in("bad", 4) is letters_in("a cab", 4) is None  # words
    assert letters_in("A and E", 4) is letters_in("", 4) is letters_in("AA", 4) is letters_in("Alpha", 4) is None


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("A, C", (0, 2)), ("C A", (0, 2)), ("The answers are A and C.", (0, 2)), ("Answer: AC", (0, 2)), ("(B)", (1,)),
        ("water", (2,)), ("B. river", (1,)), ("A river C", None), ("A. river", None), ("", None), ("all of them", None),
        ("A, B, C, D, E", None), ("bad", None),
    ],
)  # fmt: skip
def test_choices_of_several(text, chosen):
    assert parse_choices(text, ["forest", "river", "water", "city"]) == chosen


DENIALS = [
    "There is no ship.", "There are no planes in the image", "No, there is no ship.", "The ship is not in the image.",
    "no such object", "No ship is visible.", "I can't tell.", "I cannot see any plane in this picture", "None",
    "The colour of the car cannot be determined",
    "This image does not contain a bridge", "Such a bridge does not exist",
    "I'm sorry, but I can't see a ship in the image.", "Sorry. There is no ship.",
    "The image is black and white, so the color can't be determined",
]  # fmt: skip
ASSERTIONS = [
    "", "yes", "white", "Yes, there is no ship", "There is no ship, but a white plane", "There is a ship",
    "It is not white", "The ship is not in the harbor", "noble", "Norway", "There is no red ship, it is white",
    "No. It is white.", "The planes are probably not visible", "A", "not bad", "I can see no reason why not",
]  # fmt: skip


def test_a_denial_says_nothing_else():
    assert [text for text in DENIALS if not is_denial(text)] == []
    assert [text for text in ASSERTIONS if is_denial(text)] == []


@given(st.text(max_size=40))
def test_any_text_is_survived_and_normalising_is_done_once(text):
    for parse in (
        parse_number,
        parse_yes_no,
        lambda t: parse_choice(t, OPTIONS),
        lambda t: letters_in(t, 4),
        is_denial,
    ):
        parse(text)
    assert normalize(normalize(text)) == normalize(text)


@given(st.sampled_from(OPTIONS), st.sampled_from(["{}", "{}.", " {} ", '"{}"', "*{}*"]), st.booleans())
def test_an_option_is_itself_however_it_is_dressed(option, dress, upper):
    text = dress.format(option.upper() if upper else option)
    assert parse_choice(text, OPTIONS) == OPTIONS.index(option)
    assert label_key(text) == label_key(option)
