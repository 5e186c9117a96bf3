"""InternVL: thousandths in doubled brackets between tags, `<ref>ship</ref><box>[[12, 30, 45, 60]]</box>`."""

from collections.abc import Sequence

from lhrs.boxes import Size
from lhrs.inference.decoding import Constraint, Vocabulary
from lhrs.inference.model_family import ModelFamily


class InternVL(ModelFamily):
    """InternVL 2 to 3.5."""

    model_types = ("internvl",)
    ground_prompt = (
        "Please provide the bounding box coordinates of the region this sentence describes: <ref>{expression}</ref>"
    )

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        return f"<box>[{super().write_boxes(boxes, seen_wh)}]</box>"

    def box_constraint(self, vocabulary: Vocabulary) -> Constraint | None:
        """See `ModelFamily.box_constraint`. There is none: the tags are special tokens of the model."""
        return None
