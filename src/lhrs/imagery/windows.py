"""Windows over an image: the pixels that a model reads, and the core of each window. All units are pixels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

Rect = tuple[int, int, int, int]
"""Left, top, width, height in pixels of the image."""
Layout = Literal["flush_end", "even", "partition"]
"""Layout of windows along a side that is longer than a window:

`flush_end`: a fixed step; the last window ends with the image and has a larger overlap.
`even`: the same number of windows at equal distances, to within rounding.
`partition`: windows of at least `size` that cover the image without overlap.
"""
_TOLERANCE = 1e-6
"""Fraction of a step by which rounding of fractional steps may miss the end of an image."""


@dataclass(frozen=True)
class SceneWindow:
    """One window of an image."""

    number: int
    """Row by row from the top left."""
    window: Rect
    """The pixels that are read."""
    core: Rect
    """The pixels that are assigned to this window: the cores of all windows partition the image."""
    has_neighbor: tuple[bool, bool, bool, bool]
    """Whether the image continues beyond the window's left, top, right, bottom edge: objects there may be truncated."""


def make_windows(
    width: int, height: int, size: int, overlap: float = 0, layout: Layout = "flush_end"
) -> list[SceneWindow]:
    """Return the windows over an image, row by row from the top left.

    An image that is smaller than a window is one window of its own size. Cores meet in the middle of the overlaps.

    Args:
        width: of the image.
        height: of the image.
        size: side of a window.
        overlap: of neighboring windows, less than `size`; none with `partition`.
        layout: see `Layout`.
    """
    columns, rows = (_spans(length, size, overlap, layout) for length in (width, height))
    windows: list[SceneWindow] = []
    for y0, y1, top, bottom in rows:
        for x0, x1, left, right in columns:
            has_neighbor = (x0 > 0, y0 > 0, x1 < width, y1 < height)
            window, core = (x0, y0, x1 - x0, y1 - y0), (left, top, right - left, bottom - top)
            windows.append(SceneWindow(len(windows), window, core, has_neighbor))
    return windows


def num_windows(width: int, height: int, size: int, overlap: float = 0, layout: Layout = "flush_end") -> int:
    """Return how many windows `make_windows` returns."""
    return math.prod(len(window_starts(length, size, overlap, layout)) for length in (width, height))


def window_starts(length: float, size: float, overlap: float = 0, layout: Layout = "flush_end") -> list:
    """Return the start of each window along a side; whole numbers if length, size and overlap are.

    Raises:
        ValueError: windows overlap by their size or more.
    """
    if overlap >= size:
        raise ValueError(f"windows of {size} pixels cannot overlap by {overlap}")
    if layout == "partition":
        count = max(int(length // size), 1)
        return [int(length) * n // count for n in range(count)]
    if length <= size:
        return [0]
    if layout == "even":
        count = math.ceil((length - size) / max(1.0, size - overlap) - _TOLERANCE) + 1
        return np.linspace(0, length - size, count).round().astype(int).tolist()
    step = size - overlap
    count = math.ceil((length - overlap) / step - _TOLERANCE)
    return [min(n * step, length - size) for n in range(count)]


def _spans(length: int, size: int, overlap: float, layout: Layout) -> list[tuple[int, int, int, int]]:
    """Return start and end along a side of each window, and of its core."""
    starts = window_starts(length, size, overlap, layout)
    ends = [*starts[1:], length] if layout == "partition" else [min(start + size, length) for start in starts]
    seams = [0, *_seams(starts, ends, overlap, layout), length]
    return [(*span, *core) for span, core in zip(zip(starts, ends, strict=True), pairwise(seams), strict=True)]


def _seams(starts: Sequence[int], ends: Sequence[int], overlap: float, layout: Layout) -> list[int]:
    """Return the boundaries between the cores of neighboring windows."""
    if layout != "flush_end":
        return [(start + end) // 2 for start, end in zip(starts[1:], ends[:-1], strict=True)]
    # All but the first and the last core have the same size, so seams are inside the requested overlap.
    half = int(overlap) // 2
    inner = [start + half for start in starts[1:-1]]
    return inner if len(starts) < 2 else [*inner, ends[-2] - (int(overlap) - half)]
