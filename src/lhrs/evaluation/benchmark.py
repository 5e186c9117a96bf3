"""What every benchmark promises, and how one is found by its name."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from lhrs import registry
from lhrs.data.dataset import Dataset
from lhrs.errors import ConfigError, DataError

BENCHMARKS = "lhrs.evaluation.benchmarks"
"""The package whose modules are the benchmarks, and the entry-point group of benchmarks from elsewhere."""

Metric = Literal["classify", "vqa", "count", "choice", "grounding", "caption"]


@dataclass(frozen=True)
class Item:
    """One question of a benchmark."""

    id: str
    images: tuple[str, ...]
    question: str
    """As the benchmark has it; for `classify` and `caption` empty, then each model is asked in its own words; for
    `grounding` the expression."""
    answer: str | tuple[str, ...] | tuple[float, ...] | int
    """Text; references of a caption; xyxy pixels of the image; index of the right option."""
    options: tuple[str, ...] = ()
    type: str | None = None
    """Of the question; several are parted by `|`."""


class Benchmark(ABC):
    """Questions with answers, in a fixed order. A subclass says what they are; its file's name is the benchmark's."""

    metric: ClassVar[Metric]
    homepage: ClassVar[str]
    licence: ClassVar[str]
    layout: ClassVar[str]
    """What has to be at `root`, in one line."""
    obtain: ClassVar[str]
    """How to get it, in one line."""

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

    @classmethod
    def name(cls) -> str:
        """Return the name by which it is found."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")


def find_benchmark(name: str) -> type[Benchmark]:
    """Return a benchmark by name.

    Raises:
        ConfigError: there is none of that name.
    """
    return registry.find(BENCHMARKS, name.replace("-", "_"), Benchmark)  # type: ignore[type-abstract]


def open_benchmark(given: str) -> Benchmark:
    """Return the benchmark that `NAME[:SPLIT]=PATH` names.

    Raises:
        ConfigError: there is none of that name, or no path.
        DataError: its data is not there.
    """
    named, _, path = given.partition("=")
    name, _, split = named.partition(":")
    found = find_benchmark(name)
    if not path:
        raise ConfigError(f"where is {name}? Say {name}=PATH. {found.obtain}")
    return found(path, split or None)


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
