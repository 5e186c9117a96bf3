"""RSIEval, detailed captions (Hu et al., 2023, arXiv:2307.15266)."""

from typing import Any

from lhrs.evaluation.benchmark import Item
from lhrs.evaluation.benchmarks._rsieval import RsiEval


class RsiEvalCaption(RsiEval):
    """One caption of several sentences per image, scored with BLEU, ROUGE-L and CIDEr.

    The authors publish no scorer; it could not be checked whether their captions are tokenized as here.
    """

    metric = "caption"

    def _of_image(self, name: str, image: str, row: dict[str, Any]) -> list[Item]:
        return [Item(name, (image,), "", (row["caption"].strip(),))]
