"""MiniCPM-V: thousandths without commas between tags, `<ref>ship</ref><box>12 30 45 60</box>`."""

from collections.abc import Sequence

from lhrs.boxes import Size
from lhrs.inference.box_notation import BoxNotation, NotationFamily


class MiniCPMV(NotationFamily):
    """MiniCPM-V 4.5 to 4.7."""

    model_types = ("minicpmv4_6", "minicpmv4_7")
    notation = BoxNotation("xyxy", 1000)
    ground_prompt = (
        "Please provide the bounding box coordinate of the region this sentence describes: <ref>{expression}</ref>"
    )

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        rows = self.notation.numbers(boxes, self.notation.extent(seen_wh))
        return "".join(f"<ref>object</ref><box>{row.replace(',', '')}</box>" for row in rows)
