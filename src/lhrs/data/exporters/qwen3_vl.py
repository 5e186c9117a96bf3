"""The JSON of Qwen's trainer, with the boxes of Qwen3-VL."""

import json
from collections.abc import Sequence
from typing import Any

from lhrs.boxes import Size
from lhrs.data.chat_export import ChatExporter, Conversation, conversations, further_keys
from lhrs.data.turn_texts import box_text
from lhrs.schema import Box


def write_qwen3_boxes(boxes: Sequence[Box], size_wh: Size) -> str:
    """Return boxes as Qwen3-VL writes them: a JSON list of thousandths of the image and labels."""
    rows = [(box_text([box], size_wh, "norm1000"), json.dumps(box.label, ensure_ascii=False)) for box in boxes]
    return "[" + ", ".join(f'{{"bbox_2d": {numbers}, "label": {label}}}' for numbers, label in rows) + "]"


class Qwen3VLExporter(ChatExporter):
    """`data.json`: a list of `image` or `images` and `conversations`. Boxes are JSON with thousandths of the image.

    Qwen's trainer reads no `system`.
    """

    homepage = "https://github.com/QwenLM/Qwen3-VL/blob/main/qwen-vl-finetune/README.md"

    def write_boxes(self, boxes: Sequence[Box], size_wh: Size, before: str) -> str:
        return write_qwen3_boxes(boxes, size_wh)

    def to_row(self, conversation: Conversation) -> dict[str, Any]:
        images = conversation.images
        named = {"image": images[0]} if len(images) == 1 else {"images": list(images)} if images else {}
        return {"id": conversation.id, **named, **further_keys(conversation),
                "conversations": conversations(conversation)}  # fmt: skip
