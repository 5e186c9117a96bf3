"""VRSBench, questions (Li et al., 2024, arXiv:2406.12384), judged strictly instead of by a language model."""

from typing import Any

from lhrs.evaluation.benchmark import Item
from lhrs.evaluation.benchmarks._vrsbench import VrsBench


class VrsBenchVqa(VrsBench):
    """Short answers of ten types. The paper lets GPT-4 judge; strict scores are lower and the same every time."""

    metric = "vqa"
    layout = "a folder with VRSBench_EVAL_vqa.json and Images_val/"
    file = "VRSBench_EVAL_vqa.json"

    def _item(self, identity: str, image: str, row: dict[str, Any]) -> Item:
        return Item(identity, (image,), row["question"].strip(), row["ground_truth"].strip(), type=row.get("type"))
