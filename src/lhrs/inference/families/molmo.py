"""Molmo: points instead of boxes; a box is asked for as its two corners.

Molmo 2 writes thousandths, `<points coords="1 1 012 030 2 045 060">ship</points>`: the number of the image, then for
each point its number, x and y. Molmo 1 writes percent, `<points x1="1.2" y1="3.0" x2="4.5" y2="6.0">ship</points>`.
"""

import re
from collections.abc import Sequence

import numpy as np

from lhrs.boxes import ParsedBoxes, Size
from lhrs.inference.decoding import Constraint, Vocabulary
from lhrs.inference.model_family import ModelFamily

_COORDS = re.compile(r'coords="\s*\d+\s+([\d\s]*)')
_PERCENT = re.compile(r'\bx\d*="\s*(\d+(?:\.\d+)?)"\s+y\d*="\s*(\d+(?:\.\d+)?)"')


class Molmo(ModelFamily):
    """Molmo 1 on servers, and Molmo 2."""

    model_types = ("molmo2",)
    ground_prompt = "Point to the top left corner and to the bottom right corner of {expression}."

    def read_boxes(self, text: str, seen_wh: Size) -> ParsedBoxes:
        """See `ModelFamily.read_boxes`. Each two points are a box; a single point at the end is malformed."""
        points = [(float(x) / 100, float(y) / 100) for x, y in _PERCENT.findall(text)]
        for coords in _COORDS.findall(text):
            numbers = [float(number) for number in coords.split()]
            points += [(numbers[n + 1] / 1000, numbers[n + 2] / 1000) for n in range(0, len(numbers) - 2, 3)]
        corners = np.array(points[: len(points) // 2 * 2], float).reshape(-1, 2, 2)
        boxes = np.concatenate([corners.min(1), corners.max(1)], 1)
        good = (boxes <= 1).all(1)
        return ParsedBoxes(boxes[good].astype(np.float32), int((~good).sum()) + len(points) % 2)

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        points = np.rint(np.array(boxes, float).reshape(-1, 2) * 1000).astype(int).tolist()
        if not points:
            return "There are none."
        coords = " ".join(f"{n} {x:03} {y:03}" for n, (x, y) in enumerate(points, 1))
        return f'<points coords="1 {coords}">object</points>'

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """See `ModelFamily.box_constraint`; labels are free text."""
        return None
