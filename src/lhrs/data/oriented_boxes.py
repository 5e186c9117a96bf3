"""Oriented boxes: corners from center, size and angle, and back. Angles are clockwise in image coordinates."""

import math
from typing import NamedTuple

import numpy as np

from lhrs.data.dataset import bounding_box, box_corners
from lhrs.schema import Box

_SAME_PX = 1e-3
"""Corners this close to those of an upright box are no orientation; text formats round about as much."""


class RotatedRectangle(NamedTuple):
    """A rectangle turned about its first corner."""

    x: float
    y: float
    width: float
    height: float
    degrees: float
    """Clockwise."""


def obb_corners(center: tuple[float, float], size: tuple[float, float], radians: float) -> np.ndarray:
    """Return the corners float64 `(4, 2)` of a box, clockwise; the first is top left before the rotation.

    Args:
        center: xy in pixels.
        size: Width and height in pixels.
        radians: Clockwise rotation about the center.
    """
    along = np.array([math.cos(radians), math.sin(radians)]) * size[0] / 2
    across = np.array([-math.sin(radians), math.cos(radians)]) * size[1] / 2
    return np.array(center) + np.stack([-along - across, along - across, along + across, across - along])


def turn_box(xyxy: np.ndarray, degrees: float) -> np.ndarray:
    """Return the corners float64 `(4, 2)` of a box rotated clockwise about its center."""
    x1, y1, x2, y2 = xyxy.tolist()
    return obb_corners(((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1), math.radians(degrees))


def turn_rectangle(rectangle: RotatedRectangle) -> np.ndarray:
    """Return the corners float64 `(4, 2)` of a rectangle that is turned about its first corner."""
    x, y, width, height, degrees = rectangle
    angle = math.radians(degrees)
    along = np.array([math.cos(angle), math.sin(angle)]) * width
    across = np.array([-math.sin(angle), math.cos(angle)]) * height
    return np.array([x, y]) + np.stack([0 * along, along, along + across, across])


def as_rectangle(corners: np.ndarray, tolerance_px: float = 1e-6) -> RotatedRectangle | None:
    """Return the rectangle whose corners, clockwise, are `(4, 2)` points; None for another quadrangle."""
    along, across = corners[1] - corners[0], corners[3] - corners[0]
    angle = math.atan2(along[1], along[0])
    x, y = corners[0].tolist()
    rectangle = RotatedRectangle(x, y, math.hypot(*along), math.hypot(*across), math.degrees(angle) % 360)
    is_same = np.abs(turn_rectangle(rectangle) - corners).max() <= tolerance_px
    return rectangle if is_same else None


def are_same_corners(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether quadrangles `(4, 2)` have the same corners, in any order."""
    distances = np.abs(a[:, None] - b[None]).max(2)
    return bool(max(distances.min(0).max(), distances.min(1).max()) <= _SAME_PX)


def outline_box(
    label: str,
    points: np.ndarray,
    xyxy: tuple[float, float, float, float] | None = None,
    confidence: float | None = None,
    crowd: bool = False,
) -> Box:
    """Return the box of an object with an outline. A quadrangle is an oriented box, whose corners are kept.

    Args:
        label: Its class.
        points: float64 `(P, 2)` xy pixels, perhaps closed by its first point.
        xyxy: The upright box, where the annotation has its own; None for the one around the points.
        confidence: Of a detector.
        crowd: The outline is around a group.

    Raises:
        ValueError: The confidence is not within 0-1.
    """
    if confidence is not None and not 0 <= confidence <= 1:
        raise ValueError(f"a confidence of {confidence}, which is not within 0-1")
    xyxy = bounding_box(points) if xyxy is None else xyxy
    ring = points[:-1] if len(points) == 5 and (points[0] == points[-1]).all() else points
    is_oriented = len(ring) == 4 and not are_same_corners(ring, box_corners(xyxy))
    corners = tuple((float(x), float(y)) for x, y in ring) if is_oriented else None
    return Box(label=label, xyxy=xyxy, corners=corners, confidence=confidence, crowd=crowd)  # type: ignore[arg-type]
