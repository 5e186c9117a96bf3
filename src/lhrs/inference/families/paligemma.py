"""PaliGemma: four location tokens of 1,024 bins, rows before columns, `<loc0034><loc0012><loc0400><loc0500> ship`."""

import re
from collections.abc import Sequence

import numpy as np

from lhrs.boxes import ParsedBoxes, Size
from lhrs.inference.decoding import Constraint, Vocabulary
from lhrs.inference.model_family import ModelFamily

_RUN = re.compile(r"(?:<loc(?:\d{4})>)+")
_ROWS_FIRST = [1, 0, 3, 2]
_BINS = 1024


class PaliGemma(ModelFamily):
    """PaliGemma 1 and 2; prompts are their task prefixes."""

    model_types = ("paligemma",)
    ask_prompt = "answer en {question}"
    ask_options_prompt = "answer en {question} {options}"
    caption_prompt = "caption en"
    scene_prompt = "answer en what is the land use?"
    classify_prompt = "answer en which of these is it: {options}?"
    ground_prompt = "detect {expression}"
    count_prompt = "answer en how many {target} are there?"

    def read_boxes(self, text: str, seen_wh: Size) -> ParsedBoxes:
        """See `ModelFamily.read_boxes`; bins are read as their centers."""
        runs = [[int(n) for n in re.findall(r"\d{4}", run)] for run in _RUN.findall(text)]
        boxes = [run[n : n + 4] for run in runs for n in range(0, len(run), 4)]
        unit = (np.array([b for b in boxes if len(b) == 4], float).reshape(-1, 4)[:, _ROWS_FIRST] + 0.5) / _BINS
        good = (unit[:, 2:] >= unit[:, :2]).all(1) & (unit < 1).all(1)
        return ParsedBoxes(unit[good].astype(np.float32), len(boxes) - int(good.sum()))

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        bins = np.minimum((np.array(boxes, float).reshape(-1, 4) * _BINS).astype(int), _BINS - 1)[:, _ROWS_FIRST]
        return " ; ".join("".join(f"<loc{n:04}>" for n in box) + " object" for box in bins.tolist())

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """See `ModelFamily.box_constraint`; labels are free text."""
        return None
