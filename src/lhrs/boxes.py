"""Boxes: conversions, overlap, and the text forms in which models write them. Pure numpy.

A box is xyxy in pixels of the original image: x right, y down, (0, 0) the outer corner of the top-left pixel. A box
around the whole image is `[0, 0, width, height]` and its area is `width * height`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Size = tuple[int, int]
"""(width, height) of an image in pixels."""


class ParsedBoxes(NamedTuple):
    """Boxes found in a text."""

    boxes: np.ndarray
    """float32 `(N, 4)`, xyxy pixels."""
    num_malformed: int
    """Incomplete or invalid boxes: not four numbers, x2 < x1, y2 < y1, or far outside the image."""


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Return `(N, 4)` boxes as left, top, width, height (COCO)."""
    boxes = _as_boxes(boxes)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Return `(N, 4)` boxes of left, top, width, height as xyxy."""
    boxes = _as_boxes(boxes)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def scale_boxes(boxes: np.ndarray, from_wh: tuple[float, float], to_wh: tuple[float, float]) -> np.ndarray:
    """Return `(N, 4)` xyxy boxes of an image resized from one (width, height) to another."""
    return _as_boxes(boxes) * np.tile(np.divide(to_wh, from_wh), 2)


def clip_boxes(boxes: np.ndarray, size_wh: tuple[float, float]) -> np.ndarray:
    """Return `(N, 4)` xyxy boxes clipped to the image."""
    return np.clip(_as_boxes(boxes), 0, np.tile(size_wh, 2))


def box_area(boxes: np.ndarray) -> np.ndarray:
    """Return float64 `(...)`, the area of `(..., 4)` xyxy boxes; 0 if x2 < x1 or y2 < y1."""
    return (boxes[..., 2] - boxes[..., 0]).clip(min=0) * (boxes[..., 3] - boxes[..., 1]).clip(min=0)


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N, M)`, the common area of xyxy boxes `(N, 4)` and `(M, 4)`."""
    return _intersection(_as_boxes(a)[:, None], _as_boxes(b)[None])


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N, M)`, intersection over union of xyxy boxes `(N, 4)` and `(M, 4)`.

    Sides are x2 - x1; no pixel is added to them.
    Boxes without area, with x2 < x1 or y2 < y1, or with coordinates that are not finite, overlap with nothing.
    """
    return _iou(_as_boxes(a)[:, None], _as_boxes(b)[None])


def iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)`, intersection over union of the n-th boxes of `(N, 4)` and `(N, 4)`; see `iou`."""
    return _iou(_as_boxes(a), _as_boxes(b))


def polygon_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N, M)`, intersection over union of quadrangles `(N, 4, 2)` and `(M, 4, 2)`."""
    a, b = (np.asarray(corners, np.float64).reshape(-1, 4, 2) for corners in (a, b))
    overlap = np.zeros((len(a), len(b)))
    low_a, high_a, low_b, high_b = a.min(1), a.max(1), b.min(1), b.max(1)
    meets = ((low_a[:, None] < high_b[None]) & (low_b[None] < high_a[:, None])).all(-1)
    rows, columns = meets.nonzero()
    overlap[rows, columns] = polygon_iou_pairs(a[rows], b[columns])
    return overlap


def polygon_iou_pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return float64 `(N,)`, intersection over union of the n-th quadrangles of `(N, 4, 2)` and `(N, 4, 2)`.

    Self-intersecting quadrangles are made valid.
    """
    import shapely

    shapes = [shapely.polygons(np.asarray(c, float)) for c in (a, b)]
    shapes = [np.where(shapely.is_valid(s), s, shapely.make_valid(s)) for s in shapes]
    inter = shapely.area(shapely.intersection(*shapes))
    union = shapely.area(shapes[0]) + shapely.area(shapes[1]) - inter
    return np.divide(inter, union, out=np.zeros(len(inter)), where=union > 0)


def geometry_iou(a: Any, b: Any) -> float:
    """Return intersection over union of two valid shapely polygons; 0 if both are empty."""
    union = a.union(b).area
    return float(a.intersection(b).area / union) if union else 0.0


def common_area(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the common area of two xyxy boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    left, top = (np.maximum(a[..., n], b[..., n]) for n in (0, 1))
    right, bottom = (np.minimum(a[..., n], b[..., n]) for n in (2, 3))
    return (right - left).clip(min=0) * (bottom - top).clip(min=0)


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        inter = _intersection(a, b)
        union = box_area(a) + box_area(b) - inter
        overlap = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return np.where(np.isfinite(overlap), overlap, 0.0)


@dataclass(frozen=True)
class _Style:
    """A text form of boxes: how it is written, found in a text, and parsed."""

    write: Callable[[np.ndarray], str]
    """Text of one box, from float64 `(4,)` in 0-1."""
    find: Callable[[str], Iterator[list[float] | None]]
    """Candidates in a text, in the style's own coordinates; None for an unreadable candidate."""
    to_unit: Callable[[np.ndarray], np.ndarray]
    separator: str


_OVERSHOOT = 0.05
"""Largest overshoot of the image edge, as a fraction of its side, that is clipped; a box beyond is malformed."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NUMBERS = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*{_NUMBER})*\s*,?\s*")
_BRACKET = re.compile(r"\[([^\[\]]*)(?:\]|$|(?=\[))")
_TAG = re.compile(r"<bbox>(.*?)(?:</bbox>|$|(?=<bbox>))", re.DOTALL)
_PARENTHESES = re.compile(r"\(([^()]*)(?:\)|$|(?=\())(\s*,?\s*(?=\())?")


def _numbers(text: str) -> list[float] | None:
    return [float(v) for v in re.findall(_NUMBER, text)] if _NUMBERS.fullmatch(text) else None


def _find_brackets(text: str) -> Iterator[list[float] | None]:
    for content in _BRACKET.findall(text):
        # Brackets around words, such as the task tag [VG], are not boxes.
        if re.search(r"\d", content) and not re.search(r"[A-Za-z]{2}", content):
            yield _numbers(content)


def _find_tags(text: str) -> Iterator[list[float] | None]:
    for content in _TAG.findall(text):
        boxes = list(_find_brackets(content))
        yield from boxes or [None]


def _find_corner_pairs(text: str) -> Iterator[list[float] | None]:
    first: list[float] | None = None
    for content, joined in _PARENTHESES.findall(text):
        corner = _numbers(content)
        if corner is None and first is None:
            continue  # words in parentheses
        if first is None and joined:
            first = corner
        else:
            yield [*(first or []), *(corner or [])]
            first = None


def _brackets(limit: int, spec: str, comma: str) -> Callable[[np.ndarray], str]:
    return lambda unit: f"[{comma.join(format(v, spec) for v in unit * limit)}]"


def _write_qwen(unit: np.ndarray) -> str:
    x1, y1, x2, y2 = (unit * 1000).round().astype(int)
    return f"({x1},{y1}),({x2},{y2})"


def _divide(limit: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda numbers: numbers / limit


_write_nova = _brackets(1, ".3f", ",")
_STYLES = {
    "norm1": _Style(_brackets(1, ".3f", ", "), _find_brackets, _divide(1), ", "),
    "nova": _Style(lambda unit: f"<bbox>{_write_nova(unit)}</bbox>", _find_tags, _divide(1), ", "),
    "percent": _Style(_brackets(100, ".0f", ", "), _find_brackets, _divide(100), ", "),
    "norm1000": _Style(_brackets(1000, ".0f", ", "), _find_brackets, _divide(1000), ", "),
    "qwen": _Style(_write_qwen, _find_corner_pairs, _divide(1000), " "),
}
STYLES = tuple(_STYLES)
"""Text forms of boxes:

`norm1` (LHRS-Bot): `[0.120, 0.300, 0.450, 0.600]`, fractions of the image to three decimals, half a pixel at 1,000.
`nova` (LHRS-Bot-Nova): `<bbox>[0.120,0.300,0.450,0.600]</bbox>`.
`percent`: `[12, 30, 45, 60]`. `norm1000`: `[120, 300, 450, 600]`, of 1000. `qwen`: `(120,300),(450,600)`, of 1000.
"""


def format_boxes(boxes_xyxy: np.ndarray, size_wh: Size, style: str) -> str:
    """Return the text of `(N, 4)` xyxy pixel boxes, clipped to the image, in one of `STYLES`.

    Raises:
        ValueError: A box has x2 < x1 or y2 < y1 or is not finite, or the style is unknown.
    """
    form = _style(style)
    boxes = _as_boxes(boxes_xyxy)
    if not (np.isfinite(boxes).all() and (boxes[:, 2:] >= boxes[:, :2]).all()):
        raise ValueError(f"not xyxy boxes: {boxes.tolist()}")
    unit = clip_boxes(boxes / np.tile(size_wh, 2), (1, 1))
    return form.separator.join(form.write(box) for box in unit)


def parse_boxes(text: str, size_wh: Size, style: str) -> ParsedBoxes:
    """Return the boxes in a text of one of `STYLES`, in order, clipped to the image; other words are ignored.

    Raises:
        ValueError: The style is unknown.
    """
    form = _style(style)
    candidates = list(form.find(text))
    complete = [c for c in candidates if c is not None and len(c) == 4]
    unit = form.to_unit(np.array(complete, np.float64).reshape(-1, 4))
    inside = (unit >= -_OVERSHOOT).all(1) & (unit <= 1 + _OVERSHOOT).all(1)
    good = inside & (unit[:, 2:] >= unit[:, :2]).all(1)
    pixels = scale_boxes(clip_boxes(unit[good], (1, 1)), (1, 1), size_wh).astype(np.float32)
    return ParsedBoxes(pixels, len(candidates) - len(pixels))


def box_pattern(style: str) -> tuple[str, str]:
    """Return regular expressions of one box as `format_boxes` writes it, and of the separator of two boxes.

    Coordinates are 0 to the style's limit; their order is not checked.
    """
    form = _style(style)
    low, high = (form.write(np.full(4, value)) for value in (0.0, 1.0))
    limit = re.findall(_NUMBER, high)[0]
    digits = len(limit) - 1
    number = (
        rf"0\.[0-9]{{{digits - 1}}}|{re.escape(limit)}" if "." in limit else rf"0|[1-9][0-9]{{0,{digits - 1}}}|{limit}"
    )
    return f"(?:{number})".join(re.escape(part) for part in re.split(_NUMBER, low)), re.escape(form.separator)


def max_coordinate_with_prefix(beginning: str, style: str) -> float:
    """Return the largest coordinate with a prefix in a text style: "0.4" can become 0.499, "1" can become 1000."""
    return max((float(text) for text in _coordinates(style) if text.startswith(beginning)), default=-np.inf)


@cache
def _coordinates(style: str) -> tuple[str, ...]:
    """Return every coordinate that a text style can write."""
    write = _style(style).write
    return tuple(re.findall(_NUMBER, write(np.full(4, n / 1000)))[0] for n in range(1001))


def _style(name: str) -> _Style:
    if name not in _STYLES:
        raise ValueError(f"unknown box style {name!r}; known: {', '.join(STYLES)}")
    return _STYLES[name]


def _as_boxes(boxes: np.ndarray) -> np.ndarray:
    return np.asarray(boxes, np.float64).reshape(-1, 4)
