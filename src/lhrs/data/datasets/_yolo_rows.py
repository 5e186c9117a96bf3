"""Rows of YOLO's text files, and their detection."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lhrs.data.dataset import read_text
from lhrs.errors import DataError

_MAX_SNIFFED = 20
_MARGIN = 0.5
"""Tolerance for coordinates outside 0-1 in the detection of YOLO files."""


class YoloRow(NamedTuple):
    """One object of a label file, in fractions of the image's sides."""

    number: int
    """Of the class."""
    points: np.ndarray
    """float64 `(P, 2)`: a polygon, or the corners of a box."""
    xyxy: np.ndarray
    """float64 `(4,)`."""
    confidence: float | None = None


def read_rows(path: Path, has_keypoints: bool = False) -> list[YoloRow]:
    """Return the rows of a label file.

    A row is `class x y w h`; or a class and the points of a polygon, as many as there are, which are four for an
    oriented box. A confidence may follow either kind of box.

    Args:
        path: The file.
        has_keypoints: The values after `class x y w h` are keypoints, which are not read.

    Raises:
        DataError: A line is none of these.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            try:
                rows.append(_parse(line.split(), has_keypoints))
            except ValueError as error:
                raise DataError(f"{path}:{number}: not a row of YOLO ({error}): {line[:80]!r}.") from None
    return rows


def _parse(fields: Sequence[str], has_keypoints: bool) -> YoloRow:
    values = np.array(fields, float)
    if len(values) < 5:
        raise ValueError("it needs a class and four numbers")
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    if values[0] != int(values[0]) or values[0] < 0:
        raise ValueError("the class is no number from 0")
    number, confidence = int(values[0]), None
    if len(values) in (6, 10) and not has_keypoints:  # an upright or oriented box and its confidence
        confidence = float(values[-1])
        if not 0 <= confidence <= 1:
            raise ValueError("the confidence is not within 0-1")
        values = values[:-1]
    if len(values) == 5 or has_keypoints:
        x, y, w, h = values[1:5]
        xyxy = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
        return YoloRow(number, xyxy[[[0, 1], [2, 1], [2, 3], [0, 3]]], xyxy, confidence)
    if len(values) % 2 == 0:
        raise ValueError("a polygon needs pairs of numbers")
    points = values[1:].reshape(-1, 2)
    return YoloRow(number, points, np.concatenate([points.min(0), points.max(0)]), confidence)


def classify_texts(paths: Sequence[Path]) -> tuple[bool, bool]:
    """Return whether any of the first twenty text files contains rows of YOLO, and whether any contains other text."""
    has_rows = has_text = False
    judged = 0
    for path in paths:
        lines = _first_lines(path)
        if lines:
            is_rows = _are_rows(lines)
            has_rows, has_text, judged = has_rows or is_rows, has_text or not is_rows, judged + 1
        if judged == _MAX_SNIFFED:
            break
    return has_rows, has_text


def _first_lines(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()][:5]
    except DataError:
        return []


def _are_rows(lines: Sequence[str]) -> bool:
    try:
        points = np.concatenate([_parse(line.split(), False).points for line in lines])
    except ValueError:
        return False
    return bool(((points >= -_MARGIN) & (points <= 1 + _MARGIN)).all())
