"""Gemma 3 and 4: JSON with thousandths, rows before columns, `[{"box_2d": [30, 12, 60, 45], "label": "ship"}]`."""

from lhrs.inference.box_notation import BoxNotation, NotationFamily


class Gemma(NotationFamily):
    """Gemma 3, 3n and 4. Gemma 4 is trained on boxes; Gemma 3 often writes them in the same form."""

    model_types = ("gemma3", "gemma3n", "gemma4", "gemma4_unified")
    notation = BoxNotation("yxyx", 1000, key="box_2d")
    ground_prompt = (
        "Detect {expression}. Answer with a JSON list only. Each item has the bounding box in `box_2d` as "
        "[y1, x1, y2, x2], from 0 to 1000, and the name in `label`."
    )
