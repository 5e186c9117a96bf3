"""Visual grounding of CHOICE (An et al., 2024, arXiv:2411.18145)."""

import re

from lhrs.data.dataset import read_json
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.imagery.band_stack import image_shape

_TASK = "perception/single_instance_identification/visual_grounding"
_EXPRESSION = re.compile(r"coordinates of (.+?) in the image")


class ChoiceGrounding(Benchmark):
    """One object for one expression. The ground truth is four corners of an oriented box, relative to the image.

    The upright box around the corners is scored, as models write upright boxes. The authors' evaluator.py scores the
    corners themselves, which no upright box matches; its scores are lower.
    """

    metric = "grounding"
    homepage = "https://github.com/ShawnAn-WHU/CHOICE"
    license = "MIT"
    layout = f"a folder with {_TASK}/visual_grounding.json and images/"
    download_hint = "Download CHOICE as described on its homepage."

    def items(self) -> list[Item]:
        path = self.root / _TASK / "visual_grounding.json"
        items = []
        for n, row in enumerate(read_json(path)):
            try:
                expression = _EXPRESSION.search(row["question"])
                if not expression:
                    raise ValueError(f"no expression in {row['question'][:60]!r}")
                image = self.root / row["image_path"]
                height, width = image_shape(image)
                x, y = zip(*row["answer"], strict=True)
                box = (min(x) * width, min(y) * height, max(x) * width, max(y) * height)
                items.append(Item(str(row["id"]), (str(image),), expression[1], box))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(f"{path}: entry {n} is not CHOICE's ({error!r}).") from None
        return items
