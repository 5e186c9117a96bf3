"""The interface of a benchmark, and the registry that finds one by its name."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from lhrs import fingerprint, registry
from lhrs.data.dataset import Dataset
from lhrs.data.download import Source, data_dir, download_if_missing
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.fingerprint import sha256_of_file

BENCHMARKS = "lhrs.evaluation.benchmarks"
"""The package whose modules are the benchmarks, and the entry-point group of benchmarks from other packages."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark."""

    id: str
    images: tuple[str, ...]
    question: str
    """The question or the expression. For classes and captions it is empty: each model is asked in its own words."""
    answer: str | tuple[str, ...] | tuple[float, ...] | int | tuple[int, ...]
    """A text; the references of a caption; a box, xyxy pixels of the image; the index of the correct option; or the
    indices of the correct options of a question of which several may be correct."""
    options: tuple[str, ...] = ()
    type: str | None = None
    """Question type; several types are separated by `|`."""
    answerable: bool = True
    """False where the question has a false premise."""
    question_group: str | None = None
    """The same for all wordings of one question: they count as one in intervals and tests."""


class Benchmark(ABC):
    """Questions with answers, in a fixed order. A subclass defines them; the name of its file is the benchmark's."""

    metric: ClassVar[str]
    """Name of the metric that asks and scores the questions."""
    homepage: ClassVar[str]
    license: ClassVar[str]
    layout: ClassVar[str]
    """What `root` must contain, in one line."""
    download_hint: ClassVar[str]
    """How to get the data, in one line."""
    source: ClassVar[Source | None] = None
    """Where `fetch` downloads the data from; None where the license or the host does not allow that."""
    groups: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Question types by the group whose score is reported too."""
    all_wordings: ClassVar[bool] = False
    """A question counts only if all its wordings are answered correctly, which the metric `choice` scores as
    `circular`; otherwise it counts by the mean over its wordings."""
    expected_hash: ClassVar[Mapping[str, str]] = {}
    """`data_hash` of the official questions by split (`""` is the default split), where it is known."""

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        """Find the data.

        Args:
            root: see `layout`.
            split: another split than the benchmark's default.

        Raises:
            DataError: data are missing or broken.
        """
        self.root, self.split = Path(os.path.abspath(root)), split
        self.dropped = Dropped()
        """Counts of the questions that `items` dropped."""
        if not self.root.exists():
            raise DataError(f"{self.root} does not exist. Expected {self.layout}. {self.download_hint}")

    @abstractmethod
    def items(self) -> list[Item]:
        """Return the questions; dropped questions are counted in `dropped`.

        Raises:
            DataError: data are missing or broken.
        """

    def items_with_images(self) -> list[Item]:
        """Return the questions whose images exist; the others are counted in `dropped`.

        Raises:
            DataError: data are missing or broken, or no question has its images.
        """
        self.dropped = Dropped()
        items = self.items()
        complete = []
        for item in items:
            missing = [image for image in item.images if not os.path.exists(image)]
            if missing:
                self.dropped.add("questions without their image", missing[0])
            else:
                complete.append(item)
        if items and not complete:
            raise DataError(
                f"{self.root} has none of the images of {self.name()}: {items[0].images[0]} does not exist. "
                f"Expected {self.layout}."
            )
        return complete

    def metadata(self) -> dict[str, Any]:
        """Return what the report states about the data in addition to their hash."""
        return {}

    @classmethod
    def fetch(cls) -> Path:
        """Return the folder of the data, downloaded if missing; see `lhrs.data.download`.

        Raises:
            ConfigError: they cannot be downloaded by a program.
            DataError: the download failed.
            MissingExtraError: the extra `bench` is not installed.
        """
        if cls.source is None:
            raise ConfigError(f"where is {cls.name()}? Write {cls.name()}=PATH. {cls.download_hint}")
        return download_if_missing(cls.source)

    @classmethod
    def name(cls) -> str:
        """Return the name by which it is found."""
        return cls.__module__.rpartition(".")[2].replace("_", "-")

    @property
    def full_name(self) -> str:
        """Its name, and the split if it is not the default."""
        return f"{self.name()}:{self.split}" if self.split else self.name()


def data_hash(items: Sequence[Item]) -> str:
    """Return a hash of questions, answers and images: equal hashes mean that the same data were scored.

    Raises:
        DataError: an image cannot be read.
    """
    lines = []
    for item in items:
        digests = [image_digest(image) for image in item.images]
        fields = [item.id, digests, item.question, item.answer, item.options, item.type, item.answerable]
        lines.append(json.dumps(fields, ensure_ascii=False).encode() + b"\n")
    return fingerprint.sha256_of_bytes(b"".join(lines))[:16]


def data_provenance(benchmark: Benchmark, items: Sequence[Item], complete: bool) -> dict[str, Any]:
    """Return which data were scored: their hash, and whether it equals the pinned one.

    Args:
        benchmark: gives the pinned hash; without one, or if not all questions are asked, `pinned` is None.
        items: the questions that are asked.
        complete: whether those are all questions of the benchmark.

    Raises:
        DataError: an image cannot be read.
    """
    digest = data_hash(items)
    expected = benchmark.expected_hash.get(benchmark.split or "") if complete else None
    pinned = None if expected is None else digest == expected
    provenance = {"data_hash": digest, "pinned": pinned, **benchmark.metadata()}
    return {**provenance, "expected_hash": expected} if pinned is False else provenance


@lru_cache(maxsize=1 << 17)
def image_digest(file: str) -> str:
    """Return the SHA-256 of an image file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return sha256_of_file(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}.") from None


def find_benchmark(name: str) -> type[Benchmark]:
    """Return a benchmark by name.

    Raises:
        ConfigError: there is none of that name.
    """
    return registry.get_component(BENCHMARKS, name.replace("-", "_"), Benchmark)  # type: ignore[type-abstract]


def open_benchmark(spec: str, log: Callable[[str], None] = lambda line: None) -> Benchmark:
    """Return the benchmark of `NAME[:SPLIT]=PATH`; without a path it is downloaded, see `Benchmark.fetch`.

    Args:
        spec: name, split and path.
        log: receives a line before a download.

    Raises:
        ConfigError: there is none of that name, or no path and no download.
        DataError: its data are missing, or the download failed.
        MissingExtraError: the extra `bench` is not installed.
    """
    name_and_split, _, path = spec.partition("=")
    name, _, split = name_and_split.partition(":")
    benchmark = find_benchmark(name)
    if not path and benchmark.source is not None and not data_dir(benchmark.source).exists():
        log(f"{name}: downloading to {data_dir(benchmark.source)}; {benchmark.license}")
    return benchmark(path or benchmark.fetch(), split or None)


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks, importing none."""
    return [name.replace("_", "-") for name in registry.list_components(BENCHMARKS)]


class SceneBenchmark(Benchmark):
    """Scene classes as folders of images."""

    metric = "classify"
    layout = "a folder with <class>/<image>, or <split>/<class>/<image>"
    num_classes: ClassVar[int]
    default_split: ClassVar[str | None] = None
    """The split that is scored if there are splits."""

    def items(self) -> list[Item]:
        from lhrs.data.datasets.image_folder import ImageFolder

        dataset = self._read(ImageFolder)
        samples = list(dataset)
        labels = tuple(sorted({sample.labels[0] for sample in samples}))
        if len(labels) != self.num_classes:
            raise DataError(
                f"{self.root} has {len(labels)} classes, {self.name()} has {self.num_classes}. {self.download_hint}"
            )
        self.dropped.update(dataset.dropped)
        return [Item(sample.id, tuple(sample.images), "", sample.labels[0], labels) for sample in samples]

    def _read(self, reader: type[Dataset]) -> Dataset:
        if self.split is not None:
            return reader(self.root, self.split)
        try:
            return reader(self.root, self.default_split)
        except DataError as error:
            if "has no split" not in str(error):
                raise
            return reader(self.root)
