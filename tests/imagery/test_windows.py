"""One maker of windows: each place that cuts gets what its own maker gave before, and cores partition the image."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhrs.imagery.windows import make_windows, num_windows, window_starts

LENGTHS = st.integers(1, 5000)
SIZES = st.integers(1, 1500)


@st.composite
def sizes_with_overlap(draw):
    size = draw(SIZES)
    return size, draw(st.integers(0, size - 1))


def cut_scene(length, side, overlap):
    """As scenes were cut: begin and end of windows and of cores."""
    if side >= length:
        return [(0, length, 0, length)]
    begins = [*range(0, length - side, side - overlap), length - side]
    seams = [0, *(b + overlap // 2 for b in begins[1:-1]), begins[-2] + side - (overlap - overlap // 2), length]
    return [(b, b + side, seams[n], seams[n + 1]) for n, b in enumerate(begins)]


def cut_tiles(length, tile, gap):
    """As detection tiled."""
    count = max(1, math.ceil((length - gap) / (tile - gap)))
    return [max(0, min(n * (tile - gap), length - tile)) for n in range(count)]


def slide(length, size, overlap):
    """As segmentation slid; overlap is a fraction."""
    if length <= size:
        return [0]
    step = max(1.0, size * (1 - overlap))
    count = int(np.ceil((length - size) / step)) + 1
    return np.linspace(0, length - size, count).round().astype(int).tolist()


@settings(deadline=None)
@given(length=LENGTHS, windows=sizes_with_overlap())
def test_scenes_tiles_and_patches_are_cut_as_before(length, windows):
    size, overlap = windows
    made = make_windows(length, 1, size, overlap)
    spans = [(w.window[0], w.window[0] + w.window[2], w.core[0], w.core[0] + w.core[2]) for w in made]
    assert spans == cut_scene(length, size, overlap)
    assert [span[0] for span in spans] == cut_tiles(length, size, overlap)
    patches = sorted({min(t, max(length - size, 0)) for t in range(0, length, size)})
    assert window_starts(length, size) == patches
    assert math.ceil(max(1, length - overlap) / (size - overlap)) == num_windows(length, 1, size, overlap)


@settings(deadline=None)
@given(length=LENGTHS, size=SIZES, eighths=st.integers(0, 7))
def test_sliding_windows_are_as_before(length, size, eighths):
    overlap = eighths / 8  # of which no product is rounded
    assert window_starts(length, size, size * overlap, "even") == slide(length, size, overlap)


@settings(deadline=None)
@given(length=LENGTHS, size=SIZES)
def test_unlabeled_images_are_partitioned_as_before(length, size):
    parts = max(length // size, 1)
    edges = [length * n // parts for n in range(parts + 1)]
    made = make_windows(1, length, size, layout="partition")
    assert [(w.window[1], w.window[1] + w.window[3]) for w in made] == list(pairwise(edges))
    assert all(w.window == w.core for w in made)


@settings(deadline=None)
@given(length=LENGTHS, size=st.floats(1, 1500))
def test_windows_of_fractional_size_are_as_footprints_had_them(length, size):
    if length < size:
        assert window_starts(length, size) == [0]
        return
    count = math.ceil(length / size - 1e-6)
    assert window_starts(length, size) == [min(n * size, length - size) for n in range(count)]


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 60), height=st.integers(1, 60), size=st.integers(1, 25), data=st.data(),
    layout=st.sampled_from(("flush_end", "even", "partition")),
)  # fmt: skip
def test_cores_partition_the_image_and_lie_in_their_windows(width, height, size, data, layout):
    overlap = 0 if layout == "partition" else data.draw(st.integers(0, size - 1))
    seen = np.zeros((height, width), int)
    windows = make_windows(width, height, size, overlap, layout)
    for n, one in enumerate(windows):
        left, top, wide, high = one.window
        x, y, w, h = one.core
        assert one.number == n and left <= x and top <= y and x + w <= left + wide and y + h <= top + high
        assert one.has_neighbor == (left > 0, top > 0, left + wide < width, top + high < height)
        seen[y : y + h, x : x + w] += 1
        if layout != "partition":
            assert (wide, high) == (min(size, width), min(size, height))
    assert (seen == 1).all() and len(windows) == num_windows(width, height, size, overlap, layout)
    for axis in (0, 1):
        starts = sorted({w.window[axis] for w in windows})
        if layout != "partition":
            assert all(b - a <= max(1, size - overlap) for a, b in pairwise(starts))


def test_windows_must_advance():
    with pytest.raises(ValueError, match="windows of 8 pixels cannot overlap by 8"):
        make_windows(20, 20, 8, 8)
