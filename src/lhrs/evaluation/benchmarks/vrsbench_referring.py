"""VRSBench, referring expressions (Li et al., 2024, arXiv:2406.12384)."""

import re
from typing import Any

from lhrs.evaluation.benchmark import Item
from lhrs.evaluation.benchmarks._vrsbench import VrsBench
from lhrs.imagery.band_stack import image_shape


class VrsBenchReferring(VrsBench):
    """One box for one expression; the truth, `{<x1><y1><x2><y2>}` in hundredths, is scored in pixels."""

    metric = "grounding"
    layout = "a folder with VRSBench_EVAL_referring.json and Images_val/"
    file = "VRSBench_EVAL_referring.json"

    def _item(self, identity: str, image: str, row: dict[str, Any]) -> Item:
        from pathlib import Path

        numbers = re.fullmatch(r"\{<(\d+)><(\d+)><(\d+)><(\d+)>\}", row["ground_truth"].strip())
        if not numbers:
            raise ValueError(f"ground_truth {row['ground_truth']!r} is no box")
        height, width = image_shape(Path(image))
        x1, y1, x2, y2 = (int(v) / 100 for v in numbers.groups())
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        unique = row.get("is_unique")
        kind = None if unique is None else "unique" if unique else "not unique"
        return Item(identity, (image,), row["question"].strip(), box, type=kind)
