"""Qwen2.5-VL: JSON with pixels of the image as the model saw it, `[{"bbox_2d": [12, 30, 45, 60], "label": "ship"}]`."""

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from lhrs.boxes import ParsedBoxes, Size, clip_boxes
from lhrs.inference.decoding import Constraint, Vocabulary
from lhrs.inference.model_family import ModelFamily

_BOX = re.compile(r'"bbox_2d"\s*:\s*(\[[^\]]*\]?)')
_NUMBERS = re.compile(r"-?\d+(?:\.\d+)?")


class Qwen25VL(ModelFamily):
    """Qwen2.5-VL; Qwen3-VL differs in the unit of its coordinates."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl", "qwen2_5_omni_thinker")
    ground_prompt = "Locate {expression}, output its bbox coordinates using JSON format."

    def scale(self, seen_wh: Size) -> Size:
        """Return the coordinates of the right and the lower edge."""
        return seen_wh

    def read_boxes(self, text: str, seen_wh: Size) -> ParsedBoxes:
        """See `ModelFamily.read_boxes`. Boxes that exceed the image by more than 5 % are malformed."""
        numbers = [[float(n) for n in _NUMBERS.findall(box)] if box.endswith("]") else [] for box in _BOX.findall(text)]
        unit = np.array([b for b in numbers if len(b) == 4], float).reshape(-1, 4) / np.tile(self.scale(seen_wh), 2)
        good = (unit > -0.05).all(1) & (unit < 1.05).all(1) & (unit[:, 2:] >= unit[:, :2]).all(1)
        return ParsedBoxes(clip_boxes(unit[good], (1, 1)).astype(np.float32), len(numbers) - int(good.sum()))

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        pixels = np.rint(np.array(boxes, float).reshape(-1, 4) * np.tile(self.scale(seen_wh), 2)).astype(int)
        return "[" + ", ".join(f'{{"bbox_2d": {box}, "label": "object"}}' for box in pixels.tolist()) + "]"

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """See `ModelFamily.box_constraint`; labels are free text."""
        return None
