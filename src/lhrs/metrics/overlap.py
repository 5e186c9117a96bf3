"""Overlap of boxes, oriented boxes and masks; all in pixels of the image."""

import numpy as np


def iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)`, intersection over union of the n-th xyxy boxes of `(N, 4)` and `(N, 4)`.

    Boxes with x2 < x1 or y2 < y1 have no area, and overlap with nothing; so do boxes that are not finite.
    """
    a, b = np.asarray(a, float).reshape(-1, 4), np.asarray(b, float).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        sides = (np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])).clip(min=0)
        inter = sides[:, 0] * sides[:, 1]
        areas = [(c[:, 2] - c[:, 0]).clip(min=0) * (c[:, 3] - c[:, 1]).clip(min=0) for c in (a, b)]
        union = areas[0] + areas[1] - inter
        found = np.divide(inter, union, out=np.zeros(len(a)), where=union > 0)
    return np.where(np.isfinite(found), found, 0.0)


def oriented_corners(boxes: np.ndarray) -> np.ndarray:
    """Return `(N, 4, 2)` corners of `(N, 5)` boxes cx, cy, width, height, angle in radians, x turning towards y."""
    boxes = np.asarray(boxes, float).reshape(-1, 5)
    half = boxes[:, None, 2:4] / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    cos, sin = np.cos(boxes[:, 4, None]), np.sin(boxes[:, 4, None])
    turned = np.stack([half[..., 0] * cos - half[..., 1] * sin, half[..., 0] * sin + half[..., 1] * cos], -1)
    return boxes[:, None, :2] + turned


def polygon_iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)` of the n-th quadrangles of `(N, 4, 2)` and `(N, 4, 2)`; crossed ones are made whole."""
    import shapely

    shapes = [shapely.polygons(np.asarray(c, float)) for c in (a, b)]
    shapes = [np.where(shapely.is_valid(s), s, shapely.make_valid(s)) for s in shapes]
    inter = shapely.area(shapely.intersection(*shapes))
    union = shapely.area(shapes[0]) + shapely.area(shapes[1]) - inter
    return np.divide(inter, union, out=np.zeros(len(inter)), where=union > 0)


def oriented_iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)` of the n-th of `(N, 5)` and `(N, 5)` oriented boxes; see `oriented_corners`."""
    return polygon_iou_pairs(oriented_corners(a), oriented_corners(b))


def mask_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Return the overlap of two bool masks `(H, W)`; 0 for two empty ones."""
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0
