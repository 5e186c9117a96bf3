"""LHRS-Bench (Muhtar et al., 2024, arXiv:2402.02544): 690 single choices about 108 images."""

from typing import Any

from lhrs.data.dataset import read_json
from lhrs.data.download import HubSource
from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import split_options

_FOLDERS = ("imgs_png", "imgs_jpg", "images", "")


class LhrsBench(Benchmark):
    """Eleven question types; a question of several types counts in each. `--protocol circular` asks every rotation.

    The paper has five groups of types, but neither its data nor its code name them. The groups here are ours.
    """

    metric = "choice"
    homepage = "https://github.com/NJU-LHRS/LHRS-Bot"
    license = "images of Google Earth: research only"
    layout = "a folder with qa.json and imgs_png/ (or imgs_jpg/)"
    download_hint = "Download LHRS-Bench from https://huggingface.co/datasets/PumpkinCat/LHRS_Data and unpack it."
    source = HubSource("PumpkinCat/LHRS_Data", ("LHRS-Bench/*",), "LHRS-Bench")
    groups = {
        "recognition": ("identity", "color", "shape"),
        "position": ("orientation", "distance", "location"),
        "quantity": ("quantity", "area"),
        "image": ("resolution", "modality"),
        "reasoning": ("reasoning",),
    }

    def items(self) -> list[Item]:
        path = self.root / "qa.json" if self.root.is_dir() else self.root
        content = read_json(path)
        try:
            kinds = {int(str(key).split()[0]): " ".join(str(key).split()[1:]) for key in content.get("qtype", {})}
            rows = [(entry, pair) for entry in content["data"] for pair in entry["qa_pairs"]]
            items = [self._item(n, entry["filename"], pair, kinds) for n, (entry, pair) in enumerate(rows)]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is not LHRS-Bench's format ({error!r}).") from None
        return items

    def _item(self, number: int, name: str, pair: dict[str, Any], kinds: dict[int, str]) -> Item:
        options = split_options(pair["choices"])
        letter = pair["answer"].strip().rstrip(".").upper()
        answer = "ABCDEFGHIJ".index(letter)
        if answer >= len(options):
            raise ValueError(f"answer {letter} of {len(options)} options in question {number}")
        types = pair.get("type") or []
        named = "|".join(kinds.get(int(t), str(t)) for t in (types if isinstance(types, list) else [types]))
        folder = self.root if self.root.is_dir() else self.root.parent
        candidates = [folder / place / name for place in _FOLDERS]
        image = next((path for path in candidates if path.exists()), candidates[0])
        question = pair["question"].strip()
        return Item(f"{number:04d}/{name}", (str(image),), question, answer, tuple(options), named or None)
