"""ms-swift's messages, with its own notation of boxes."""

from collections.abc import Sequence
from typing import Any

from lhrs.boxes import Size
from lhrs.data.chat_export import ChatExporter, Conversation
from lhrs.errors import DataError
from lhrs.schema import BOX_PLACEHOLDER, Box, Sample, Turn

_BOX, _PHRASE = "<bbox>", "<ref-object>"


class SwiftExporter(ChatExporter):
    """`data.jsonl`: `messages`, `images` and `objects` with boxes in pixels, which ms-swift converts for its model.

    Boxes after a text come with their labels, as `<ref-object><bbox>`.
    """

    homepage = "https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html"
    file = "data.jsonl"
    _mark = _BOX
    """Text of a box in the current conversation."""

    def render(self, texts: Sequence[str], turns: Sequence[Turn], size_wh: Size, sample: Sample) -> list[str]:
        for mark in (_BOX, _PHRASE):
            if any(mark in text for text in texts):
                raise DataError(f"sample {sample.id!r} of {sample.source}: {mark} in a text, which ms-swift replaces.")
        # ms-swift counts phrases and boxes through the conversation: labels are written for all boxes or for none.
        self._mark = _BOX if any(BOX_PLACEHOLDER in turn.text for turn in turns if turn.boxes) else _PHRASE + _BOX
        return super().render(texts, turns, size_wh, sample)

    def write_boxes(self, boxes: Sequence[Box], size_wh: Size, before: str) -> str:
        return self._mark * len(boxes)

    def to_row(self, conversation: Conversation) -> dict[str, Any]:
        system = [("system", conversation.system)] if conversation.system else []
        messages = [{"role": role, "content": text} for role, text in (*system, *conversation.turns)]
        row: dict[str, Any] = {"id": conversation.id, "messages": messages, "images": list(conversation.images)}
        if conversation.boxes:
            boxes = conversation.boxes
            row["objects"] = {"ref": [box.label for box in boxes], "bbox": [list(box.xyxy) for box in boxes]}
        return row | ({"split": conversation.split} if conversation.split else {})
