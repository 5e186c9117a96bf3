import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhrs import boxes as B
from lhrs.boxes import common_area, format_boxes, intersection, iou, iou_pairs, parse_boxes, polygon_iou

SIZE = (800, 400)
STEP = {"norm1": 0.001, "nova": 0.001, "percent": 0.01, "norm1000": 0.001, "qwen": 0.001}
EXAMPLE = np.array([[96, 120, 360, 240]])
WRITTEN = {
    "norm1": "[0.120, 0.300, 0.450, 0.600]",
    "nova": "<bbox>[0.120,0.300,0.450,0.600]</bbox>",
    "percent": "[12, 30, 45, 60]",
    "norm1000": "[120, 300, 450, 600]",
    "qwen": "(120,300),(450,600)",
}
sizes = st.tuples(st.integers(1, 10_000), st.integers(1, 10_000))


@st.composite
def image_and_boxes(draw: st.DrawFn) -> tuple[tuple[int, int], np.ndarray]:
    size = draw(sizes)
    unit = st.floats(0, 1, width=32)
    corners = np.array(draw(st.lists(st.tuples(unit, unit, unit, unit), max_size=6)), float).reshape(-1, 2, 2)
    return size, np.concatenate([corners.min(1), corners.max(1)], 1) * np.tile(size, 2)


@pytest.mark.parametrize("style", B.STYLES)
@given(case=image_and_boxes())
def test_written_boxes_are_read_back_within_half_a_step(style: str, case: tuple[tuple[int, int], np.ndarray]) -> None:
    size, boxes = case
    parsed = parse_boxes(f"Two are here: {format_boxes(boxes, size, style)}.", size, style)
    assert parsed.num_malformed == 0
    assert parsed.boxes.shape == boxes.shape and parsed.boxes.dtype == np.float32
    assert (np.abs(parsed.boxes - boxes) <= STEP[style] * np.tile(size, 2) * 0.5001 + 1e-3).all()


@pytest.mark.parametrize("style", B.STYLES)
@given(case=image_and_boxes())
def test_what_was_read_is_written_the_same_again(style: str, case: tuple[tuple[int, int], np.ndarray]) -> None:
    size, boxes = case
    text = format_boxes(boxes, size, style)
    assert format_boxes(parse_boxes(text, size, style).boxes, size, style) == text


@pytest.mark.parametrize("style", B.STYLES)
def test_each_style_looks_as_its_models_expect(style: str) -> None:
    assert format_boxes(EXAMPLE, SIZE, style) == WRITTEN[style]


def test_boxes_over_the_edge_are_cut_to_the_image_when_written() -> None:
    assert format_boxes(np.array([[-50, -1, 900, 200]]), SIZE, "percent") == "[0, 0, 100, 50]"


@pytest.mark.parametrize(
    ("style", "text", "num_boxes", "num_malformed"),
    [
        ("norm1", "no box at all", 0, 0),
        ("norm1", "", 0, 0),
        ("norm1", "[VG] the pond [0.1, 0.2, 0.3, 0.4] and [.5,.5,.6,1]", 2, 0),
        ("norm1", "[0.1, 0.2, 0.3]", 0, 1),
        ("norm1", "[0.1, 0.2, 0.3, 0.4, 0.5]", 0, 1),
        ("norm1", "[0.5, 0.2, 0.3, 0.4] [0.1, 0.2, 0.3, 0.1]", 0, 2),
        ("norm1", "[0.1, 0.2, 0.3, 0.4] [0.5, 0.", 1, 1),
        ("norm1", "[0.1, 0.2, [0.1, 0.2, 0.3, 0.4]", 1, 1),
        ("norm1", "[12, 30, 45, 60]", 0, 1),
        ("norm1", "[-0.02, 0.2, 1.03, 0.4]", 1, 0),
        ("norm1", "[0.1 0.2 0.3 0.4]", 0, 1),
        ("nova", "<bbox>[0.1,0.2,0.3,0.4]</bbox> near [0.5,0.5,0.6,0.6]", 1, 0),
        ("nova", "<bbox>[0.1,0.2,0.3,0.4],[0.5,0.5,0.6,0.6]</bbox>", 2, 0),
        ("nova", "<bbox>the pond</bbox><bbox>[0.1,0.2,0.3,0.4]</bbox><bbox>[0.1,0", 1, 2),
        ("percent", "[12, 30, 45, 60]", 1, 0),
        ("percent", "[120, 300, 450, 600]", 0, 1),
        ("norm1000", '[{"bbox_2d": [120, 300, 450, 600], "label": "ship"}]', 1, 0),
        ("norm1000", "[[120, 300, 450, 600], [1, 2, 3, 4]]", 2, 0),
        ("qwen", "<|box_start|>(120,300),(450,600)<|box_end|>", 1, 0),
        ("qwen", "a ship (left) at (120, 300), (450, 600) (1,2),(3,4)", 2, 0),
        ("qwen", "(120,300),(450,600),(7,8),(9,10)", 2, 0),
        ("qwen", "(120,300) and (450,600)", 0, 2),
        ("qwen", "(120,300),(450", 0, 1),
    ],
)
def test_malformed_boxes_are_dropped_and_counted(style: str, text: str, num_boxes: int, num_malformed: int) -> None:
    parsed = parse_boxes(text, SIZE, style)
    assert (len(parsed.boxes), parsed.num_malformed) == (num_boxes, num_malformed)
    assert (parsed.boxes >= 0).all() and (parsed.boxes <= np.tile(SIZE, 2)).all()


@pytest.mark.parametrize("style", B.STYLES)
@given(text=st.text(alphabet="[]()<>,. -0123456789ebox/", max_size=60))
def test_no_text_makes_the_parser_fail(style: str, text: str) -> None:
    found, _ = parse_boxes(text, SIZE, style)
    assert (found[:, 2:] >= found[:, :2]).all() and np.isfinite(found).all()


def test_impossible_boxes_and_styles_are_refused() -> None:
    with pytest.raises(ValueError, match="not xyxy"):
        format_boxes(np.array([[10, 10, 5, 20]]), SIZE, "norm1")
    with pytest.raises(ValueError, match="not xyxy"):
        format_boxes(np.array([[np.nan, 10, 50, 20]]), SIZE, "norm1")
    with pytest.raises(ValueError, match="unknown box style 'yolo'; known: norm1"):
        parse_boxes("", SIZE, "yolo")


def test_conversions_mean_what_they_say_and_undo_each_other() -> None:
    boxes = np.array([[10, 20, 40, 80], [0, 0, 1, 1]], float)
    assert B.xyxy_to_xywh(boxes)[0].tolist() == [10, 20, 30, 60]
    np.testing.assert_array_equal(B.xywh_to_xyxy(B.xyxy_to_xywh(boxes)), boxes)
    assert B.scale_boxes(boxes, (100, 200), (50, 400))[0].tolist() == [5, 40, 20, 160]
    assert B.clip_boxes(boxes, (30, 30)).tolist() == [[10, 20, 30, 30], [0, 0, 1, 1]]


def test_iou_adds_no_pixel_to_the_sides() -> None:
    a = np.array([[0.1, 0.1, 0.2, 0.2], [0, 0, 2, 2]])
    b = np.array([[0.3, 0.3, 0.4, 0.4], [1, 0, 3, 2], [0, 0, 2, 2], [5, 5, 5, 5]])
    np.testing.assert_allclose(iou(a, b), [[0, 0, 0.0025, 0], [0.0025, 1 / 3, 1, 0]])
    assert iou(np.empty((0, 4)), b).shape == (0, 4)
    assert iou(b[3:], b[3:]).tolist() == [[0]]


@given(data=st.data())
def test_all_overlaps_are_one(data: st.DataObject) -> None:
    """Of all pairs, of pairs, of two boxes and of polygons; boxes without area or order overlap with nothing."""
    coordinate = st.integers(-20, 20).map(float)
    box = st.tuples(coordinate, coordinate, coordinate, coordinate)
    a, b = (np.array(data.draw(st.lists(box, min_size=4, max_size=4))) for _ in range(2))
    area = [[common_area(one, two) for two in b] for one in a]
    np.testing.assert_array_equal(intersection(a, b), area)
    np.testing.assert_array_equal(np.diag(iou(a, b)), iou_pairs(a, b))
    valid = (a[:, 2:] > a[:, :2]).all(1)[:, None] & (b[:, 2:] > b[:, :2]).all(1)[None]
    corners = [boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) for boxes in (a, b)]
    np.testing.assert_allclose(np.where(valid, iou(a, b), 0), np.where(valid, polygon_iou(*corners), 0), atol=1e-12)
    assert (iou(a, b)[~valid] <= 0).all()
    assert (iou(np.full((1, 4), np.nan), b) == 0).all()
