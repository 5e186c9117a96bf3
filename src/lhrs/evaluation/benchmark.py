"""What every benchmark promises, and how one is found by its name."""

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from lhrs import registry
from lhrs.data.dataset import Dataset
from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.fetching import Source, fetched, place

BENCHMARKS = "lhrs.evaluation.benchmarks"
"""The package whose modules are the benchmarks, and the entry-point group of benchmarks from elsewhere."""

Metric = Literal["classify", "vqa", "count", "choice", "grounding", "caption", "honesty"]


@dataclass(frozen=True)
class Item:
    """One question of a benchmark."""

    id: str
    images: tuple[str, ...]
    question: str
    """As the benchmark has it; for `classify` and `caption` empty, then each model is asked in its own words; for
    `grounding` the expression."""
    answer: str | tuple[str, ...] | tuple[float, ...] | int | tuple[int, ...]
    """Text; references of a caption; xyxy pixels of the image; index of the right option; indices of the right options
    of a question of which several may be right."""
    options: tuple[str, ...] = ()
    type: str | None = None
    """Of the question; several are parted by `|`."""
    answerable: bool = True
    """For `honesty`: False where the question supposes what is not there."""
    same_as: str | None = None
    """What wordings of one question share: they count as one in intervals and tests."""


class Benchmark(ABC):
    """Questions with answers, in a fixed order. A subclass says what they are; its file's name is the benchmark's."""

    metric: ClassVar[Metric]
    homepage: ClassVar[str]
    licence: ClassVar[str]
    layout: ClassVar[str]
    """What has to be at `root`, in one line."""
    obtain: ClassVar[str]
    """How to get it, in one line."""
    source: ClassVar[Source | None] = None
    """Where `fetch` gets it from; None where the licence or the host does not let a program do that."""
    groups: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Types of questions by the group whose score is told too."""
    expected_hash: ClassVar[Mapping[str, str]] = {}
    """`data_hash` of the official questions by split (`` is the benchmark's own), where somebody has computed it."""

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        """Find the data.

        Args:
            root: see `layout`.
            split: another one than the benchmark's own.

        Raises:
            DataError: something is missing or broken.
        """
        self.root, self.split = Path(os.path.abspath(root)), split
        if not self.root.exists():
            raise DataError(f"{self.root} does not exist. Expected {self.layout}. {self.obtain}")

    @abstractmethod
    def items(self) -> list[Item]:
        """Return the questions.

        Raises:
            DataError: something is missing or broken.
        """

    def told(self) -> dict[str, Any]:
        """Return what the report should say about the data beside their hash."""
        return {}

    @classmethod
    def fetch(cls) -> Path:
        """Return where the data lie, having downloaded them unless they were before; see `lhrs.evaluation.fetching`.

        Raises:
            ConfigError: a program cannot get them.
            DataError: the download failed.
            MissingExtraError: the extra `bench` is not installed.
        """
        if cls.source is None:
            raise ConfigError(f"where is {cls.name()}? Say {cls.name()}=PATH. {cls.obtain}")
        return fetched(cls.source)

    @classmethod
    def name(cls) -> str:
        """Return the name by which it is found."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    @property
    def title(self) -> str:
        """Its name, and the split if another than its own is asked for."""
        return f"{self.name()}:{self.split}" if self.split else self.name()


def data_hash(items: Sequence[Item]) -> str:
    """Return a hash of questions, answers and images: who has the same scored the same.

    Raises:
        DataError: an image cannot be read.
    """
    hashed = hashlib.sha256()
    for item in items:
        said = [item.id, [image_digest(image) for image in item.images], item.question, item.answer, item.options]
        hashed.update(json.dumps([*said, item.type, item.answerable], ensure_ascii=False).encode() + b"\n")
    return hashed.hexdigest()[:16]


@lru_cache(maxsize=1 << 17)
def image_digest(file: str) -> str:
    """Return the SHA-256 of an image file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from None


def find_benchmark(name: str) -> type[Benchmark]:
    """Return a benchmark by name.

    Raises:
        ConfigError: there is none of that name.
    """
    return registry.find(BENCHMARKS, name.replace("-", "_"), Benchmark)  # type: ignore[type-abstract]


def open_benchmark(given: str, tell: Callable[[str], None] = lambda text: None) -> Benchmark:
    """Return the benchmark that `NAME[:SPLIT]=PATH` names; without a path it is downloaded, see `Benchmark.fetch`.

    Args:
        given: by the user.
        tell: is called with a line before a download.

    Raises:
        ConfigError: there is none of that name, or no path and no download.
        DataError: its data is not there, or the download failed.
        MissingExtraError: the extra `bench` is not installed.
    """
    named, _, path = given.partition("=")
    name, _, split = named.partition(":")
    found = find_benchmark(name)
    if not path and found.source is not None and not place(found.source).exists():
        tell(f"{name}: downloading to {place(found.source)}; {found.licence}")
    return found(path or found.fetch(), split or None)


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks, importing none."""
    return [name.replace("_", "-") for name in registry.names(BENCHMARKS)]


class SceneBenchmark(Benchmark):
    """Scene classes as folders of images."""

    metric = "classify"
    layout = "a folder with <class>/<image>, or <split>/<class>/<image>"
    num_classes: ClassVar[int]
    own_split: ClassVar[str | None] = None
    """The split that is scored where there are splits."""

    def items(self) -> list[Item]:
        from lhrs.data.datasets.image_folder import ImageFolder

        dataset = self._read(ImageFolder)
        labels = tuple(sorted({dataset[n].labels[0] for n in range(len(dataset))}))
        if len(labels) != self.num_classes:
            raise DataError(
                f"{self.root} has {len(labels)} classes, {self.name()} has {self.num_classes}. {self.obtain}"
            )
        return [
            Item(sample.id, tuple(sample.images), "", sample.labels[0], labels) for sample in dataset[: len(dataset)]
        ]

    def _read(self, reader: type[Dataset]) -> Dataset:
        if self.split is not None:
            return reader(self.root, self.split)
        try:
            return reader(self.root, self.own_split)
        except DataError as error:
            if "has no split" not in str(error):
                raise
            return reader(self.root)
