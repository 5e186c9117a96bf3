"""Boxes of overlapping windows become objects of the scene: each once, whole where it was cut.

Seen from two windows, an object has a whole box in one and a whole or cut one in the other. Cut boxes give way to whole
ones that hold them; cut boxes that continue each other across a seam are joined; of whole ones that overlap the surer
stays.
"""

from dataclasses import dataclass

import numpy as np

_SAME = 0.5
"""Overlap from which on two boxes of the same name are one object."""
_HELD = 0.7
"""Share of a cut box inside another from which on it is part of it."""
_ALONG = 0.5
"""Least overlap along a seam of two cut boxes that continue each other."""


@dataclass(frozen=True)
class Found:
    """Boxes of one name."""

    boxes: np.ndarray
    """float64 `(N, 4)` xyxy in pixels of the scene."""
    confidence: np.ndarray
    """float64 `(N,)`, 0-1."""
    window: np.ndarray
    """int64 `(N,)`: number of the window each was found in."""
    cut: np.ndarray
    """bool `(N, 4)`: it touches the window's left, top, right, bottom edge, and the scene goes on there."""


def merge(found: Found) -> Found:
    """Return each object once, in reading order of the windows."""
    joined = _join(found)
    whole = ~joined.cut.any(1)
    # Whole before cut, then the surer, then the larger: what is first stays.
    area = (joined.boxes[:, 2] - joined.boxes[:, 0]) * (joined.boxes[:, 3] - joined.boxes[:, 1])
    order = np.lexsort((np.arange(len(area)), -area, -joined.confidence, ~whole))
    kept: list[int] = []
    near = _Near(joined.boxes)
    gone = np.zeros(len(order), bool)
    for n in order:
        if gone[n]:
            continue
        kept.append(int(n))
        for other in near.of(int(n)):
            inter = _overlap(joined.boxes[n], joined.boxes[other])
            same = inter >= _SAME * (area[n] + area[other] - inter)
            held = joined.cut[other].any() and inter >= _HELD * area[other]
            gone[other] |= other != n and (same or held)
    at = np.array(sorted(kept), np.int64)
    return _take(joined, at)


def _join(found: Found) -> Found:
    """Join cut boxes that continue each other across a seam, until none does."""
    boxes, confidence, cut = found.boxes.copy(), found.confidence.copy(), found.cut.copy()
    alive = np.ones(len(boxes), bool)
    changed = bool(len(boxes))
    while changed:
        changed = False
        near = _Near(boxes, 1.0)
        for a in np.flatnonzero(alive & cut.any(1)):
            for b in near.of(int(a)):
                if b == a or not (alive[a] and alive[b]) or found.window[a] == found.window[b]:
                    continue
                side = _continues(boxes[a], cut[a], boxes[b], cut[b])
                if side is None:
                    continue
                boxes[a] = [*np.minimum(boxes[a, :2], boxes[b, :2]), *np.maximum(boxes[a, 2:], boxes[b, 2:])]
                # Where they met nothing is cut any more; along the seam either may still be.
                opposite = (side + 2) % 4
                across = {side: cut[b, side], opposite: cut[a, opposite]}
                cut[a] |= cut[b]
                for edge, still in across.items():
                    cut[a, edge] = still
                confidence[a], alive[b], changed = max(confidence[a], confidence[b]), False, True
    return _take(Found(boxes, confidence, found.window, cut), np.flatnonzero(alive))


def _continues(a: np.ndarray, cut_a: np.ndarray, b: np.ndarray, cut_b: np.ndarray) -> int | None:
    """Return the side (0 left, 1 top, 2 right, 3 bottom) across which b goes on where a was cut, and a where b was."""
    for side in range(4):
        opposite, axis = (side + 2) % 4, side % 2
        if not (cut_a[side] and cut_b[opposite]):
            continue
        # Each reaches over the other's cut edge or up to it, and lies on the other side of it.
        low, high = (b, a) if side < 2 else (a, b)
        meets = low[axis] < high[axis] and low[axis + 2] < high[axis + 2] and low[axis + 2] >= high[axis] - 1
        other = 1 - axis
        shared = min(a[other + 2], b[other + 2]) - max(a[other], b[other])
        if meets and shared >= _ALONG * max(a[other + 2] - a[other], b[other + 2] - b[other]):
            return side
    return None


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return float(sides[0] * sides[1]) if (sides > 0).all() else 0.0


def _take(found: Found, at: np.ndarray) -> Found:
    return Found(found.boxes[at], found.confidence[at], found.window[at], found.cut[at])


class _Near:
    """Which boxes meet which, among many."""

    def __init__(self, boxes: np.ndarray, slack: float = 0.0) -> None:
        import shapely

        grown = boxes + slack * np.array([-1, -1, 1, 1])
        self._shapes = shapely.box(*grown.T) if len(boxes) else np.empty(0, object)
        self._tree = shapely.STRtree(self._shapes)

    def of(self, n: int) -> list[int]:
        """Return the boxes that meet box n, itself among them, in order."""
        return sorted(int(i) for i in self._tree.query(self._shapes[n]))
