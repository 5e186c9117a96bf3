"""Rows and images of the releases of XLRS-Bench (Wang et al., 2025, arXiv:2503.23771)."""

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from lhrs import fingerprint
from lhrs.atomic_io import write_atomic
from lhrs.errors import DataError, MissingExtraError
from lhrs.evaluation.benchmark import Benchmark, Item
from lhrs.evaluation.benchmarks._options import without_letter
from lhrs.metrics.answer_parsing import letters_in

XLRS_LICENSE = "CC-BY-NC-SA-4.0 (annotations); images of DOTA, ITCVD, MiniFrance, HRSCD, Toronto, Potsdam: academic use"
SEVERAL = "Overall Land use classification"
"""The task in which several options may be correct."""
TASK_GROUPS = {  # as in lmms_eval/tasks/xlrs/mcq_utils.py, whose authors are the benchmark's
    "Complex reasoning": (
        "Anomaly Detection and Interpretation", "Environmental condition reasoning", "Route planning",
    ),
    "Counting": (
        "Counting with changing detection", "Counting with complex reasoning", "Overall counting", "Regional counting",
    ),
    "Land use classification": (SEVERAL, "Regional Land use classification"),
    "Object properties": ("Object classification", "Object color", "Object motion state"),
    "Object spatial relationship": ("Object spatial relationship",),
}  # fmt: skip
_IMAGES = "images"


class XlrsBenchmark(Benchmark):
    """A release with one question a row, as Parquet files or as Arrow files of `datasets`.

    Images are stored in the rows. They are written once to the folder `images`, each under its hash.
    """

    homepage = "https://xlrs-bench.github.io"
    license = XLRS_LICENSE
    default_split: ClassVar[str | None] = None
    """The split that is scored if none is named; None for all."""

    def items(self) -> list[Item]:
        paths = self._paths()
        items: list[Item] = []
        for path in paths:
            try:
                for row in _rows(path):
                    items.append(self._item(len(items), row))
            except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
                raise DataError(f"{path}: row {len(items)} is not {self.name()}'s ({error!r}).") from None
        return items

    @abstractmethod
    def _item(self, number: int, row: dict[str, Any]) -> Item: ...

    def _paths(self) -> list[Path]:
        """Return the files of the split, in order: `SPLIT-00000-of-00002.parquet` or `SPLIT/data-*.arrow`."""
        split = self.split or self.default_split
        paths = sorted(path for suffix in ("*.parquet", "*.arrow") for path in self.root.rglob(suffix))
        if split is not None:
            paths = [p for p in paths if p.name.startswith(f"{split}-") or p.parent.name == split]
        if not paths:
            of_split = f" of the split {split!r}" if split else ""
            raise DataError(
                f"{self.root} has no *.parquet or *.arrow{of_split}. Expected {self.layout}. {self.download_hint}"
            )
        return paths

    def _unpacked(self, images: dict[str, Any] | list[dict[str, Any]]) -> tuple[str, ...]:
        """Return the paths of the images of a row."""
        return tuple(str(self._write(image)) for image in (images if isinstance(images, list) else [images]))

    def _write(self, image: dict[str, Any]) -> Path:
        data = image["bytes"]
        suffix = Path(image.get("path") or "").suffix or ".png"
        path = self.root / _IMAGES / f"{fingerprint.sha256_of_bytes(data)[:32]}{suffix}"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_atomic(path, data)
        return path


class XlrsChoices(XlrsBenchmark):
    """Thirteen tasks with four options; in one task several options may be correct, then all of them are required."""

    metric = "choice"
    groups = TASK_GROUPS

    def _item(self, number: int, row: dict[str, Any]) -> Item:
        options = tuple(without_letter(option) for option in row["multi-choice options"])
        correct = letters_in(row["answer"].upper(), len(options))
        if correct is None:
            raise ValueError(f"answer {row['answer']!r} of {len(options)} options")
        task = row["category"].split("/")[1]
        answer = tuple(correct) if task == SEVERAL or len(correct) > 1 else correct[0]
        return Item(f"{number:05d}", self._unpacked(row["image"]), row["question"].strip(), answer, options, task)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file one by one: a row may hold 300 MB of image.

    Raises:
        DataError: the file is broken.
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("reading Parquet needs the extra `eval`: pip install 'lhrs[eval]'") from None
    try:
        if path.suffix == ".arrow":
            with arrow.memory_map(str(path)) as file, arrow.ipc.open_stream(file) as stream:
                for batch in stream:
                    for n in range(batch.num_rows):
                        yield batch.slice(n, 1).to_pylist()[0]
            return
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1):
                yield from batch.to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is not a whole {path.suffix[1:].capitalize()} file: {error}.") from error
