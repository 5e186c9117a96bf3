"""Qwen3-VL: the JSON of Qwen2.5-VL with thousandths of the image."""

from lhrs.inference.box_notation import BoxNotation
from lhrs.inference.families.qwen2_5_vl import Qwen25VL


class Qwen3VL(Qwen25VL):
    """Qwen3-VL and Qwen3.5."""

    model_types = ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen3_omni_moe_thinker")
    notation = BoxNotation("xyxy", 1000, key="bbox_2d")
