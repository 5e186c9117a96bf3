"""Boxes inside texts, in every published notation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhrs.boxes import polygon_iou_pairs
from lhrs.data.box_notations import NOTATIONS, has_boxes, read_boxes, write_boxes
from lhrs.data.dataset import outline_of
from lhrs.data.oriented_boxes import outline_box, turn_box
from lhrs.schema import Box

SIZE = (800, 500)
ANGLED = ("geochat", "fit-rs")


@st.composite
def rectangles(draw: st.DrawFn) -> np.ndarray:
    """Corners of a rectangle in the image, large enough that rounding to percent changes little."""
    width, height = draw(st.floats(150, 250)), draw(st.floats(80, 140))
    x, y, angle = draw(st.floats(250, 550)), draw(st.floats(200, 300)), draw(st.floats(0, 180))
    return turn_box(np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2]), angle)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(NOTATIONS)), st.lists(rectangles(), min_size=1, max_size=3))
def test_boxes_come_back_from_every_notation(notation, rectangles):
    boxes = [outline_box("ship", corners) for corners in rectangles]
    if notation not in ANGLED:
        boxes = [Box(label="ship", xyxy=box.xyxy) for box in boxes]
    text = "Two <p>ship</p> " + " and <box>" * len(boxes) + "."
    written = write_boxes(text, boxes, SIZE, notation)
    assert has_boxes(written) and "<box>" not in written.replace("<box>[[", "")
    again, read = read_boxes(written, SIZE)
    assert again == text and [box.label for box in read] == ["ship"] * len(boxes)
    overlap = polygon_iou_pairs(np.array(list(map(outline_of, boxes))), np.array(list(map(outline_of, read))))
    assert overlap.min() > 0.85  # percent of 800 x 500 pixels are coarse
    assert write_boxes(again, read, SIZE, notation) == written or notation == "geochat"  # whose percents are whole


@settings(deadline=None, max_examples=60)
@given(rectangles())
def test_an_angle_is_kept(corners):
    (box,) = read_boxes(write_boxes("<box>", [outline_box("x", corners)], SIZE, "fit-rs"), SIZE)[1]
    (x1, y1), (x2, y2) = corners[0], corners[1]
    expected = math.degrees(math.atan2(y2 - y1, x2 - x1)) % 90
    (x1, y1), (x2, y2) = outline_of(box)[:2]
    found = math.degrees(math.atan2(y2 - y1, x2 - x1)) % 90
    assert min(abs(found - expected), 90 - abs(found - expected)) < 1


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("[0.1, 0.2, 0.5, 0.6]", "<box>", [[80, 100, 400, 300]]),
        ("at <bbox>[0.100,0.200,0.500,0.600]</bbox>", "at <box>", [[80, 100, 400, 300]]),
        ("[.5, 0, 1., 1]", "<box>", [[400, 0, 800, 500]]),
        ("[0.25 0.3, 0.5 0.75]", "<box>", [[200, 150, 400, 375]]),
        ("{<10><20><30><40>}{<0><0><100><100>}", "<box><box>", [[80, 100, 240, 200], [0, 0, 800, 500]]),
        ("<box>[[100, 200, 500, 600], [0, 0, 1, 1]]</box>", "<box><box>", [[80, 100, 400, 300], [0, 0, 0.8, 0.5]]),
        ("<|box_start|>(100,200),(500,600)<|box_end|>", "<box>", [[80, 100, 400, 300]]),
        (
            "<|object_ref_start|>a ship<|object_ref_end|><|box_start|>(100,200),(500,600)<|box_end|>",
            "a ship<box>",
            [[80, 100, 400, 300]],
        ),
        ("{<60><20><40><40>}", "<box>", [[480, 100, 320, 200]]),  # reversed, as annotated
    ],
)
def test_notations_as_published(text, words, expected):
    again, boxes = read_boxes(text, SIZE)
    assert again == words
    np.testing.assert_allclose([box.xyxy for box in boxes], expected)
    assert all(box.corners is None for box in boxes)


@pytest.mark.parametrize(
    "text", ["[refer] it", "[1, 0, 1, 0]", "[1.5, 2.0, 3.0, 4.0]", "{VQA} 3", "[0.1, 0.2]", "<box>", "a [b c, d e]"]
)
def test_other_brackets_are_words(text):
    assert not has_boxes(text) and read_boxes(text, SIZE) == (text, [])


def test_geochats_angle_turns_clockwise_about_the_center():
    (box,) = read_boxes("{<40><40><60><60>|<90>}", SIZE)[1]  # 160 x 100 pixels, turned upright
    assert box.corners is None and box.xyxy == pytest.approx((350, 170, 450, 330))
    (box,) = read_boxes("{<40><40><60><60>|<30>}", SIZE)[1]
    (x1, y1), (x2, y2), *_ = box.corners
    assert (x2 - x1, y2 - y1) == pytest.approx((160 * math.cos(math.pi / 6), 80))


def test_a_label_is_the_last_phrase_before_the_box():
    text = "<p>a ship</p> {<1><1><2><2>} and <ref>a pier</ref>{<1><1><2><2>}"
    assert [box.label for box in read_boxes(text, SIZE)[1]] == ["a ship", "a pier"]
    assert [box.label for box in read_boxes("{<1><1><2><2>}", SIZE, "plane")[1]] == ["plane"]
    assert [box.label for box in read_boxes("{<1><1><2><2>}", SIZE)[1]] == ["object"]
