"""Oriented boxes, polygons and masks: how records write them, and how much two of them overlap."""

from typing import Any

import numpy as np

from lhrs.boxes import geometry_iou
from lhrs.errors import DataError, MissingExtraError
from lhrs.metrics.iou import mask_iou, oriented_corners


def is_shape(value: Any) -> bool:
    """Return whether a value is an oriented box, a polygon or a mask; False for horizontal boxes and texts."""
    if isinstance(value, dict):
        return "counts" in value
    return isinstance(value, list | tuple) and len(value) > 4 and all(isinstance(v, int | float) for v in value)


def shape_iou(prediction: Any, answer: Any, number: int = 1) -> float | None:
    """Return the overlap of two shapes; None if the prediction cannot be read or is of another kind than the answer.

    Args:
        prediction: xyxy; cx, cy, width, height, angle in radians (x turning towards y); x1, y1, x2, y2, ... of a
            polygon; all in pixels of the image; or a mask as COCO's run lengths, `{"size": [h, w], "counts": ...}`.
        answer: the same.
        number: of the answer, for messages.

    Raises:
        DataError: the answer cannot be read.
        MissingExtraError: polygons need shapely, masks pycocotools.
    """
    truth = _shape(answer)
    if truth is None:
        raise DataError(f"answer {number} is no box, polygon or mask: {str(answer)[:80]}")
    shape = _shape(prediction)
    if shape is None or isinstance(shape, np.ndarray) != isinstance(truth, np.ndarray):
        return None
    if isinstance(truth, np.ndarray):
        return mask_iou(shape, truth) if shape.shape == truth.shape else 0.0
    return geometry_iou(shape, truth)


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
