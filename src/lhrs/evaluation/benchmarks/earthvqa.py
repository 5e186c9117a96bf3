"""EarthVQA (Wang et al., 2024, AAAI, arXiv:2312.12222): questions about the images of LoveDA, for city planning."""

from pathlib import Path
from typing import Any

from lhrs.data.dataset import read_json
from lhrs.data.image_files import ImageFinder
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item

_SPLITS = ("Train", "Val", "Test")


class EarthVqa(Benchmark):
    """Six types of questions with answers of a fixed vocabulary, which must be given word by word.

    `accuracy` is the authors' OA, `by_type` their accuracies by type (VQA_OA_Metric in utils/metric.py). Their RMSE of
    counts, which scales classes of percentages, is not computed; `count_mae` is the error of plain counts. The default
    split is Val: answers of Test are scored by the authors at https://www.codabench.org/competitions/2922.
    """

    metric = "vqa"
    homepage = "https://github.com/Junjue-Wang/EarthVQA"
    license = "CC-BY-NC-SA-4.0; images of Google Earth: academic use"
    layout = "a folder with Val_QA.json and Val/images_png/ (and those of Train and Test)"
    download_hint = "Fill in the form that its homepage links to, and unpack the data."
    groups = {
        "basic": ("Basic Judging", "Basic Counting"),
        "reasoning": ("Reasoning-based Judging", "Reasoning-based Counting"),
        "analysis": ("Object Situation Analysis", "Comprehensive Analysis"),
    }

    def items(self) -> list[Item]:
        split = (self.split or "val").capitalize()
        if split not in _SPLITS:
            raise DataError(f"earthvqa has the splits {', '.join(_SPLITS)}, not {self.split!r}.")
        path, images = self.root / f"{split}_QA.json", self.root / split
        content = read_json(path)
        if not isinstance(content, dict):
            raise DataError(f"{path} is not an object of questions by image.")
        folders = (images / "images_png", images / "Urban/images_png", images / "Rural/images_png")
        finder = ImageFinder(*folders)
        items = [item for name, rows in content.items() for item in self._of_image(path, name, rows, finder)]
        if not items:
            raise DataError(f"{path} has no answers. {self.dropped.summary()}")
        return items

    def _of_image(self, path: Path, name: str, rows: Any, finder: ImageFinder) -> list[Item]:
        image, items = str(finder.find_or_expected(name)), []
        for n, row in enumerate(rows):
            try:
                kind, question, *answers = row.values()  # by position, as EarthVQADataset.generate_pairs reads them
            except (AttributeError, ValueError):
                raise DataError(f"{path}: question {n} of {name} is not EarthVQA's: {str(row)[:80]}.") from None
            if not answers or answers[0] is None:
                self.dropped.add("questions without an answer", name)
                continue
            items.append(Item(f"{name}/{n}", (image,), str(question).strip(), str(answers[0]), type=str(kind)))
        return items
