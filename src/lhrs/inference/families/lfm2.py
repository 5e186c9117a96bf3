"""LFM2-VL and LFM2.5-VL: JSON with fractions of the image, `[{"label": "ship", "bbox": [0.12, 0.3, 0.45, 0.6]}]`."""

from lhrs.inference.box_notation import BoxNotation, NotationFamily


class Lfm2(NotationFamily):
    """LFM2-VL and LFM2.5-VL; only the latter is trained on boxes."""

    model_types = ("lfm2_vl",)
    notation = BoxNotation("xyxy", 1, key="bbox")
    ground_prompt = (
        "Detect all instances of: {expression}. Response must be a JSON array: "
        '[{"label": ..., "bbox": [x1, y1, x2, y2]}, ...]. Coordinates are normalized to [0,1].'
    )
