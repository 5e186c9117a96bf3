"""The JSON lines of InternVL's trainer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhrs.atomic_io import write_atomic
from lhrs.boxes import Size
from lhrs.data.chat_export import ChatExporter, Conversation, by_label, conversations, further_keys
from lhrs.data.turn_texts import box_text
from lhrs.schema import Box

_MAX_TILES = 12


class InternVLExporter(ChatExporter):
    """`data.jsonl`, and `meta.json`, which names it from its folder. Rows have `image`, `width` and `height`.

    Boxes are `<ref>label</ref><box>[[x1, y1, x2, y2]]</box>` with thousandths of the image. A text that marks the
    phrase before its boxes gets no second `<ref>`.
    """

    homepage = "https://internvl.readthedocs.io/en/latest/get_started/chat_data_format.html"
    file = "data.jsonl"
    needs_sizes = True

    def write_boxes(self, boxes: Sequence[Box], size_wh: Size, before: str) -> str:
        if before.rstrip().endswith("</ref>"):
            return f"<box>[{box_text(boxes, size_wh, 'norm1000')}]</box>"
        return "".join(
            f"<ref>{label}</ref><box>[{box_text(group, size_wh, 'norm1000')}]</box>" for label, group in by_label(boxes)
        )

    def to_row(self, conversation: Conversation) -> dict[str, Any]:
        images, sizes = conversation.images, conversation.sizes
        row: dict[str, Any] = {"id": conversation.id}
        if len(images) == 1:
            row |= {"image": images[0], "width": sizes[0][0], "height": sizes[0][1]}
        elif images:
            widths, heights = zip(*sizes, strict=True)
            row |= {"image": list(images), "width_list": list(widths), "height_list": list(heights)}
        return {**row, **further_keys(conversation), "conversations": conversations(conversation)}

    def write_extra(self, folder: Path, num_rows: int) -> None:
        entry = {"root": "", "annotation": self.file, "data_augment": False, "max_dynamic_patch": _MAX_TILES,
                 "repeat_time": 1, "length": num_rows}  # fmt: skip
        write_atomic(folder / "meta.json", json.dumps({"lhrs": entry}, indent=1) + "\n")
