"""Boxes inside the texts of published conversations: their notations, read into boxes and written again.

A text keeps its words; each box in it becomes `lhrs.schema.BOX_PLACEHOLDER`. Corners of an oriented box are in order
around it, first along the side that its angle turns. Angles are degrees clockwise in the image.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lhrs.boxes import Size
from lhrs.data.dataset import bounding_box, box_corners, outline_of
from lhrs.data.oriented_boxes import outline_box, turn_box
from lhrs.schema import BOX_PLACEHOLDER, Box

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_UNIT = r"(?:0?\.\d+|1(?:\.0*)?|0\.?)"
_ANGLED = rf"\{{(?:\s*<\s*{_NUMBER}\s*>){{4}}\s*\|\s*<\s*{_NUMBER}\s*>\s*\}}"
_PHRASE = re.compile(r"<p>(.*?)</p>|<ref>(.*?)</ref>|<\|object_ref_start\|>(.*?)<\|object_ref_end\|>", re.DOTALL)
_QWEN_TOKEN = re.compile(r"<\|object_ref_(?:start|end)\|>")
UNKNOWN_LABEL = "object"
"""Label of a box without a phrase."""


@dataclass(frozen=True)
class BoxNotation:
    """One way of writing boxes in a text."""

    pattern: str
    """Of one box, or of a tag around several; without groups."""
    count: int
    """Numbers of a box."""
    to_corners: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Corners `(4, 2)` in pixels from the numbers and the image's width and height, both float64."""
    write: Callable[[np.ndarray, np.ndarray], str]
    """The opposite."""


def _straight(scale: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return lambda numbers, size: box_corners((numbers / scale * np.tile(size, 2)).tolist())


def _bounds(corners: np.ndarray, size: np.ndarray, scale: float) -> list[float]:
    return (np.array(bounding_box(corners)) / np.tile(size, 2) * scale).tolist()


def _angled_corners(numbers: np.ndarray, size: np.ndarray) -> np.ndarray:
    return turn_box(numbers[:4] / 100 * np.tile(size, 2), numbers[4])


def _centered_corners(numbers: np.ndarray, size: np.ndarray) -> np.ndarray:
    center, sides = numbers[:2], numbers[2:4]
    return _angled_corners(np.concatenate([center - sides / 2, center + sides / 2, numbers[4:]]), size)


def _center_sides_angle(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return center, (width, height) and the angle of a rectangle in whole degrees, from 1 to 90 as OpenCV has them."""
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    sides = np.array([np.hypot(*along), np.hypot(*down)])
    degrees = round(math.degrees(math.atan2(along[1], along[0]))) % 180
    if degrees > 90:
        degrees, sides = degrees - 90, sides[::-1]
    elif degrees == 0:
        degrees, sides = 90, sides[::-1]
    return corners.mean(0), sides, degrees


def _write_angled(corners: np.ndarray, size: np.ndarray) -> str:
    center, sides, degrees = _center_sides_angle(corners)
    values = np.concatenate([center - sides / 2, center + sides / 2]) / np.tile(size, 2) * 100
    return "{" + "".join(f"<{value:.0f}>" for value in values) + f"|<{degrees}>}}"


def _write_centered(corners: np.ndarray, size: np.ndarray) -> str:
    center, sides, degrees = _center_sides_angle(corners)
    values = np.concatenate([center, sides]) / np.tile(size, 2) * 100
    return "<rbox>({" + "".join(f"<{value:.2f}>" for value in values) + f"|<{degrees}>}})</rbox>"


def _write_numbers(form: str, scale: float) -> Callable[[np.ndarray, np.ndarray], str]:
    return lambda corners, size: form.format(*_bounds(corners, size, scale))


NOTATIONS = {
    "fit-rs": BoxNotation(rf"<rbox>[^<]*?(?:{_ANGLED}[^<]*)+</rbox>", 5, _centered_corners, _write_centered),
    "geochat": BoxNotation(_ANGLED, 5, _angled_corners, _write_angled),
    "vrsbench": BoxNotation(
        rf"\{{(?:\s*<\s*{_NUMBER}\s*>){{4}}\s*\}}", 4, _straight(100),
        _write_numbers("{{<{:.0f}><{:.0f}><{:.0f}><{:.0f}>}}", 100),
    ),
    "internvl": BoxNotation(
        r"<box>\s*\[\s*\[[-+\d.,\s\[\]]*\]\s*\]\s*</box>", 4, _straight(1000),
        _write_numbers("<box>[[{:.0f}, {:.0f}, {:.0f}, {:.0f}]]</box>", 1000),
    ),
    "qwen2-vl": BoxNotation(
        rf"<\|box_start\|>(?:\s*,?\s*\(\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\)){{2}}\s*<\|box_end\|>", 4, _straight(1000),
        _write_numbers("<|box_start|>({:.0f},{:.0f}),({:.0f},{:.0f})<|box_end|>", 1000),
    ),
    "norm1": BoxNotation(
        rf"(?:<bbox>\s*)?\[(?=[^\]]*\.)\s*{_UNIT}(?:\s*,\s*{_UNIT}){{3}}\s*\](?:\s*</bbox>)?", 4, _straight(1),
        _write_numbers("[{:.3f}, {:.3f}, {:.3f}, {:.3f}]", 1),
    ),
    "bigearthnet": BoxNotation(
        rf"\[\s*{_UNIT}\s+{_UNIT}\s*,\s*{_UNIT}\s+{_UNIT}\s*\]", 4, _straight(1),
        _write_numbers("[{:.2f} {:.2f}, {:.2f} {:.2f}]", 1),
    ),
}  # fmt: skip
"""Notations by name:

`geochat`: `{<x1><y1><x2><y2>|<angle>}`, percent of width and height before the turn (GeoChat's own demo turns so).
`fit-rs`: `<rbox>({<x><y><width><height>|<angle>})</rbox>`, center and sides in percent.
`vrsbench`: `{<x1><y1><x2><y2>}`, percent. `internvl`: `<box>[[x1, y1, x2, y2]]</box>`, of 1000.
`qwen2-vl`: `<|box_start|>(x1,y1),(x2,y2)<|box_end|>`, of 1000. `norm1`: `[x1, y1, x2, y2]`, fractions with a point.
`bigearthnet`: `[x1 y1, x2 y2]`, fractions.
"""
_ANY = re.compile("|".join(f"(?P<n{i}>{notation.pattern})" for i, notation in enumerate(NOTATIONS.values())))
_FORMS = tuple(NOTATIONS.values())


def has_boxes(text: str) -> bool:
    """Return whether a text contains a box in one of `NOTATIONS`."""
    return _ANY.search(text) is not None


def is_only_boxes(text: str) -> bool:
    """Return whether a text contains boxes in `NOTATIONS` and nothing else but separators."""
    return has_boxes(text) and not _ANY.sub("", text).strip(" \n,;.")


def read_boxes(text: str, size_wh: Size, phrase: str = UNKNOWN_LABEL) -> tuple[str, list[Box]]:
    """Return a text with a placeholder for each box, and the boxes, as annotated.

    Qwen's tokens around phrases are left out of the text: other models do not know them.

    Args:
        text: In any of `NOTATIONS`.
        size_wh: Of the image that the boxes are on.
        phrase: Label of boxes before which the text marks no phrase with `<p>` or `<ref>`.
    """
    size, boxes = np.array(size_wh, np.float64), list[Box]()

    def replace(match: re.Match[str]) -> str:
        notation = _FORMS[int(str(match.lastgroup)[1:])]
        numbers = np.array(re.findall(_NUMBER, re.sub(r"(?<![\d])\.", "0.", match[0])), np.float64)
        label = last_phrase(text[: match.start()]) or phrase
        rows = numbers[: len(numbers) // notation.count * notation.count].reshape(-1, notation.count)
        for corners in (notation.to_corners(row, size) for row in rows):
            # A box without an angle is kept as annotated, even if reversed, for `lhrs data lint` to report.
            straight = (*corners[0].tolist(), *corners[2].tolist())
            boxes.append(outline_box(label, corners) if notation.count == 5 else Box(label=label, xyxy=straight))
        return BOX_PLACEHOLDER * len(rows)

    return _QWEN_TOKEN.sub("", _ANY.sub(replace, text)), boxes


def write_boxes(text: str, boxes: list[Box], size_wh: Size, notation: str) -> str:
    """Return a text with its boxes in place of their placeholders; the opposite of `read_boxes`.

    Args:
        text: With one placeholder for each box.
        boxes: In the text's order.
        size_wh: Of their image.
        notation: One of `NOTATIONS`.
    """
    form, size = NOTATIONS[notation], np.array(size_wh, np.float64)
    texts = [form.write(outline_of(box), size) for box in boxes]
    first, *rest = text.split(BOX_PLACEHOLDER)
    return first + "".join(box + piece for box, piece in zip(texts, rest, strict=True))


def last_phrase(text: str) -> str | None:
    """Return the last phrase that a text marks as one that boxes belong to."""
    phrases = [next(filter(None, match.groups()), "").strip() for match in _PHRASE.finditer(text)]
    return phrases[-1] if phrases and phrases[-1] else None
