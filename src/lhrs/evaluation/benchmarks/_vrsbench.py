"""Base class of the benchmarks for the three tasks of VRSBench (Li et al., 2024, arXiv:2406.12384)."""

from abc import abstractmethod
from typing import Any, ClassVar

from lhrs.data.dataset import read_json
from lhrs.data.download import HubSource
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item

_FOLDERS = ("Images_val", "images", "")


class VrsBench(Benchmark):
    """One json of entries with `image_id`, `question`, `ground_truth`."""

    homepage = "https://vrsbench.github.io"
    license = "CC-BY-4.0 (annotations); images of DOTA and DIOR: academic use"
    download_hint = (
        "Download Images_val.zip and the VRSBench_EVAL files from https://huggingface.co/datasets/xiang709/VRSBench."
    )
    source = HubSource("xiang709/VRSBench", ("VRSBench_EVAL_*.json", "Images_val.zip"))
    file: ClassVar[str]

    def items(self) -> list[Item]:
        path = self.root / self.file
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError(f"{path} is not a list of entries.")
        items = []
        for n, row in enumerate(content):
            try:
                name = str(row["image_id"])
                images = [self.root / folder / name for folder in _FOLDERS]
                image = str(next((p for p in images if p.exists()), images[0]))
                items.append(self._item(str(row.get("question_id", n)), image, row))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(f"{path}: entry {n} is not VRSBench's ({error!r}).") from None
        return items

    @abstractmethod
    def _item(self, identity: str, image: str, row: dict[str, Any]) -> Item: ...
