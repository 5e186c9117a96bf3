"""Notations: numbers that survive being written and read in every order and unit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhrs.inference.box_notation import ORDERS, BoxNotation, find_numbers, round_size

IMAGE, RESIZED = (322, 210), (336, 224)
EDGE = st.integers(0, 1000)
SIDE = st.integers(4, 6000)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("scale", "key"), [(1, None), (1000, "bbox_2d"), (1024, None), ("image", None), ("resized", None)]
)
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), max_size=4))
def test_boxes_survive_being_written_and_read(order, scale, key, edges):
    boxes = [[min(a, c) / 1000, min(b, d) / 1000, max(a, c) / 1000, max(b, d) / 1000] for a, b, c, d in edges]
    notation = BoxNotation(order, scale, key=key)
    extent = notation.extent(IMAGE, RESIZED)
    found = notation.read(f"Here: {notation.write(boxes, extent)}.", extent)
    assert found.num_malformed == 0
    step = 1 / 1000 if scale == 1 else 1 / min(extent)
    np.testing.assert_allclose(found.boxes, np.reshape(boxes, (-1, 4)), atol=1.01 * step)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[12, 30, 45, 60]", [[12, 30, 45, 60]]),
        ("[[12,30,45,60],[1,2,3,4]]", [[12, 30, 45, 60], [1, 2, 3, 4]]),
        ("at (12, 30, 45, 60)", [[12, 30, 45, 60]]),
        ("<|box_start|>(12,30),(45,60)<|box_end|>", [[12, 30, 45, 60]]),
        ("<box>12 30 45 60</box>", [[12, 30, 45, 60]]),
        ("<bbox>[0.12,0.3,.45,0.6]</bbox>", [[0.12, 0.3, 0.45, 0.6]]),
        ("<loc_12><loc_30><loc_45><loc_60>", [[12, 30, 45, 60]]),
        ("<loc0012><loc0030><loc0045><loc0060> ship", [[12, 30, 45, 60]]),
        ('{"x1": 12, "y1": 30, "x2": 45, "y2": 60}', [[12, 30, 45, 60]]),
        ('{"label": "ship 7", "x_min": 12, "y_min": 30, "x_max": 45, "y_max": 60}', [[12, 30, 45, 60]]),
        ('```json\n[{"bbox_2d": [12, 30, 45, 60], "label": "ship 7"}]```', [[12, 30, 45, 60]]),
        ("[12, 30, 45", [[12, 30, 45]]),
        ("built in 1990, 1991, 1992 and 1993", []),
        ("[VG] a list [of 2 words, 3 ships] (see 1)", []),
        ("", []),
    ],
)
def test_the_numbers_of_boxes_are_found(text, expected):
    assert list(find_numbers(text)) == expected


def test_lists_without_the_key_are_no_boxes():
    assert list(find_numbers('[1, 2, 3, 4] {"box_2d": [5, 6, 7, 8]} {"box_2d": [5, 6', "box_2d")) == [[5, 6, 7, 8], []]


@settings(max_examples=20, deadline=None)
@given(SIDE, SIDE, st.sampled_from([28, 32]))
def test_sizes_are_rounded_as_by_the_processors_of_qwen(width, height, multiple):
    pytest.importorskip("torch")
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

    if max(width, height) / min(width, height) > 200:
        return
    expected = smart_resize(height, width, multiple, 4 * multiple**2, 16384 * multiple**2)
    assert round_size((width, height), multiple) == (expected[1], expected[0])
