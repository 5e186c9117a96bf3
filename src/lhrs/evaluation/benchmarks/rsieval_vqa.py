"""RSIEval, questions (Hu et al., 2023, arXiv:2307.15266)."""

import re
from typing import Any

from lhrs.evaluation.benchmark import Item
from lhrs.evaluation.benchmarks._rsieval import RsiEval
from lhrs.metrics.answer_parsing import parse_number

_COUNT = re.compile(r"there (?:is|are) [\w -]+ in (?:the|this) image", re.IGNORECASE)
_INEXACT = re.compile(r"\b(?:more|less|fewer|over|about|around|than|at least|approximately)\b", re.IGNORECASE)


class RsiEvalVqa(RsiEval):
    """936 questions of ten types with free answers, judged strictly: yes or no, a number, or the exact words.

    The authors publish no scorer, and their free answers suit a human judge: strict scores are lower. A true answer
    such as `There are seven planes in the image.` counts as the number in it.
    """

    metric = "vqa"

    def _of_image(self, name: str, image: str, row: dict[str, Any]) -> list[Item]:
        return [
            Item(f"{name}/{n}", (image,), pair["question"].strip(), _plain(pair["answer"].strip()), type=pair["type"])
            for n, pair in enumerate(row["qa_pairs"])
        ]


def _plain(answer: str) -> str:
    """Return the number in a sentence that states a count, and any other answer as it is."""
    number = parse_number(answer)
    is_count = number is not None and _COUNT.fullmatch(answer.rstrip(".")) and not _INEXACT.search(answer)
    return f"{number:g}" if is_count else answer
