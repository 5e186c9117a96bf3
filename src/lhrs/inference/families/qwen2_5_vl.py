"""Qwen2.5-VL: JSON with pixels of the image as the model saw it, `[{"bbox_2d": [12, 30, 45, 60], "label": "ship"}]`."""

from typing import ClassVar

from lhrs.inference.box_notation import BoxNotation, NotationFamily


class Qwen25VL(NotationFamily):
    """Qwen2.5-VL; Qwen3-VL differs in the unit of its coordinates."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl", "qwen2_5_omni_thinker")
    notation = BoxNotation("xyxy", "resized", multiple=28, key="bbox_2d")
    ground_prompt = "Locate {expression}, output its bbox coordinates using JSON format."
