"""Clip features to the footprints of a block and measure the clipped shapes.

The footprints of a block share a plane. Its axes are the pixel axes (x right, y down). Its unit is a meter near the
first footprint. Each footprint is an axis-aligned rectangle in the plane, whatever its CRS. An area fraction in the
plane is an area fraction of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely

from lhrs.align.features import Features
from lhrs.align.footprints import Footprint, crs_transformer
from lhrs.align.tags import tag_table

_SIMPLE = 200
"""Number of points from which a shape is first clipped to the rows of the block, which is faster."""


@dataclass
class ClippedFeatures:
    """Columns with one row per feature and footprint that intersect, sorted by footprint."""

    footprint: np.ndarray
    """Index of the footprint in the block."""
    feature: np.ndarray
    """Index of the feature in the input."""
    kind: np.ndarray
    """Index in `kinds`."""
    kinds: list[str]
    shape: np.ndarray
    """Clipped shapely geometries, in the plane."""
    dimension: np.ndarray
    """0 point, 1 line, 2 area."""
    area_px: np.ndarray
    """Area in square pixels of the image; for areas only."""
    length_px: np.ndarray
    """Length in pixels of the image; for lines only."""
    inside: np.ndarray
    """Fraction of the feature that is inside the footprint."""
    box: np.ndarray
    """`(N, 4)` xyxy in pixels of the image."""
    center: np.ndarray
    """`(N, 2)` xy in pixels."""
    orientation: np.ndarray
    """`(N, 2)`, lines only: sums of length times cos and sin of the doubled angle; 0 is along x, clockwise."""
    scale: np.ndarray
    """Pixels per unit of the plane, one per footprint."""


def clip_features(footprints: Sequence[Footprint], features: Features) -> ClippedFeatures:
    """Clip features to footprints and measure the clipped shapes.

    Args:
        footprints: footprints with the same `group_key`.
        features: features near the footprints.
    """
    rectangles, scale, to_plane = _plane(footprints)
    shapes = _projected(features.geometries, footprints[0], to_plane)
    names, kind_of = np.unique(np.array(features.kinds, dtype=object).astype(str), return_inverse=True)
    boxes = shapely.box(*rectangles.T)
    usable = np.flatnonzero(np.isfinite(shapely.bounds(shapes)).all(1)) if len(shapes) else np.array([], int)
    at, piece = _cut(shapes, usable, boxes, rectangles)
    footprint, feature = at[0], at[1]
    dimension = shapely.get_dimensions(shapes[feature])
    area, length = shapely.area(piece), np.where(dimension == 1, shapely.length(piece), 0.0)
    # Shapes that only touch the edge, or collapsed to it, are dropped.
    there = np.where(dimension == 2, area > 0, np.where(dimension == 1, length > 0, ~shapely.is_empty(piece)))
    order = np.flatnonzero(there)
    order = order[np.lexsort((feature[order], footprint[order]))]
    footprint, feature, piece, dimension, area, length = (
        v[order] for v in (footprint, feature, piece, dimension, area, length)
    )
    whole = np.where(dimension == 2, shapely.area(shapes[feature]), shapely.length(shapes[feature]))
    inside = np.where(dimension == 0, 1.0, np.where(dimension == 2, area, length) / np.maximum(whole, 1e-300))
    per_px = scale[footprint]
    origin = rectangles[footprint][:, :2]
    middle = shapely.centroid(piece)
    return ClippedFeatures(
        footprint, feature, kind_of[feature], names.tolist(), piece, dimension,
        area * per_px**2 * (dimension == 2), length * per_px, inside.clip(0, 1),
        (shapely.bounds(piece) - np.tile(origin, 2)) * per_px[:, None],
        (np.stack([shapely.get_x(middle), shapely.get_y(middle)], 1) - origin) * per_px[:, None],
        _turns(piece, dimension == 1) * per_px[:, None], scale,
    )  # fmt: skip


def _plane(footprints: Sequence[Footprint]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rectangles `(N, 4)`, pixels per unit `(N,)`, and the `(2, 3)` affine from the CRS to the plane."""
    first = footprints[0]
    a, b, c, d, e, f = first.transform
    linear = np.linalg.inv(np.array([[a, b], [d, e]])) * first.gsd_m
    to_plane = np.concatenate([linear, -linear @ np.array([[c], [f]])], 1)
    transforms = np.array([footprint.transform for footprint in footprints])
    origins = transforms[:, [2, 5]] @ linear.T + to_plane[:, 2]
    determinant = transforms[:, 0] * transforms[:, 4] - transforms[:, 1] * transforms[:, 3]
    unit = first.gsd_m * np.sqrt(np.abs(determinant / (a * e - b * d)))  # of the plane per pixel
    sides = np.array([[footprint.width, footprint.height] for footprint in footprints]) * unit[:, None]
    return np.concatenate([origins, origins + sides], 1), 1 / unit, to_plane


def _projected(shapes: np.ndarray, first: Footprint, to_plane: np.ndarray) -> np.ndarray:
    if not len(shapes):
        return shapes
    middle = first.transform[2]
    transformer = None if first.crs == "EPSG:4326" else crs_transformer(first.crs)

    def project(points: np.ndarray) -> np.ndarray:
        if transformer is None:  # degrees around the footprint, across the antimeridian too
            points = np.stack([middle + (points[:, 0] - middle + 180) % 360 - 180, points[:, 1]], 1)
        else:
            points = np.stack(transformer.transform(points[:, 0], points[:, 1], direction="INVERSE"), 1)
        moved: np.ndarray = points @ to_plane[:, :2].T + to_plane[:, 2]
        return moved

    return shapely.transform(shapes, project)


def _cut(
    shapes: np.ndarray, usable: np.ndarray, boxes: np.ndarray, rectangles: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return `(2, N)` footprint and feature indices, and the clipped shapes."""
    if not len(usable):
        return np.empty((2, 0), int), np.array([], object)
    pairs = shapely.STRtree(shapes[usable]).query(boxes, predicate="intersects")
    footprint, feature = pairs[0], usable[pairs[1]]
    piece = shapes[feature]
    bounds, limits = shapely.bounds(piece), rectangles[footprint]
    split = (bounds[:, :2] < limits[:, :2]).any(1) | (bounds[:, 2:] > limits[:, 2:]).any(1)
    complex_ = split & (shapely.get_num_coordinates(piece) > _SIMPLE)
    for n in np.unique(feature[complex_]):
        here = np.flatnonzero(complex_ & (feature == n))
        piece[here] = _by_rows(shapes[n], rectangles[footprint[here]])
    piece[split] = shapely.intersection(piece[split], boxes[footprint[split]])
    return np.stack([footprint, feature]), piece


def _by_rows(shape: Any, rectangles: np.ndarray) -> np.ndarray:
    """Return, for each rectangle, a smaller part of the shape that is identical inside the rectangle."""
    if len(rectangles) <= 4:
        x1, y1 = rectangles[:, :2].min(0)
        x2, y2 = rectangles[:, 2:].max(0)
        return np.full(len(rectangles), shapely.intersection(shape, shapely.box(x1, y1, x2, y2)), object)
    axis = int(np.argmax(np.ptp(rectangles[:, :2], axis=0)))
    order = np.argsort(rectangles[:, axis], kind="stable")
    clipped = np.empty(len(rectangles), object)
    for half in np.array_split(order, 2):
        x1, y1 = rectangles[half, :2].min(0)
        x2, y2 = rectangles[half, 2:].max(0)
        part = shapely.intersection(shape, shapely.box(x1, y1, x2, y2))
        clipped[half] = _by_rows(part, rectangles[half])
    return clipped


def _turns(pieces: np.ndarray, is_line: np.ndarray) -> np.ndarray:
    turns = np.zeros((len(pieces), 2))
    lines = np.flatnonzero(is_line)
    if not len(lines):
        return turns
    parts, owner_of = shapely.get_parts(pieces[lines], return_index=True)
    points, part = shapely.get_coordinates(parts, return_index=True)
    step = np.diff(points, axis=0)[part[1:] == part[:-1]]
    owner = lines[owner_of[part[1:][part[1:] == part[:-1]]]]
    length = np.hypot(*step.T)
    twice = 2 * np.arctan2(step[:, 1], step[:, 0])
    for n, wave in enumerate((np.cos, np.sin)):
        turns[:, n] = np.bincount(owner, length * wave(twice), len(pieces))
    return turns


def parent_kinds(kinds: Sequence[str]) -> list[str | None]:
    """Return the parent kind of each kind, or None."""
    table = tag_table().kinds
    return [table[name].parent for name in kinds]
