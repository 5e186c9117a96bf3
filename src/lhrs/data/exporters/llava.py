"""LLaVA's JSON (Liu et al., 2023, arXiv:2304.08485)."""

from collections.abc import Sequence
from typing import Any

from lhrs.boxes import Size
from lhrs.data.chat_export import ChatExporter, Conversation, conversations, further_keys
from lhrs.data.turn_texts import box_text
from lhrs.schema import Box


class LlavaExporter(ChatExporter):
    """`data.json`: a list of `id`, `image` and `conversations`. Boxes are fractions of the image, without labels.

    LLaVA's trainer reads one image per conversation and no `system`.
    """

    homepage = "https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md"
    has_labels = False

    def write_boxes(self, boxes: Sequence[Box], size_wh: Size, before: str) -> str:
        return box_text(boxes, size_wh, "norm1")

    def to_row(self, conversation: Conversation) -> dict[str, Any]:
        images = conversation.images
        named = {"image": images[0] if len(images) == 1 else list(images)} if images else {}
        return {"id": conversation.id, **named, **further_keys(conversation),
                "conversations": conversations(conversation)}  # fmt: skip
