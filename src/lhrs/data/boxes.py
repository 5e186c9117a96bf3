"""Validation of boxes against their image. `lhrs data lint` reports invalid boxes, and dataset builders drop them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lhrs.boxes import Size
from lhrs.data.dataset import ObjectPolygon
from lhrs.dropped import Dropped
from lhrs.schema import Box

TOLERANCE_PX = 1.0
"""Tolerance in pixels for boxes outside their image, due to rounding and half-pixel conventions."""
MIN_AREA_PX = 1.0
"""A smaller box is empty."""


@dataclass(frozen=True)
class BoxFaults:
    """Problems of boxes, bool `(N,)` each."""

    reversed: np.ndarray
    """x2 < x1 or y2 < y1."""
    empty: np.ndarray
    """An area of less than one pixel."""
    leaves: np.ndarray
    """A side is outside the image by more than the tolerance; False where the image's size is unknown."""
    outside: np.ndarray
    """Less than one pixel of the box is inside the image; False where the size is unknown."""


def check_boxes(boxes: np.ndarray, sizes: np.ndarray) -> BoxFaults:
    """Check float64 `(N, 4)` xyxy boxes against float64 `(N, 2)` width and height of their images, NaN if unknown."""
    sides = boxes[:, 2:] - boxes[:, :2]
    is_reversed = np.any(sides < 0, axis=1)
    is_empty = ~is_reversed & (sides.prod(1) < MIN_AREA_PX)
    leaves = ~is_reversed & np.any(overshoot_px(boxes, sizes) > TOLERANCE_PX, axis=1)
    visible = boxes[:, 2:].clip(None, sizes) - boxes[:, :2].clip(0)
    is_outside = ~is_reversed & ~is_empty & (np.any(visible <= 0, axis=1) | (visible.prod(1) < MIN_AREA_PX))
    return BoxFaults(is_reversed, is_empty, leaves, is_outside)


def overshoot_px(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return float64 `(N, 2)`, how far each box is outside its image in x and y; negative inside."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.maximum(-low, high - sizes)


def usable_boxes(boxes: Sequence[Box], size: Size, dropped: Dropped, name: str) -> list[Box]:
    """Return the valid boxes of an image, clipped to its extent.

    Args:
        boxes: Of one image.
        size: Its width and height.
        dropped: Counts the boxes that are left out or cut.
        name: Of the image, for examples.
    """
    if not boxes:
        return []
    values = np.array([box.xyxy for box in boxes], np.float64)
    faults = check_boxes(values, np.tile(np.array(size, np.float64), (len(values), 1)))
    kept = _drop_unusable(faults, dropped, name)
    dropped.add("parts of boxes beyond the image's edge", name, int((faults.leaves & kept).sum()))
    low, high = values[:, :2].clip(0, size), values[:, 2:].clip(0, size)
    clipped = np.concatenate([low, high], 1)
    return [
        box if (clipped[n] == values[n]).all() else box.model_copy(update={"xyxy": tuple(clipped[n].tolist())})
        for n, box in enumerate(boxes) if kept[n]
    ]  # fmt: skip


def usable_polygons(polygons: Sequence[ObjectPolygon], size: Size, dropped: Dropped, name: str) -> list[ObjectPolygon]:
    """Return the valid polygons of an image, not clipped; see `usable_boxes`."""
    if not polygons:
        return []
    bounds = np.array([[*polygon.points.min(0), *polygon.points.max(0)] for polygon in polygons], np.float64)
    faults = check_boxes(bounds, np.tile(np.array(size, np.float64), (len(bounds), 1)))
    kept = _drop_unusable(faults, dropped, name)
    return [polygon for polygon, is_kept in zip(polygons, kept, strict=True) if is_kept]


def _drop_unusable(faults: BoxFaults, dropped: Dropped, name: str) -> np.ndarray:
    reasons = (
        ("reversed boxes", faults.reversed),
        ("empty boxes", faults.empty),
        ("boxes outside their image", faults.outside),
    )
    for reason, wrong in reasons:
        dropped.add(reason, name, int(wrong.sum()))
    return ~(faults.reversed | faults.empty | faults.outside)
