"""How a model writes boxes in text: the order and the unit of their coordinates. Pure numpy.

`lhrs.boxes` has the text forms that lhrs trains and exports. This module reads the forms of models by others, whose
coordinates may count pixels of the image that the processor resized.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from lhrs.boxes import ParsedBoxes, Size, clip_boxes
from lhrs.inference.decoding import Constraint, Vocabulary
from lhrs.inference.model_family import ModelFamily

Order = Literal["xyxy", "yxyx", "xywh", "cxcywh"]
ORDERS: tuple[Order, ...] = get_args(Order)
"""Corners, corners with rows first, a corner and the size, the center and the size."""
Scale = float | Literal["image", "resized"]
"""The coordinate of the right and the lower edge, or the pixels of the image that was sent or resized."""

_OVERSHOOT = 0.05
"""Largest overshoot of the image edge, as a fraction of its side, that is clipped; a box beyond is malformed."""
_NUMBER = r"(?<![\w.])-?(?:\d+(?:\.\d+)?|\.\d+)(?!\w)"
_NAME = r"(?:[xy]_?(?:min|max|[12])|left|top|right|bottom|width|height|[xywh])"
_PAIR = rf"\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)"
_FORMS = re.compile(
    rf"""(?P<tokens>(?:<loc_?\d+>\s*)+)
    | <(?P<tag>bbox|box)>(?P<tagged>.*?)(?:</(?P=tag)>|$)
    | (?P<corners>{_PAIR}\s*,?\s*{_PAIR})
    | (?P<named>\{{[^{{}}\[\]]*"?{_NAME}"?\s*:[^{{}}\[\]]*(?:\}}|$))
    | (?P<list>\[[^\[\]]*(?:\]|$|(?=\[)))
    | \((?P<tuple>[^()]*)(?:\)|$)""",
    re.VERBOSE | re.DOTALL,
)
_NAMED = re.compile(rf"{_NAME}\"?\s*:\s*({_NUMBER})")
_WORD = re.compile(r"[A-Za-z]{2}")


@dataclass(frozen=True)
class BoxNotation:
    """The order and the unit of the four numbers of a box."""

    order: Order = "xyxy"
    scale: Scale = 1000
    multiple: int | None = None
    """With the scale "resized": sides are rounded to multiples of it, where the resized size is not known."""
    key: str | None = None
    """JSON key of a box, such as `bbox_2d`. Lists without it are then no boxes."""
    bins: bool = False
    """Whether coordinates are numbers of bins, which are read as the centers of the bins."""

    def extent(self, image_wh: Size, resized_wh: Size | None = None) -> tuple[float, float]:
        """Return the coordinates of the right and the lower edge of an image.

        Args:
            image_wh: size of the image that was sent to the model.
            resized_wh: size to which it was resized; None if it is unknown.
        """
        if not isinstance(self.scale, str):
            return self.scale, self.scale
        if self.scale == "image":
            return image_wh
        if resized_wh is None and self.multiple is not None:
            return round_size(image_wh, self.multiple)
        return resized_wh or image_wh

    def read(self, text: str, extent: tuple[float, float]) -> ParsedBoxes:
        """Return the boxes in a text, xyxy as fractions of the image (0-1).

        Boxes that exceed the image by more than 5 % are malformed.
        """
        candidates = list(find_numbers(text, self.key))
        complete = np.array([c for c in candidates if len(c) == 4], float).reshape(-1, 4)
        unit = self.to_unit(complete, extent)
        inside = (unit > -_OVERSHOOT).all(1) & (unit < 1 + _OVERSHOOT).all(1)
        good = inside & (unit[:, 2:] >= unit[:, :2]).all(1)
        return ParsedBoxes(clip_boxes(unit[good], (1, 1)).astype(np.float32), len(candidates) - int(good.sum()))

    def to_unit(self, numbers: np.ndarray, extent: tuple[float, float]) -> np.ndarray:
        """Return `(N, 4)` numbers of this notation as xyxy fractions of the image."""
        a, b, c, d = (np.asarray(numbers, float).reshape(-1, 4) + 0.5 * self.bins).T
        if self.order == "yxyx":
            a, b, c, d = b, a, d, c
        elif self.order == "xywh":
            c, d = a + c, b + d
        elif self.order == "cxcywh":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        return np.stack([a, b, c, d], 1) / np.tile(extent, 2)

    def numbers(self, boxes: Sequence[Sequence[float]], extent: tuple[float, float]) -> list[str]:
        """Return the four numbers of each box, separated by commas; the inverse of `to_unit`."""
        unit = np.array(boxes, float).reshape(-1, 4)
        x1, y1, x2, y2 = (unit * np.tile(extent, 2)).T
        if self.order == "yxyx":
            x1, y1, x2, y2 = y1, x1, y2, x2
        elif self.order == "xywh":
            x2, y2 = x2 - x1, y2 - y1
        elif self.order == "cxcywh":
            x1, y1, x2, y2 = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        values = np.stack([x1, y1, x2, y2], 1)
        if self.bins:
            return [", ".join(str(int(v)) for v in row) for row in np.minimum(values, np.tile(extent, 2) - 1)]
        decimals = 3 if max(extent) <= 1 else 1 if max(extent) <= 100 else 0
        return [", ".join(f"{v:.{decimals}f}" for v in row) for row in values]

    def write(self, boxes: Sequence[Sequence[float]], extent: tuple[float, float]) -> str:
        """Return the text of boxes as fractions of the image: JSON with a key, else lists."""
        rows = self.numbers(boxes, extent)
        if self.key is None:
            return ", ".join(f"[{row}]" for row in rows)
        return "[" + ", ".join(f'{{"{self.key}": [{row}], "label": "object"}}' for row in rows) + "]"


def find_numbers(text: str, key: str | None = None) -> Iterator[list[float]]:
    """Yield the numbers of each box in a text, not necessarily four.

    Boxes are lists, tuples, pairs of corners, `<box>` tags, runs of location tokens and JSON objects with named
    coordinates. Numbers of a sentence, and lists of words, are no boxes.

    Args:
        text: written by a model.
        key: JSON key of the lists; other lists are ignored.
    """
    if key is not None:
        for box in re.findall(rf'"{re.escape(key)}"\s*:\s*(\[[^\]]*\]?)', text):
            yield _floats(box) if box.endswith("]") else []
        return
    for match in _FORMS.finditer(text):
        inner = match[0]
        if match["tokens"]:
            numbers = [float(n) for n in re.findall(r"\d+", inner)]
        elif match["named"]:
            numbers = [float(n) for n in _NAMED.findall(inner)]
        else:
            inner = match["tagged"] if match["tag"] else inner
            if _WORD.search(inner):
                continue
            numbers = _floats(inner)
        if len(numbers) < 2:
            continue
        yield from (numbers[n : n + 4] for n in range(0, len(numbers), 4))


def _floats(text: str) -> list[float]:
    return [float(number) for number in re.findall(_NUMBER, text)]


def round_size(size_wh: Size, multiple: int) -> Size:
    """Return the size to which Qwen2-VL's processors resize an image: sides are multiples, the area is limited.

    The limits are those of the released processors: 4 to 16,384 squares of the side `multiple`.
    """
    width, height = size_wh
    low, high = 4 * multiple**2, 16384 * multiple**2
    sides = [round(side / multiple) * multiple for side in (width, height)]
    area = sides[0] * sides[1]
    if area > high:
        factor = math.sqrt(width * height / high)
        sides = [max(multiple, math.floor(side / factor / multiple) * multiple) for side in (width, height)]
    elif area < low:
        factor = math.sqrt(low / (width * height))
        sides = [math.ceil(side * factor / multiple) * multiple for side in (width, height)]
    return sides[0], sides[1]


class NotationFamily(ModelFamily):
    """A family whose boxes are in a notation of this module."""

    notation: BoxNotation = BoxNotation()

    def pixel_size(self, image_wh: Size, resized_wh: Size | None) -> Size:
        """See `ModelFamily.pixel_size`."""
        if not isinstance(self.notation.scale, str):
            return super().pixel_size(image_wh, resized_wh)
        width, height = self.notation.extent(image_wh, resized_wh)
        return int(width), int(height)

    def read_boxes(self, text: str, seen_wh: Size) -> ParsedBoxes:
        """See `ModelFamily.read_boxes`."""
        return self.notation.read(text, self._extent(seen_wh))

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        return self.notation.write(boxes, self._extent(seen_wh))

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """See `ModelFamily.box_constraint`; labels are free text."""
        return None

    def _extent(self, seen_wh: Size) -> tuple[float, float]:
        return self.notation.extent(seen_wh, seen_wh)
