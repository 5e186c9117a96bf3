"""Florence-2: four location tokens of 1,000 bins after the name, `ship<loc_12><loc_30><loc_45><loc_60>`."""

from collections.abc import Sequence

from lhrs.boxes import Size
from lhrs.inference.box_notation import BoxNotation, NotationFamily


class Florence2(NotationFamily):
    """Florence-2; its processor turns task tags into the sentences of its training. It answers single questions."""

    model_types = ("florence2",)
    notation = BoxNotation("xyxy", 1000, bins=True)
    ask_options_prompt = "{question} {options}"
    caption_prompt = "<CAPTION>"
    scene_prompt = "<CAPTION>"
    classify_prompt = "Which of these is it: {options}?"
    ground_prompt = "<CAPTION_TO_PHRASE_GROUNDING>{expression}"
    count_prompt = "How many {target} are there?"

    def write_boxes(self, boxes: Sequence[Sequence[float]], seen_wh: Size) -> str:
        """See `ModelFamily.write_boxes`."""
        rows = self.notation.numbers(boxes, self.notation.extent(seen_wh))
        return "".join("object" + "".join(f"<loc_{n}>" for n in row.split(", ")) for row in rows)
