"""Merge the detections of overlapping windows, so that each object of the image is detected once.

There are two rules. `nms` is that of DOTA's development kit: of overlapping boxes of a class, the box with the best
score is kept. `join_cut` is for detectors that box the visible part of a truncated object. It joins truncated boxes
that continue each other across a seam and drops truncated boxes inside complete ones. Of overlapping complete boxes, it
keeps the one with the best score.

SAHI's GREEDYNMM is an alternative to `join_cut`. It merges boxes of a class by overlap alone and ignores windows. The
halves of an object that is longer than the window overlap are not merged, and a small object inside another box is.
`join_cut` uses which boxes are truncated and joins only those.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from lhrs.boxes import intersection

Rule = Literal["nms", "join_cut"]
Suppress = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""Returns the indices to keep, best score first, of `(N, K)` boxes, `(N,)` scores and `(N,)` labels."""
_SAME_IOU = 0.5
"""Minimum IoU of two boxes of a class that are the same object."""
_CONTAINED = 0.7
"""Minimum fraction of a truncated box inside another box to be a part of it."""
_MIN_SEAM_OVERLAP = 0.5
"""Minimum overlap along a seam of two truncated boxes that continue each other."""


class Merged(NamedTuple):
    """Detections of an image."""

    boxes: np.ndarray
    """`(N, K)` in pixels of the image, in the input format."""
    scores: np.ndarray
    labels: np.ndarray
    windows: np.ndarray
    """int64 `(N,)`: the window of each box; for joined boxes the first."""
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
        labels: int `(N,)`; boxes of different labels are not merged.
        windows: int `(N,)`, the number of the window in which each was detected.
        rule: see above.
        truncated: for `join_cut`: bool `(N, 4)`, whether a box touches the left, top, right, bottom edge of its window,
            and the image continues there.
        suppress: for `nms`: the non-maximum suppression of this type of boxes.
    """
    none = np.zeros((len(boxes), 4), bool)
    detections = Merged(boxes, scores, labels, windows, none if truncated is None else truncated)
    if rule == "nms":
        if suppress is None:
            raise ValueError("the rule nms needs a suppression")
        return _take(detections, suppress(boxes, scores, labels))
    classes = sorted(set(labels.tolist()))
    kept = [_join_and_suppress(_take(detections, np.flatnonzero(labels == label))) for label in classes]
    return Merged(*(np.concatenate(parts) for parts in zip(*kept, strict=True))) if kept else detections


def _join_and_suppress(detections: Merged) -> Merged:
    """Merge boxes of one label by `join_cut`."""
    joined = _join(detections)
    complete = np.asarray(~joined.truncated.any(1))
    # Sort by complete before truncated, then by score, then by size. The first box of an overlap is kept.
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


def _join(detections: Merged) -> Merged:
    """Join truncated boxes that continue each other across a seam, until none does."""
    boxes, scores, truncated = detections.boxes.copy(), detections.scores.copy(), detections.truncated.copy()
    alive = np.ones(len(boxes), bool)
    changed = bool(len(boxes))
    while changed:
        changed = False
        neighbors = _Neighbors(boxes, 1.0)
        for a in np.flatnonzero(alive & truncated.any(1)):
            for b in neighbors.query(int(a)):
                if b == a or not (alive[a] and alive[b]) or detections.windows[a] == detections.windows[b]:
                    continue
                side = _continues(boxes[a], truncated[a], boxes[b], truncated[b])
                if side is None:
                    continue
                boxes[a] = [*np.minimum(boxes[a, :2], boxes[b, :2]), *np.maximum(boxes[a, 2:], boxes[b, 2:])]
                # The joined edge is no longer truncated; the edges along the seam may be.
                opposite = (side + 2) % 4
                across = {side: truncated[b, side], opposite: truncated[a, opposite]}
                truncated[a] |= truncated[b]
                for edge, still in across.items():
                    truncated[a, edge] = still
                scores[a], alive[b], changed = max(scores[a], scores[b]), False, True
    return _take(Merged(boxes, scores, detections.labels, detections.windows, truncated), np.flatnonzero(alive))


def _continues(a: np.ndarray, truncated_a: np.ndarray, b: np.ndarray, truncated_b: np.ndarray) -> int | None:
    """Return the side (0 left, 1 top, 2 right, 3 bottom) across which b continues a, if both are truncated there."""
    for side in range(4):
        opposite, axis = (side + 2) % 4, side % 2
        if not (truncated_a[side] and truncated_b[opposite]):
            continue
        # Each box reaches the other's truncated edge or extends beyond it, and is on the other side of it.
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
    """Index of boxes that intersect, by their left sides."""

    def __init__(self, boxes: np.ndarray, margin: float = 0.0) -> None:
        self._boxes = boxes + margin * np.array([-1, -1, 1, 1])
        self._order = np.argsort(self._boxes[:, 0], kind="stable")
        self._sorted = self._boxes[self._order]
        self._widest = float((self._boxes[:, 2] - self._boxes[:, 0]).max()) if len(boxes) else 0.0

    def query(self, n: int) -> np.ndarray:
        """Return the indices of boxes that intersect or touch box n, including n, in order."""
        left, top, right, bottom = self._boxes[n]
        first = np.searchsorted(self._sorted[:, 0], left - self._widest, "left")
        last = np.searchsorted(self._sorted[:, 0], right, "right")
        near = self._sorted[first:last]
        meets = (near[:, 2] >= left) & (near[:, 1] <= bottom) & (near[:, 3] >= top)
        return np.sort(self._order[first:last][meets])
