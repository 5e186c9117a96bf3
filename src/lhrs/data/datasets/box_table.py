"""Tables of boxes: TensorFlow's and RetinaNet's CSV, and the text files of Keras' and PyTorch's YOLO ports."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, Dataset, filter_split, read_text
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.schema import Box, Sample

_FILES = ("_annotations.csv", "_annotations.txt")
_CLASSES = ("_classes.txt", "classes.txt")
_HEADER = ("filename", "class", "xmin", "ymin", "xmax", "ymax")
_KNOWN = frozenset([*_HEADER, "width", "height"])
_COLUMNS = "image, x1, y1, x2, y2, class"


class _Image(NamedTuple):
    folder: Path
    split: str | None
    name: str
    boxes: list[Box]


class BoxTable(Dataset):
    """One sample per image.

    Format: a CSV table with the columns `filename`, `class`, `xmin`, `ymin`, `xmax` and `ymax` (TensorFlow); one of
    image, x1, y1, x2, y2 and class without a header (RetinaNet); or lines of an image and its boxes
    `x1,y1,x2,y2,class`, with `_classes.txt` (Keras, YOLOv4 PyTorch). Coordinates are pixels from 0. An image without
    boxes has an empty row.
    Splits: folders train, valid and test, each with a file and its images.
    """

    homepage = "https://roboflow.com/formats/tensorflow-object-detection-csv"
    license = UNKNOWN_LICENSE
    layout = "a folder with _annotations.csv or _annotations.txt and the images, one for each split, or such a file"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if not files:
            raise DataError(f"{self.root} contains no table of boxes. Expected {self.layout}.")
        images = [image for name, path in files for image in self._read(path, name)]
        self._finders = {path.parent: ImageFinder(path.parent, path.parent / "images") for _, path in files}
        for folder, finder in self._finders.items():
            for image in finder.unlisted(image.name for image in images if image.folder == folder):
                self.drop("images that are not listed", os.path.relpath(image, self.root))
        self._images = filter_split(images, [image.split for image in images], split, self.root)
        self._source = (self.root if self.root.is_dir() else self.root.parent).name

    def __len__(self) -> int:
        return len(self._images)

    def load(self, index: int) -> Sample:
        image = self._images[index]
        return Sample(
            id="/".join(filter(None, (self._source, image.split, image.name.replace("\\", "/")))),
            images=[str(self._finders[image.folder].find_or_expected(image.name))], boxes=image.boxes,
            source=self._source, license=self.license, split=image.split,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))

    def _read(self, path: Path, split: str | None) -> list[_Image]:
        """Return the images of a file in their first order."""
        names = _read_names(path)
        self.has_class_names &= path.suffix.lower() == ".csv" or names is not None
        objects: dict[str, list[Box]] = {}
        rows = self._csv_rows(path) if path.suffix.lower() == ".csv" else _text_rows(path, names)
        for where, image, label, values in rows:
            boxes = objects.setdefault(image, [])
            if not any(values) and not label:
                continue
            try:
                x1, y1, x2, y2 = (float(value) for value in values)
                if not label or not np.isfinite([x1, y1, x2, y2]).all():
                    raise ValueError("the class is missing, or a number is not finite")
            except ValueError as error:
                raise DataError(f"{where}: not a box with a class ({error}).") from None
            boxes.append(Box(label=label, xyxy=(x1, y1, x2, y2)))
        return [_Image(path.parent, split, name, boxes) for name, boxes in objects.items()]

    def _csv_rows(self, path: Path) -> Iterator[tuple[str, str, str, list[str]]]:
        """Yield place, image, class and coordinates of each row, empty texts for an image without boxes."""
        reader = csv.reader(read_text(path).splitlines())
        header: list[str] | None = None
        try:
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if header is None and set(_HEADER) <= {name.strip().lower() for name in row}:
                    header = [name.strip().lower() for name in row]
                    for name in set(header) - _KNOWN:
                        self.drop("columns", name)
                elif header is not None and row:
                    if len(row) != len(header):
                        raise DataError(f"{where}: {len(row)} values in {len(header)} columns.")
                    values = dict(zip(header, (value.strip() for value in row), strict=True))
                    yield where, values["filename"], values["class"], [values[name] for name in _HEADER[2:]]
                elif row:
                    if len(row) != 6:
                        raise DataError(f"{where}: {len(row)} values instead of {_COLUMNS}.")
                    image, *coordinates, label = (value.strip() for value in row)
                    yield where, image, label, coordinates
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num} cannot be read as a table: {error}.") from None


def _text_rows(path: Path, names: list[str] | None) -> Iterator[tuple[str, str, str, list[str]]]:
    for number, line in enumerate(read_text(path).splitlines(), 1):
        where = f"{path}:{number}"
        fields = line.split()
        at = next((n for n, field in enumerate(fields) if field.count(",") == 4), len(fields))
        image = " ".join(fields[:at])  # names may have spaces
        if fields and not image:
            raise DataError(f"{where}: no image before the boxes: {line[:80]!r}.")
        if fields and at == len(fields):
            yield where, image, "", [""] * 4
        for field in fields[at:]:
            *values, class_id = field.split(",")
            if len(values) != 4 or not class_id.isdecimal():
                raise DataError(f"{where}: not a box x1,y1,x2,y2,class: {field[:40]!r}.")
            if names is not None and int(class_id) >= len(names):
                raise DataError(f"{where}: class {class_id} has no name; there are {len(names)} names.")
            yield where, image, f"class {class_id}" if names is None else names[int(class_id)], values


def _read_names(path: Path) -> list[str] | None:
    """Return the names of classes next to a text file; None if there are none."""
    file = next((path.parent / name for name in _CLASSES if (path.parent / name).is_file()), None)
    return None if file is None else [line.strip() for line in read_text(file).splitlines() if line.strip()]


def _list_files(root: Path) -> list[tuple[str | None, Path]]:
    """Return the tables with their splits."""
    if root.is_file():
        return [(None, root)] if _is_table(root) else []
    parts: list[tuple[str | None, Path]]
    parts = [(split, root / split / name) for split in SPLITS for name in _FILES if (root / split / name).is_file()]
    parts = [(split, path) for split, path in parts if _is_table(path)]
    own = root.name if root.name in SPLITS else None
    named = [root / name for name in _FILES if (root / name).is_file()] or list_files(root, ".csv")
    tables = [path for path in named if _is_table(path)]
    return parts or ([(own, tables[0])] if len(tables) == 1 else [])


def _is_table(path: Path) -> bool:
    """Return whether the first line is a header or a row of a table of boxes."""
    if path.suffix.lower() not in (".csv", ".txt"):
        return False
    try:
        first = next((line for line in read_text(path, "replace").splitlines() if line.strip()), "")
    except DataError:
        return False
    if path.suffix.lower() == ".txt":
        fields = first.split()
        return (
            _has_image(" ".join(fields[:1])) and all(field.count(",") == 4 for field in fields[1:]) and len(fields) > 1
        )
    values = next(csv.reader([first]), [])
    is_row = len(values) == 6 and _has_image(values[0])
    return is_row or set(_HEADER) <= {name.strip().lower() for name in values}


def _has_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
