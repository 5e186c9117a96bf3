"""The base class of dataset readers, and the detection of the reader for a path."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

import numpy as np
from pydantic import ValidationError

from lhrs import registry
from lhrs.config import validation_message
from lhrs.data.bad_samples import skip
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.locations import absolute_name
from lhrs.schema import Box, Sample, Turn

READERS = "lhrs.data.datasets"
"""The package of the built-in readers, and the entry-point group of external readers."""

CAPTION_QUESTION = "Describe the image."
GROUNDING_QUESTION = "Give the box of this object: {expression}"
GROUNDING_TASK = "grounding"
"""Task of samples made by `grounding_turns`."""
UNKNOWN_LICENSE = "unstated"
"""License of samples whose format has no license field."""
SPLITS = ("train", "val", "valid", "validation", "test")
"""Folder names that are splits."""
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""First bytes of a text file in UTF-16."""
_SAME_SPLIT = frozenset(["val", "valid", "validation", "dev"])

PixelWindow = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""
RowT = TypeVar("RowT")


class ObjectPolygon(NamedTuple):
    """An object on the first image of a sample, with the most precise outline of the dataset."""

    label: str
    points: np.ndarray
    """float64 `(P, 2)`, xy pixels of the original image: a polygon in any direction, or the points of all its parts."""
    difficult: bool = False
    """Missed difficult objects are not penalized."""
    num_parts: int = 1
    """The points of several parts are no ring."""


class Dataset(Sequence[Sample], ABC):
    """Samples in a fixed order.

    The constructor reads only annotations; samples are created on request. Images are absolute paths and are
    not opened, except where a format stores coordinates relative to the image's size.

    A subclass sets the class variables, reads its annotations in its constructor, and implements `__len__`, `load` and
    `sniff`. Its docstring is the data sheet: format, classes, splits and size. Whatever it leaves out it counts with
    `drop`.
    """

    homepage: ClassVar[str]
    """Reference of the data or the format."""
    license: ClassVar[str]
    layout: ClassVar[str]
    """The required content of `root`, in one line."""
    download_hint: ClassVar[str] = ""
    """How to get the data, in one line; empty for a format."""
    dates: ClassVar[int] = 1
    """Number of dates of a sample; 2 for change detection."""
    has_masks: ClassVar[bool] = False
    """`mask` returns the class of each pixel."""
    is_fallback: ClassVar[bool] = False
    """The format is so general that any other format that matches is preferred."""
    classes: Sequence[str] = ()
    """Class names by number, if the annotations list them."""
    has_class_names: bool = True
    """False if the annotations number the classes without names."""

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
        self._left_out: dict[tuple[str, str], None] = {}
        if not self.root.exists():
            raise DataError(f"{self.root} does not exist. Expected {self.layout}; see {self.homepage}.")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def load(self, index: int) -> Sample:
        """Return sample `index`, counted from 0.

        Raises:
            DataError: Its annotation is broken.
        """

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the objects of sample `index` except groups; the corners of their boxes where there is no outline.

        Raises:
            DataError: The annotation is broken.
        """
        boxes = [box for box in self[index].boxes if not box.crowd]
        return [ObjectPolygon(box.label, outline_of(box)) for box in boxes]

    def mask(self, index: int, window: PixelWindow | None = None) -> np.ndarray:
        """Return uint8 `(H, W)`, the class number of each pixel of a window of sample `index`; 255 is no class.

        Raises:
            DataError: The dataset has no masks, or this one is broken.
        """
        raise DataError(f"{self.root}: {type(self).__name__} has no masks.")

    def image_files(self, index: int) -> tuple[tuple[Path, ...], ...]:
        """Return the files of sample `index`: for each date, one image or one file per band."""
        return tuple((Path(image),) for image in self[index].images[: self.dates])

    def where(self, index: int) -> str:
        """Return the place of sample `index` in the data, for messages: file and line, if the format has lines."""
        return f"{self.root}, sample {index}"

    @classmethod
    @abstractmethod
    def sniff(cls, root: Path) -> bool:
        """Return whether `root` matches this format, at the cost of listing a folder or reading a few lines."""

    @property
    def dropped(self) -> Dropped:
        """Annotations that were dropped from the samples read so far, counted by reason."""
        dropped = Dropped()
        for reason, example in self._left_out:
            dropped.add(reason, example)
        return dropped

    def drop(self, reason: str, example: object) -> None:
        """Count a dropped annotation. The same reason and example are counted once, even if a sample is reloaded."""
        self._left_out[reason, str(example)] = None

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
            return self.load(position)
        except ValidationError as error:  # a field has the wrong type
            raise DataError(f"{self.where(position)}: {validation_message(error, Sample, {})}") from None


def open_dataset(root: str | os.PathLike[str], format: str | None = None, split: str | None = None) -> Dataset:
    """Open `root` with the reader `format`, or with the only reader that matches.

    Raises:
        ConfigError: There is no such reader, or not exactly one matches.
        DataError: See `Dataset`.
    """
    return get_reader(format or detect_format(Path(root)))(root, split)


def get_reader(name: str) -> type[Dataset]:
    """Return a reader by name.

    Raises:
        ConfigError: There is none.
    """
    return registry.get_component(READERS, name, Dataset)  # type: ignore[type-abstract]


def detect_format(root: Path, accepts: Callable[[type[Dataset]], bool] = lambda reader: True) -> str:
    """Return the name of the only accepted reader that matches `root`.

    Raises:
        ConfigError: None matches, or several do.
        DataError: The path does not exist.
    """
    if not root.exists():
        raise DataError(f"{root} does not exist.")
    components = registry.load_components(READERS, Dataset)  # type: ignore[type-abstract]
    readers = {name: reader for name, reader in components.items() if accepts(reader)}
    matching = [name for name, reader in readers.items() if reader.sniff(root)]
    preferred = [name for name in matching if not readers[name].is_fallback] or matching
    if len(preferred) == 1:
        return preferred[0]
    if preferred:
        raise ConfigError(f"{root} matches several formats: choose a format of {', '.join(preferred)}.")
    raise ConfigError(
        f"cannot detect the format of {root}: choose a format of {', '.join(readers)}; "
        "`lhrs data show image_folder`, and so on, describes what it expects."
    )


def box_corners(xyxy: Sequence[float]) -> np.ndarray:
    """Return the corners float64 `(4, 2)` of a box."""
    x1, y1, x2, y2 = xyxy
    return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)


def outline_of(box: Box) -> np.ndarray:
    """Return the corners float64 `(4, 2)` of an oriented or upright box."""
    return box_corners(box.xyxy) if box.corners is None else np.array(box.corners, np.float64)


def bounding_box(points: np.ndarray) -> tuple[float, float, float, float]:
    """Return the box xyxy around `(P, 2)` points."""
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return x1, y1, x2, y2


def qa_turns(question: str, answer: str) -> list[Turn]:
    """Return a conversation of two turns."""
    return [Turn(role="user", text=question), Turn(role="assistant", text=answer)]


def grounding_turns(expression: str, box: Box) -> list[Turn]:
    """Return the question for the box of a referring expression; the answer is the expression with its box."""
    question = Turn(role="user", text=GROUNDING_QUESTION.format(expression=expression))
    return [question, Turn(role="assistant", text=expression, boxes=[box])]


def filter_split(rows: list[RowT], splits: Sequence[str | None], split: str | None, path: Path) -> list[RowT]:
    """Return the rows of one split, or all if `split` is None; `splits` contains the split of each row.

    `val`, `valid` and `validation` name the same split where the data has only one of them.

    Raises:
        DataError: There are rows, but none of that split.
    """
    if split is None:
        return rows
    known = {name for name in splits if name is not None}
    names = {split} if split in known or split not in _SAME_SPLIT else known & _SAME_SPLIT
    kept = [row for row, name in zip(rows, splits, strict=True) if name in names]
    if rows and not kept:
        raise DataError(f"{path} has no split {split!r}; it has {', '.join(sorted(known)) or 'no splits'}.")
    return kept


def parse_flag(value: object) -> bool:
    """Return whether a flag is set: a number other than 0, `true` or `yes`; other words are False."""
    text = str(value).strip().lower()
    try:
        return float(text) != 0
    except ValueError:
        return text in ("true", "yes")


def parse_sample(row: Any, folder: Path, where: str) -> Sample:
    """Return the sample in a parsed row of our schema; relative image paths begin at `folder`.

    Raises:
        DataError: The row does not fit the schema; `where` names file and row.
    """
    try:
        sample = Sample.model_validate(row)
    except ValidationError as error:
        raise DataError(f"{where}: {validation_message(error, Sample, row)}") from None
    return sample.model_copy(update={"images": [absolute_name(image, folder) for image in sample.images]})


def read_text(path: Path, errors: str = "strict") -> str:
    """Return a text file without its byte-order mark; a file with the mark of UTF-16 is decoded as such.

    Args:
        path: The file.
        errors: Handling of bytes that are not UTF-8, see `bytes.decode`.

    Raises:
        DataError: It cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
        has_utf16_mark = content.startswith(UTF16_MARKS)
        return content.decode("utf-16" if has_utf16_mark else "utf-8-sig", errors)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}).") from None


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

    Broken lines are left out inside `lhrs.data.bad_samples.skipping`.

    Raises:
        DataError: The file is missing, or a line is no JSON object.
    """
    try:
        with path.open("rb") as file:
            start = file.read(2)
            file.seek(0)
            lines = read_text(path).encode().split(b"\n") if start in UTF16_MARKS else file
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = parse_json_object(line, f"{path}:{number}")
                except DataError as error:
                    skip(error)
                else:
                    yield f"{path}:{number}", row
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
    """Return the first object of a JSON-lines file, or an empty one if there is none; for `Dataset.sniff`."""
    try:
        return next((row for _, row in read_json_lines(path)), {})
    except DataError:
        return {}
