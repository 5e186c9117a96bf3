"""LLaMA-Factory's ShareGPT format."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhrs.atomic_io import write_atomic
from lhrs.boxes import Size
from lhrs.data.chat_export import ChatExporter, Conversation, conversations, further_keys
from lhrs.data.exporters.qwen3_vl import write_qwen3_boxes
from lhrs.schema import Box


class LlamaFactoryExporter(ChatExporter):
    """`data.json`, and `dataset_info.json`, which describes it as the dataset `lhrs`.

    LLaMA-Factory does not convert boxes: they are written for Qwen3-VL.
    """

    homepage = "https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md"

    def write_boxes(self, boxes: Sequence[Box], size_wh: Size, before: str) -> str:
        return write_qwen3_boxes(boxes, size_wh)

    def to_row(self, conversation: Conversation) -> dict[str, Any]:
        return {"id": conversation.id, "images": list(conversation.images), **further_keys(conversation),
                "conversations": conversations(conversation)}  # fmt: skip

    def write_extra(self, folder: Path, num_rows: int) -> None:
        columns = {"messages": "conversations", "images": "images", "system": "system"}
        info = {"lhrs": {"file_name": self.file, "formatting": "sharegpt", "columns": columns}}
        write_atomic(folder / "dataset_info.json", json.dumps(info, indent=1) + "\n")
