"""Detections of overlapping windows become detections of the whole image: each object once.

Two rules. `nms`, as DOTA's development kit does: of boxes of a class that overlap the one with the best score stays.
`join_cut`, for detectors that box the visible part of a truncated object: truncated boxes that continue each other
across a seam are joined, truncated boxes give way to complete ones that contain them, and of complete ones that overlap
the one with the best score stays.

SAHI's GREEDYNMM was considered for the second. It merges boxes of a class by their overlap alone, without regard to
windows: the halves of an object longer than the overlap of windows hardly overlap and stay two, and a small object
inside the box of another is merged with it. Which boxes are truncated is known here, and only those are joined.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from lhrs.boxes import intersection

Rule = Literal["nms", "join_cut"]
Suppress = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Returns the indices to keep, best score first, of `(N, K)` boxes, `(N,)` scores and `(N,)` labels."""
_SAME_IOU = 0.5
"""IoU from which on two boxes of a class are one object."""
_CONTAINED = 0.7
"""Fraction of a truncated box inside another from which on it is part of it."""
_MIN_SEAM_OVERLAP = 0.5
"""Least overlap along a seam of two truncated boxes that continue each other."""


class Merged(NamedTuple):
    """Detections of an image."""

    boxes: np.ndarray
    """`(N, K)` in pixels of the image, as they were given."""
    scores: np.ndarray
    labels: np.ndarray
    windows: np.ndarray
    """int64 `(N,)`: the window of each, of joined ones the first."""
    truncated: np.ndarray
    """bool `(N, 4)`: still truncated at the window's left, top, right, bottom edge."""


def merge_detections(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    windows: np.ndarray,
    rule: Rule,
    *,
    truncated: np.ndarray | None = None,
    suppress: Suppress | None = None,
) -> Merged:
    """Return each object once: best score first with `nms`, in reading order of the windows with `join_cut`.

    Args:
        boxes: `(N, K)` in pixels of the image; `(N, 4)` xyxy with `join_cut`.
        scores: `(N,)`.
        labels: int `(N,)`; boxes of different labels do not meet.
        windows: int `(N,)`, the number of the window in which each was detected.
        rule: see above.
        truncated: `join_cut`: bool `(N, 4)`, whether a box touches the left, top, right, bottom edge of its window, and
            the image continues there.
        suppress: `nms`: non-maximum suppression of the kind of boxes.
    """
    none = np.zeros((len(boxes), 4), bool)
    given = Merged(boxes, scores, labels, windows, none if truncated is None else truncated)
    if rule == "nms":
        if suppress is None:
            raise ValueError("the rule nms needs a suppression")
        return _take(given, suppress(boxes, scores, labels))
    kept = [_join_and_suppress(_take(given, np.flatnonzero(labels == label))) for label in np.unique(labels)]
    return Merged(*(np.concatenate(parts) for parts in zip(*kept, strict=True))) if kept else given


def _join_and_suppress(given: Merged) -> Merged:
    """Merge boxes of one label by `join_cut`."""
    joined = _join(given)
    complete = np.asarray(~joined.truncated.any(1))
    # Complete before truncated, then the better score, then the larger: what comes first stays.
    area = (joined.boxes[:, 2] - joined.boxes[:, 0]) * (joined.boxes[:, 3] - joined.boxes[:, 1])
    order = np.lexsort((np.arange(len(area)), -area, -joined.scores, ~complete))
    kept: list[int] = []
    neighbors = _Neighbors(joined.boxes)
    removed = np.zeros(len(order), bool)
    for n in order:
        if removed[n]:
            continue
        kept.append(int(n))
        others = neighbors.query(int(n))
        inter = intersection(joined.boxes[n], joined.boxes[others])[0]
        same = inter >= _SAME_IOU * (area[n] + area[others] - inter)
        contained = ~complete[others] & (inter >= _CONTAINED * area[others])
        removed[others] |= (others != n) & (same | contained)
    return _take(joined, np.array(sorted(kept), np.int64))


def _join(given: Merged) -> Merged:
    """Join truncated boxes that continue each other across a seam, until none does."""
    boxes, scores, truncated = given.boxes.copy(), given.scores.copy(), given.truncated.copy()
    alive = np.ones(len(boxes), bool)
    changed = bool(len(boxes))
    while changed:
        changed = False
        neighbors = _Neighbors(boxes, 1.0)
        for a in np.flatnonzero(alive & truncated.any(1)):
            for b in neighbors.query(int(a)):
                if b == a or not (alive[a] and alive[b]) or given.windows[a] == given.windows[b]:
                    continue
                side = _continues(boxes[a], truncated[a], boxes[b], truncated[b])
                if side is None:
                    continue
                boxes[a] = [*np.minimum(boxes[a, :2], boxes[b, :2]), *np.maximum(boxes[a, 2:], boxes[b, 2:])]
                # Where they meet nothing is truncated any more; along the seam either may still be.
                opposite = (side + 2) % 4
                across = {side: truncated[b, side], opposite: truncated[a, opposite]}
                truncated[a] |= truncated[b]
                for edge, still in across.items():
                    truncated[a, edge] = still
                scores[a], alive[b], changed = max(scores[a], scores[b]), False, True
    return _take(Merged(boxes, scores, given.labels, given.windows, truncated), np.flatnonzero(alive))


def _continues(a: np.ndarray, truncated_a: np.ndarray, b: np.ndarray, truncated_b: np.ndarray) -> int | None:
    """Return the side (0 left, 1 top, 2 right, 3 bottom) across which b continues a, if both are truncated there."""
    for side in range(4):
        opposite, axis = (side + 2) % 4, side % 2
        if not (truncated_a[side] and truncated_b[opposite]):
            continue
        # Each reaches over the other's truncated edge or up to it, and lies on the other side of it.
        low, high = (b, a) if side < 2 else (a, b)
        meets = low[axis] < high[axis] and low[axis + 2] < high[axis + 2] and low[axis + 2] >= high[axis] - 1
        other = 1 - axis
        shared = min(a[other + 2], b[other + 2]) - max(a[other], b[other])
        if meets and shared >= _MIN_SEAM_OVERLAP * max(a[other + 2] - a[other], b[other + 2] - b[other]):
            return side
    return None


def _take(detections: Merged, index: np.ndarray) -> Merged:
    return Merged(*(values[index] for values in detections))


class _Neighbors:
    """Which boxes meet which, among many."""

    def __init__(self, boxes: np.ndarray, margin: float = 0.0) -> None:
        import shapely

        grown = boxes + margin * np.array([-1, -1, 1, 1])
        self._shapes = shapely.box(*grown.T) if len(boxes) else np.empty(0, object)
        self._tree = shapely.STRtree(self._shapes)

    def query(self, n: int) -> np.ndarray:
        """Return the boxes that meet box n, itself among them, in order."""
        return np.sort(self._tree.query(self._shapes[n]))
