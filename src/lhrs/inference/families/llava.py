"""LLaVA 1.5 and its variants: boxes as fractions of the image in brackets."""

from lhrs.inference.model_family import ModelFamily


class Llava(ModelFamily):
    """LLaVA, LLaVA-NeXT, LLaVA-OneVision, VipLLaVA."""

    model_types = ("llava", "llava_next", "llava_onevision", "vipllava")
    box_style = "norm1"
    ground_prompt = "Please provide the bounding box coordinates of the region this sentence describes: {expression}."
