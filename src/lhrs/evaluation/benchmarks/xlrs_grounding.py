"""XLRS-Bench (Wang et al., 2025, arXiv:2503.23771), visual grounding in English."""

from typing import Any

from lhrs.data.download import HubSource
from lhrs.evaluation.benchmark import Item
from lhrs.evaluation.benchmarks._xlrs import XlrsBenchmark

_BEFORE_EXPRESSION = "Description: "


class XlrsGrounding(XlrsBenchmark):
    """One box for one expression, given as fractions of the image (`bbox`, xyxy), and scored in its pixels.

    The expression is the question after `Description:`; each model family is asked in its own words. The default split
    is test.
    """

    metric = "grounding"
    layout = "a folder with the Parquet or Arrow files of initiacms/XLRS-Bench_visual_grounding_en"
    download_hint = "Download https://huggingface.co/datasets/initiacms/XLRS-Bench_visual_grounding_en."
    source = HubSource("initiacms/XLRS-Bench_visual_grounding_en", ("*.parquet", "**/*.parquet", "**/*.arrow"))
    default_split = "test"

    def _item(self, number: int, row: dict[str, Any]) -> Item:
        width, height = float(row["image_width"]), float(row["image_height"])
        x1, y1, x2, y2 = (float(value) for value in row["bbox"])
        if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
            raise ValueError(f"bbox {row['bbox']} is no box of fractions")
        expression = row["question"].partition(_BEFORE_EXPRESSION)[2].strip() or row["question"].strip()
        box = (x1 * width, y1 * height, x2 * width, y2 * height)
        identity = str(row.get("question_id") or f"{number:05d}")
        return Item(identity, self._unpacked(row["image"]), expression, box, type=row.get("category"))
