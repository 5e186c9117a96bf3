"""VRSBench, detailed captions (Li et al., 2024, arXiv:2406.12384)."""

from typing import Any

from lhrs.evaluation.benchmark import Item
from lhrs.evaluation.benchmarks._vrsbench import VrsBench


class VrsBenchCaption(VrsBench):
    """Captions of several sentences, one reference each, scored with BLEU, ROUGE-L and CIDEr."""

    metric = "caption"
    layout = "a folder with VRSBench_EVAL_Cap.json and Images_val/"
    file = "VRSBench_EVAL_Cap.json"

    def _item(self, identity: str, image: str, row: dict[str, Any]) -> Item:
        return Item(identity, (image,), row["question"].strip(), (row["ground_truth"].strip(),))
