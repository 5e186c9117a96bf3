"""Oriented boxes, polygons and masks as answers: how records write them, and how well they are met."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.errors import DataError, MissingExtraError
from lhrs.metrics.overlap import Grounding, mask_iou, oriented_corners


def is_shape(value: Any) -> bool:
    """Tell an oriented box, polygon or mask from a horizontal box or a text."""
    if isinstance(value, dict):
        return "counts" in value
    return isinstance(value, list | tuple) and len(value) > 4 and all(isinstance(v, int | float) for v in value)


def ground_shapes(predictions: Sequence[Any], answers: Sequence[Any]) -> Grounding:
    """Score one shape per expression; one that cannot be read, or is of another kind than the answer, has overlap 0.

    Args:
        predictions: each xyxy; cx, cy, width, height, angle in radians (x turning towards y); x1, y1, x2, y2, ... of a
            polygon; all in pixels of the image; or a mask as COCO's run lengths, `{"size": [h, w], "counts": ...}`.
        answers: the same.

    Raises:
        DataError: an answer cannot be read.
        MissingExtraError: polygons need shapely, masks pycocotools.
    """
    iou, given = np.zeros(len(answers)), np.zeros(len(answers), bool)
    for n, (said, truth) in enumerate(zip(predictions, answers, strict=True)):
        right = _shape(truth)
        if right is None:
            raise DataError(f"answer {n + 1} is no box, polygon or mask: {str(truth)[:80]}")
        found = _shape(said)
        if found is None or isinstance(found, np.ndarray) != isinstance(right, np.ndarray):
            continue
        given[n] = True
        if isinstance(right, np.ndarray):
            iou[n] = mask_iou(found, right) if found.shape == right.shape else 0.0
        else:
            union = found.union(right).area
            iou[n] = found.intersection(right).area / union if union else 0.0
    return Grounding(iou, given)


def _shape(value: Any) -> Any:
    """Return a valid shapely polygon, a bool mask `(H, W)`, or None."""
    if isinstance(value, dict):
        return _mask(value)
    try:
        import shapely
    except ImportError:
        raise MissingExtraError("oriented boxes need shapely: pip install 'lhrs[eval]'") from None
    try:
        numbers = np.asarray(value, float).reshape(-1)
    except (TypeError, ValueError):
        return None
    if not np.isfinite(numbers).all() or len(numbers) < 4:
        return None
    if len(numbers) == 4:
        return shapely.box(*numbers) if (numbers[2:] >= numbers[:2]).all() else None
    if len(numbers) == 5:
        return shapely.Polygon(oriented_corners(numbers)[0]) if (numbers[2:4] >= 0).all() else None
    return shapely.make_valid(shapely.Polygon(numbers.reshape(-1, 2))) if len(numbers) % 2 == 0 else None


def _mask(value: dict[str, Any]) -> np.ndarray | None:
    try:
        from pycocotools import mask as coco
    except ImportError:
        raise MissingExtraError("masks need pycocotools: pip install 'lhrs[eval]'") from None
    try:
        height, width = (int(v) for v in value["size"])
        counts = value["counts"]
        if isinstance(counts, list):
            if sum(counts) != height * width or min(counts, default=0) < 0:
                return None
            value = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        elif not isinstance(counts, str) or coco.area({"size": [height, width], "counts": counts}) > height * width:
            return None
        return np.asarray(coco.decode(value), bool)
    except (KeyError, TypeError, ValueError):
        return None
