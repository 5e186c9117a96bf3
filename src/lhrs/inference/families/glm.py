"""GLM-4.1V to 4.6V: thousandths in lists, the answer between tags, `<|begin_of_box|>[[12, 30, 45, 60]]<|end_of_box|>`.

These models reason before they answer; numbers in the reasoning are no boxes.
"""

from collections.abc import Sequence

from lhrs.boxes import ParsedBoxes, Size
from lhrs.inference.box_notation import BoxNotation, NotationFamily
from lhrs.reasoning import strip_reasoning


class Glm(NotationFamily):
    """GLM-4.1V, GLM-4.5V and GLM-4.6V."""

    model_types = ("glm4v", "glm4v_moe", "glm46v")
    notation = BoxNotation("xyxy", 1000)
    ground_prompt = (
        "Locate {expression} in the image. Answer with the bounding boxes as [[x1, y1, x2, y2], ...], with whole "
        "numbers from 0 to 1000."
    )

    def read_boxes(self, text: str, seen_wh: Size) -> ParsedBoxes:
        """See `ModelFamily.read_boxes`."""
        return super().read_boxes(strip_reasoning(text), seen_wh)

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        return f"<|begin_of_box|>[{super().write_boxes(boxes, seen_wh)}]<|end_of_box|>"
