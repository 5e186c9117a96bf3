"""What every reader of conversation data promises, and how the right one is found for a path."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np
from pydantic import ValidationError

from lhrs import registry
from lhrs.config import problem
from lhrs.errors import ConfigError, DataError
from lhrs.schema import Sample, Turn

READERS = "lhrs.data.datasets"
"""The package whose modules are the readers, and the entry-point group of readers from elsewhere."""

CAPTION_QUESTION = "Describe the image."
UNSTATED = "unstated"
"""Licence of samples whose format has no place for one."""

RowT = TypeVar("RowT")


class Outline(NamedTuple):
    """An object on the first image of a sample, as closely as the data set draws it."""

    label: str
    points: np.ndarray
    """float64 `(P, 2)`, xy pixels of the original image: a polygon, in any direction; of several parts all points."""
    difficult: bool = False
    """The data set excuses those who do not find it."""


class Dataset(Sequence[Sample], ABC):
    """Samples in a fixed order. The constructor reads annotations at most; a sample is made when it is asked for.

    Images are absolute paths and are not opened. A subclass sets the class variables, reads its annotations in its
    constructor, and says how many samples there are, what the i-th one is, and which paths look like its format.
    """

    homepage: ClassVar[str]
    """Where the data or the format comes from."""
    licence: ClassVar[str]
    layout: ClassVar[str]
    """What has to be at `root`, in one line."""

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        """Find the annotations.

        Args:
            root: File or folder, see `layout`.
            split: Only the samples of this split; None for all.

        Raises:
            DataError: Something is missing or broken, or there is no such split.
        """
        self.root = Path(os.path.abspath(root))
        self.split = split
        if not self.root.exists():
            raise DataError(f"{self.root} does not exist. Expected {self.layout}; see {self.homepage}.")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Sample:
        """Return sample `index`, counted from 0.

        Raises:
            DataError: Its annotation is broken.
        """

    def outlines(self, index: int) -> list[Outline]:
        """Return the objects of sample `index`, groups left out; the corners of boxes where there is nothing closer.

        Raises:
            DataError: Its annotation is broken.
        """
        boxes = [box for box in self[index].boxes if not box.crowd]
        return [Outline(box.label, rectangle(box.xyxy)) for box in boxes]

    @classmethod
    @abstractmethod
    def fits(cls, root: Path) -> bool:
        """Tell whether `root` looks like this format, at the cost of listing a folder or reading a few lines."""

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._checked(i) for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"{self.root} has {len(self)} samples, there is no number {index}")
        return self._checked(position)

    def _checked(self, position: int) -> Sample:
        try:
            return self.read(position)
        except ValidationError as error:  # a field of another type than the format promises
            raise DataError(f"{self.root}, sample {position}: {problem(error, Sample, {})}") from None


def open_dataset(root: str | os.PathLike[str], reader: str | None = None, split: str | None = None) -> Dataset:
    """Open `root` with the reader called `reader`, or with the only one that fits.

    Raises:
        ConfigError: There is no such reader, or not exactly one fits.
        DataError: See `Dataset`.
    """
    return find_reader(reader or guess_reader(Path(root)))(root, split)


def find_reader(name: str) -> type[Dataset]:
    """Return the reader called `name`.

    Raises:
        ConfigError: There is none.
    """
    return registry.find(READERS, name, Dataset)  # type: ignore[type-abstract]


def guess_reader(root: Path) -> str:
    """Return the name of the only reader whose format `root` looks like.

    Raises:
        ConfigError: None fits, or several do.
        DataError: The path does not exist.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist.")
    readers = registry.components(READERS, Dataset)  # type: ignore[type-abstract]
    fitting = [name for name, cls in readers.items() if cls.fits(root)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConfigError(f"{root} looks like several formats: choose a reader of {', '.join(fitting)}.")
    raise ConfigError(
        f"cannot tell the format of {root}: choose a reader of {', '.join(readers)}; "
        "`lhrs data show image_folder`, and so on, says what it expects."
    )


def rectangle(xyxy: Sequence[float]) -> np.ndarray:
    """Return the corners float64 `(4, 2)` of a box."""
    x1, y1, x2, y2 = xyxy
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def question_and_answer(question: str, answer: str) -> list[Turn]:
    """Return a conversation of two turns."""
    return [Turn(role="user", text=question), Turn(role="assistant", text=answer)]


def keep_split(rows: list[RowT], splits: Sequence[str | None], split: str | None, path: Path) -> list[RowT]:
    """Return the rows of one split, or all if `split` is None; `splits` says where each row belongs.

    Raises:
        DataError: There are rows, but none of that split.
    """
    if split is None:
        return rows
    kept = [row for row, of in zip(rows, splits, strict=True) if of == split]
    if rows and not kept:
        known = sorted({of for of in splits if of is not None})
        raise DataError(f"{path} has no split {split!r}; it has {', '.join(known) or 'no splits'}.")
    return kept


def parse_sample(row: Any, folder: Path, where: str) -> Sample:
    """Return the sample in a parsed row of our schema; relative image paths begin at `folder`.

    Raises:
        DataError: The row does not fit the schema; `where` names file and row.
    """
    try:
        sample = Sample.model_validate(row)
    except ValidationError as error:
        raise DataError(f"{where}: {problem(error, Sample, row)}") from None
    return sample.model_copy(update={"images": [os.path.abspath(folder / image) for image in sample.images]})


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        DataError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from None


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) for every line that is not blank; the place, `file:line`, is for messages.

    Raises:
        DataError: The file is missing, or a line is no JSON object.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"{path}:{number}", parse_json_object(line, f"{path}:{number}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error


def parse_json_object(text: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        DataError: It is none; `where` names file and line.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}).") from None
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected a JSON object, found {type(value).__name__}.")
    return value


def first_row(path: Path) -> dict[str, Any]:
    """Return the first object of a JSON-lines file, or an empty one if there is none; for `Dataset.fits`."""
    try:
        return next((row for _, row in read_json_lines(path)), {})
    except DataError:
        return {}
