import numpy as np
import pytest

from lhrs.imagery.draw_boxes import draw_boxes


def changed(image: object, pixels: np.ndarray) -> np.ndarray:
    return (np.asarray(image) != pixels).any(-1)


def test_lines_run_along_the_box_and_leave_the_rest_alone() -> None:
    pixels = np.full((600, 800, 3), 90, np.uint8)
    touched = changed(draw_boxes(pixels, np.array([[100, 150, 400, 500]])), pixels)
    assert touched[150, 100:400].all() and touched[150:500, 100].all()
    assert touched[499, 100:400].all() and touched[150:500, 399].all()
    assert not touched[160:490, 110:390].any()
    assert not touched[:140].any() and not touched[:, 410:].any()


@pytest.mark.parametrize("side", [16, 64, 512, 4000])
def test_labels_stay_on_the_image_and_legible_at_any_size(side: int) -> None:
    pixels = np.full((side, side, 3), 90, np.uint8)
    corners = side * np.array([[0, 0, 0.2, 0.2], [0.97, 0.8, 1, 1], [0, 0.9, 0.1, 1]])
    plain = np.asarray(draw_boxes(pixels, corners))
    labeled = np.asarray(draw_boxes(pixels, corners, ["building", "road", "building"]))
    height = labeled.shape[0]
    assert height >= 512 and height % side == 0
    for box in corners * height / side:
        x1, y1, x2, y2 = box.round().astype(int)
        area = (slice(max(0, y1 - height // 8), y2), slice(max(0, x1 - height // 4), min(height, x2 + height // 4)))
        black = (labeled[area] == 0).all(-1) & ~(plain[area] == 0).all(-1)
        assert black.any(0).sum() >= 20, "a label is at least some twenty pixels wide"


def test_equal_labels_share_a_color_and_different_ones_do_not() -> None:
    pixels = np.zeros((600, 600, 3), np.uint8)
    boxes = np.array([[50, 100, 150, 200], [250, 100, 350, 200], [450, 100, 550, 200]])
    image = np.asarray(draw_boxes(pixels, boxes, ["a", "b", "a"]))
    first, second, third = (image[200, x] for x in (100, 300, 500))
    assert (first == third).all() and (first != second).any()


def test_no_boxes_give_the_image_itself() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 700, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(draw_boxes(pixels, np.empty((0, 4)), [])), pixels)
