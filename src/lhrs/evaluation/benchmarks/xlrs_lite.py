"""XLRS-Bench-lite (Wang et al., 2025, arXiv:2503.23771): choices about images of about 8,500 pixels a side."""

from pathlib import Path
from typing import Any

from lhrs import fingerprint
from lhrs.atomic_io import write_atomic
from lhrs.data.download import HubSource
from lhrs.errors import DataError, MissingExtraError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import without_letter
from lhrs.metrics.answer_parsing import letters_in

_SEVERAL = "Overall Land use classification"
_IMAGES = "images"


class XlrsLite(Benchmark):
    """Thirteen tasks with four options; in one task several options may be correct, then all of them are required.

    Images are stored in the Parquet files. They are written once to the folder `images`, each under its hash.
    """

    metric = "choice"
    homepage = "https://xlrs-bench.github.io"
    license = "CC-BY-NC-SA-4.0 (annotations); images of DOTA, ITCVD, MiniFrance, HRSCD, Toronto, Potsdam: academic use"
    layout = "a folder with the Parquet files of initiacms/XLRS-Bench-lite"
    download_hint = "Download https://huggingface.co/datasets/initiacms/XLRS-Bench-lite."
    source = HubSource("initiacms/XLRS-Bench-lite", ("*.parquet", "**/*.parquet"))
    groups = {  # as in lmms_eval/tasks/xlrs/mcq_utils.py, whose authors are the benchmark's
        "Complex reasoning": (
            "Anomaly Detection and Interpretation", "Environmental condition reasoning", "Route planning",
        ),
        "Counting": (
            "Counting with changing detection", "Counting with complex reasoning", "Overall counting",
            "Regional counting",
        ),
        "Land use classification": (_SEVERAL, "Regional Land use classification"),
        "Object properties": ("Object classification", "Object color", "Object motion state"),
        "Object spatial relationship": ("Object spatial relationship",),
    }  # fmt: skip

    def items(self) -> list[Item]:
        try:
            import pyarrow as arrow
            import pyarrow.parquet as parquet
        except ImportError:
            raise MissingExtraError("reading Parquet needs the extra `eval`: pip install 'lhrs[eval]'") from None
        paths = sorted(self.root.rglob("*.parquet"))
        if not paths:
            raise DataError(f"{self.root} has no *.parquet. Expected {self.layout}. {self.download_hint}")
        items: list[Item] = []
        for path in paths:
            try:
                with parquet.ParquetFile(path) as file:
                    for batch in file.iter_batches(batch_size=1):  # a row may hold 300 MB of image
                        items += [self._item(len(items), row) for row in batch.to_pylist()]
            except (OSError, arrow.ArrowException) as error:
                raise DataError(f"{path} is not a whole Parquet file: {error}.") from error
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(f"{path}: row {len(items)} is not XLRS-Bench-lite's ({error!r}).") from None
        return items

    def _item(self, number: int, row: dict[str, Any]) -> Item:
        options = tuple(without_letter(option) for option in row["multi-choice options"])
        correct = letters_in(row["answer"].upper(), len(options))
        if correct is None:
            raise ValueError(f"answer {row['answer']!r} of {len(options)} options")
        task = row["category"].split("/")[1]
        answer = tuple(correct) if task == _SEVERAL or len(correct) > 1 else correct[0]
        images = tuple(str(self._unpacked(image)) for image in row["image"])
        return Item(f"{number:05d}", images, row["question"].strip(), answer, options, task)

    def _unpacked(self, image: dict[str, Any]) -> Path:
        data = image["bytes"]
        suffix = Path(image.get("path") or "").suffix or ".png"
        path = self.root / _IMAGES / f"{fingerprint.sha256_of_bytes(data)[:32]}{suffix}"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, data)
        return path
