"""The table of what maps call things."""

import pytest

from lhrs.align.claim_check import verify_claims
from lhrs.align.tags import TagTable, tag_table


@pytest.mark.parametrize(
    ("tags", "shape", "kind"),
    [
        ({"building": "yes"}, "area", "building"),
        ({"building": "yes"}, "line", None),
        ({"building": "church", "name": "St. Florin"}, "area", "church"),
        ({"building": "yes", "amenity": "school"}, "area", "school building"),
        ({"amenity": "school"}, "area", "school campus"),
        ({"building": "no", "amenity": "parking"}, "area", "parking lot"),
        ({"amenity": "parking", "parking": "underground"}, "area", None),
        ({"leisure": "pitch", "sport": "tennis"}, "area", "tennis court"),
        ({"sport": "tennis"}, "area", None),
        ({"natural": "water", "water": "river"}, "area", "river"),
        ({"natural": "water", "water": "pond"}, "area", "body of water"),
        ({"natural": "water"}, "area", "body of water"),
        ({"highway": "residential"}, "line", "local road"),
        ({"highway": "residential", "tunnel": "yes"}, "line", None),
        ({"waterway": "stream", "layer": "-1"}, "line", "stream"),
        ({"leisure": "track", "sport": "skiing"}, "line", None),
        ({"leisure": "stadium", "sport": "football"}, "area", "stadium"),
        ({"leisure": "sports_centre", "sport": "tennis"}, "area", "sports ground"),
        ({"building": "yes", "abandoned": "yes"}, "area", "building"),
        ({"natural": "water", "water": "canal"}, "area", "canal"),
        ({"amenity": "restaurant", "opening_hours": "24/7"}, "point", None),
        ({"boundary": "administrative", "admin_level": "8"}, "area", None),
        ({"natural": "tree"}, "point", "tree"),
        ({}, "area", None),
    ],
)
def test_what_an_object_is_called(tags, shape, kind):
    assert tag_table().match(tags, shape) == kind


def test_every_kind_has_words_and_parents_are_kinds():
    table = tag_table()
    for kind in table.kinds.values():
        assert kind.name and kind.group and kind.name == kind.name.lower()
        assert kind.parent is None or kind.parent in table.kinds
        assert kind.plural != kind.name


def test_rows_come_in_the_order_of_the_file():
    head = "key,value,with,kind,plural,shape,width_m,group,parent,setting,others\n"
    one, two = "a,x,,apple,,area,,green,,,\n", "a,*,,fruit,,area,,green,,,\n"
    assert TagTable(head + one + two).match({"a": "x"}, "area") == "apple"
    assert TagTable(head + two + one).match({"a": "x"}, "area") == "fruit"


def test_no_word_is_both_mapped_and_unmapped():
    for kind in tag_table().kinds.values():
        for word in (kind.name, *kind.others):
            assert verify_claims(f"There is a {word}.", [])[0].verdict == "unsupported", word
