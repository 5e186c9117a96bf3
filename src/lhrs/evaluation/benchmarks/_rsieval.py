"""Base class of the benchmarks for both tasks of RSIEval (Hu et al., 2023, arXiv:2307.15266)."""

from abc import abstractmethod
from typing import Any

from lhrs.data.dataset import read_json
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item


class RsiEval(Benchmark):
    """`annotations.json` with `filename`, `caption` and `qa_pairs` of 100 images."""

    homepage = "https://github.com/Lavender105/RSGPT"
    license = "images of DOTA: academic use"
    layout = "a folder with annotations.json and images/"
    download_hint = "Copy dataset/RSIEval from https://github.com/Lavender105/RSGPT."

    def items(self) -> list[Item]:
        path = self.root / "annotations.json"
        content = read_json(path)
        rows = content.get("annotations") if isinstance(content, dict) else None
        if not isinstance(rows, list):
            raise DataError(f"{path} has no list `annotations`.")
        items: list[Item] = []
        for n, row in enumerate(rows):
            try:
                items += self._of_image(row["filename"], str(self.root / "images" / row["filename"]), row)
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(f"{path}: entry {n} is not RSIEval's ({error!r}).") from None
        return items

    @abstractmethod
    def _of_image(self, name: str, image: str, row: dict[str, Any]) -> list[Item]: ...
