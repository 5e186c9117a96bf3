"""Qwen2-VL: thousandths as corner pairs, `<|box_start|>(12,30),(45,60)<|box_end|>`."""

from collections.abc import Sequence

from lhrs.boxes import Size
from lhrs.inference.decoding import Constraint, Vocabulary
from lhrs.inference.model_family import ModelFamily


class Qwen2VL(ModelFamily):
    """Qwen2-VL."""

    model_types = ("qwen2_vl",)
    box_style = "qwen"
    ground_prompt = "Detect the bounding box of {expression}."

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        return "".join(f"<|box_start|>{super(Qwen2VL, self).write_boxes([b], seen_wh)}<|box_end|>" for b in boxes)

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """See `ModelFamily.box_constraint`. There is none: boxes begin with a special token."""
        return None
