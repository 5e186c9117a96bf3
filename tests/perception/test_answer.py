"""Answers agree with each other, refuse what is not known, and follow what was asked before."""

import numpy as np
import pytest

from lhrs.perception.answer import answer_query, resolve
from lhrs.perception.evidence import Detection, Evidence
from lhrs.perception.query import parse_query
from lhrs.perception.vocabulary import COVER, OBJECTS, SCENES, TAGS

PRESENT = {"water", "trees", "building", "vehicle", "road"}


def town(trees=0.25, buildings=4):
    """Return a town: water in the left quarter, then trees and houses, and the given number of buildings."""
    grid = np.zeros((len(COVER), 8, 8), np.float32)
    grid[COVER.index("building")] = 1
    for name, columns in (("water", slice(0, 2)), ("trees", slice(2, 2 + round(8 * trees)))):
        grid[:, :, columns] = 0
        grid[COVER.index(name), :, columns] = 1
    found = [Detection("building", (0.6, 0.1 * n, 0.7, 0.1 * n + 0.08), 0.9) for n in range(buildings)]
    scenes = {name: 0.0 for name in SCENES} | {"eurosat/Residential": 0.8, "eurosat/River": 0.2}
    tags = {name: 0.95 if name in PRESENT else 0.05 for name in TAGS}
    return Evidence(scenes, tags, COVER, grid, tuple(found))


def ask(text, *images, before=()):
    history = []
    for earlier in before:
        history.append(resolve(parse_query(earlier), history))
    return answer_query(resolve(parse_query(text), history), images or (town(),), history)


def test_count_boxes_and_presence_agree():
    count, found = ask("count: houses"), ask("locate: houses")
    assert count.text == str(len(count.boxes)) == "4"
    assert {d.box for d in found.boxes} == {d.box for d in count.boxes}
    assert ask("presence: houses").text == "yes"
    assert "4 buildings" in ask("caption:").text


def test_what_is_not_there_is_no_and_zero():
    empty = town(buildings=0)
    bare = Evidence(empty.scenes, {name: 0.02 for name in TAGS}, COVER, empty.cover_map * 0 + 1 / 7, ())
    assert ask("count: cars", bare).text == "0"
    assert ask("presence: river", bare).text == "no"
    assert not ask("locate: cars", bare).boxes


@pytest.mark.parametrize("text", ["presence: unicorns", "count: solar panels", "share: fish", "unknown: weather"])
def test_what_is_not_known_is_refused(text):
    reply = ask(text)
    assert "can't" in reply.text
    assert reply.confidence is None
    assert not reply.boxes


def test_shares_and_regions():
    assert ask("share: water").text == "25 %"
    assert ask("share: water @ left").text == "50 %"
    assert ask("presence: water @ right").text == "no"
    assert "water" in ask("at: @ left").text.lower()


def test_or_questions_answer_with_the_words_of_the_question():
    assert ask("choose: urban | rural").text == "urban"
    assert ask("more: water | buildings").text == "buildings"
    assert ask("choose: flibber | gronk").confidence is None


def test_two_questions_get_two_answers():
    reply = ask("count: buildings ; presence: river bank ; share: trees")
    assert reply.text.startswith("4. ")
    assert reply.text.endswith("25 %.")


def test_followed_by_another_thing_or_nothing():
    assert ask("follow: trees", before=["share: water"]).text == "25 %"
    assert ask("follow: trees", before=["presence: water"]).text == "yes"
    assert ask("follow: trees").text == "yes"
    assert ask("count:", before=["presence: buildings"]).text == "4"
    assert ask("follow: @ left", before=["count: buildings"]).text == "0"


def test_asked_whether_it_is_sure():
    assert ask("confirm:", before=["presence: water"]).text.startswith("Yes: yes, 95 %")
    assert "25 %" in ask("why:", before=["presence: water"]).text


def test_two_dates_are_compared():
    reply = ask("compare:", town(), town(trees=0.5, buildings=9))
    assert "Trees from 25 % to 50 % of the area" in reply.text
    assert "9 buildings instead of 4" in reply.text
    assert ask("compare:", town(), town()).text == "I see no clear change."
    assert "two images" in ask("compare:").text
    assert ask("compare: buildings", town(), town(buildings=9)).text == "4 in the first image, 9 in the second."


def test_without_an_image_only_help_is_given():
    assert "image" in answer_query(parse_query("count: cars"), ()).text
    assert "count" in answer_query(parse_query("help:"), ()).text


def test_every_object_can_be_counted():
    assert all(ask(f"count: {name}").text.isdigit() or "too small" in ask(f"count: {name}").text for name in OBJECTS)
