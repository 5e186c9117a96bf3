"""Regions of Label Studio's results (https://labelstud.io/guide/task_format)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lhrs.boxes import Size
from lhrs.data.dataset import ObjectPolygon
from lhrs.data.oriented_boxes import RotatedRectangle, obb_corners, outline_box, turn_rectangle
from lhrs.errors import DataError
from lhrs.schema import Box

_SHAPES = ("rectangle", "polygon", "ellipse")
_LEFT_OUT = {"keypoint": "key points", "brush": "brush masks", "vector": "lines", "bitmask": "brush masks"}


@dataclass
class Region:
    """What was annotated about one region, or about the whole image."""

    box: Box | None = None
    polygon: ObjectPolygon | None = None
    choices: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


def parse_regions(
    results: Sequence[dict[str, Any]], get_size: Callable[[], Size], where: str, drop: Callable[[str, object], None]
) -> list[Region]:
    """Return the regions of an annotation. Results of one id, such as a shape, its label and a text, are one region.

    Args:
        results: Of one annotation.
        get_size: Returns (width, height) of the image, for regions that do not have it.
        where: File and task, for messages.
        drop: Counts what is left out.

    Raises:
        DataError: A region is broken.
    """
    by_id: dict[object, list[dict[str, Any]]] = {}
    for number, result in enumerate(results):
        by_id.setdefault(result.get("id", number), []).append(result)
    regions = []
    for number, (region_id, members) in enumerate(by_id.items()):
        try:
            region = _parse(members, get_size, f"{where}#{region_id}", drop)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{where}: region {number} is broken, {error!r}.") from None
        regions += [region] if region is not None else []
    return regions


def _parse(
    members: Sequence[dict[str, Any]], get_size: Callable[[], Size], name: str, drop: Callable[[str, object], None]
) -> Region | None:
    region = Region()
    shape = next((m for m in members if str(m.get("type", "")).removesuffix("labels") in _SHAPES), None)
    for member in members:
        kind, value = str(member.get("type", "")), member.get("value") or {}
        reason = _LEFT_OUT.get(kind.removesuffix("labels"))
        if reason is not None:
            drop(reason, name)
        elif kind == "choices" and shape is None:
            region.choices += [str(choice) for choice in _as_list(value.get("choices"))]
        elif kind == "textarea":
            region.texts += [str(text) for text in _as_list(value.get("text")) if str(text).strip()]
        elif member is not shape and kind != "labels":
            drop(f"results of type {kind or 'unknown'}", name)
    if shape is None:
        return region if region.choices or region.texts else None
    labels = [str(label) for m in members for key, v in (m.get("value") or {}).items() if key.endswith("labels")
              for label in _as_list(v)]  # fmt: skip
    labels = list(dict.fromkeys(labels)) or ["object"]
    for label in labels[1:]:
        drop("labels of a region after the first", f"{name}.{label}")
    if shape.get("image_rotation"):
        drop("regions on an image that was rotated in the editor", name)
        return None
    points = _outline(shape, get_size)
    marks = _as_list((shape.get("meta") or {}).get("text"))
    score = shape.get("score")
    region.box = outline_box(
        labels[0], points, confidence=None if score is None else float(score), crowd="crowd" in marks
    )
    region.polygon = ObjectPolygon(labels[0], points, "difficult" in marks)
    return region


def _outline(shape: dict[str, Any], get_size: Callable[[], Size]) -> np.ndarray:
    """Return the corners or points float64 `(P, 2)` in pixels."""
    value = shape["value"]
    width, height = shape.get("original_width"), shape.get("original_height")
    size = np.array((width, height) if width and height else get_size(), np.float64) / 100
    kind = str(shape["type"]).removesuffix("labels")
    if kind == "polygon":
        points = np.array(value["points"], np.float64).reshape(-1, 2) * size
        if len(points) < 3:
            raise ValueError(f"a polygon of {len(points)} points")
    elif kind == "ellipse":
        radii = np.array([value["radiusX"], value["radiusY"]], np.float64) * size
        x, y = (np.array([value["x"], value["y"]], np.float64) * size).tolist()
        rx, ry = radii.tolist()
        points = obb_corners((x, y), (2 * rx, 2 * ry), math.radians(float(value.get("rotation") or 0)))
    else:
        x, y = (np.array([value["x"], value["y"]], np.float64) * size).tolist()
        w, h = (np.array([value["width"], value["height"]], np.float64) * size).tolist()
        points = turn_rectangle(RotatedRectangle(x, y, w, h, float(value.get("rotation") or 0)))
    if not np.isfinite(points).all():
        raise ValueError("a number is not finite")
    return points


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
