"""Images with a table of metadata, as Hugging Face's `imagefolder` loads them."""

import csv
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.boxes import xywh_to_xyxy
from lhrs.data.dataset import (
    CAPTION_QUESTION,
    SPLITS,
    UNKNOWN_LICENSE,
    Dataset,
    filter_split,
    qa_turns,
    read_json_lines,
    read_text,
)
from lhrs.data.datasets._dataset_card import read_class_names
from lhrs.data.datasets.parquet import open_parquet
from lhrs.data.image_files import ImageFinder, is_image
from lhrs.errors import DataError
from lhrs.schema import Box, Sample, Turn

_TABLES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_CAPTIONS = ("text", "caption", "captions", "description")
_LABELS = ("label", "class", "label_text", "class_name")
_BOXES = ("bbox", "bboxes", "boxes")
_CATEGORIES = ("category", "categories", "label", "labels", "class", "classes", "category_id")
_READ = frozenset(["file_name", "objects", "question", "answer", "split", *_CAPTIONS, *_LABELS])
_COLUMNS_OF_BOXES = (*_BOXES, "category", "categories", "category_id")
"""Of tables without `objects`."""


class _Row(NamedTuple):
    where: str
    folder: Path
    split: str | None
    values: dict[str, Any]


class MetadataFolder(Dataset):
    """One sample per row.

    Format: `metadata.jsonl`, `.csv` or `.parquet` with `file_name` (path from the table's folder) and any of `text` or
    `caption`; `question` and `answer`; `label`; `objects`, with `bbox` (left, top, width, height) and `category` or
    `categories`, as lists or one object each; or these two as columns. Numbers of classes are named by the
    `class_label` of the dataset card (`README.md`). Other columns and fields of objects are counted as left out.
    Splits: folders train, val, valid and test, or a column `split`.
    """

    homepage = "https://huggingface.co/docs/datasets/image_dataset#imagefolder"
    license = UNKNOWN_LICENSE
    layout = "a folder with metadata.jsonl (or .csv, .parquet) and the images, or one such folder for each split"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        tables = _list_tables(self.root)
        if not tables:
            raise DataError(f"{self.root} contains no {' or '.join(_TABLES)}. Expected {self.layout}.")
        rows = [row for name, path in tables for row in _read_table(path, name)]
        self._top = self.root if self.root.is_dir() else self.root.parent
        self._finders = {path.parent: ImageFinder(path.parent) for _, path in tables}
        for row in rows:
            if None in row.values:
                raise DataError(f"{row.where}: more values than columns; put text with commas in quotes.")
            has_boxes = not row.values.get("objects") and any(row.values.get(name) for name in _BOXES)
            for column in row.values.keys() - _READ - set(_COLUMNS_OF_BOXES if has_boxes else ()):
                self.drop("columns", column)
        self._drop_unlisted(rows)
        self._class_names = read_class_names(self._top)
        self.has_class_names = bool(self._class_names) or not any(map(_has_numbers, rows))
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        image = self._finders[row.folder].find_or_expected(row.values["file_name"])
        turns = _turns(row)
        label = next((row.values[name] for name in _LABELS if row.values.get(name) not in (None, "")), None)
        place = Path(os.path.relpath(image, self._top)).as_posix()
        return Sample(
            id=f"{self._top.name}/{place}", images=[str(image)], turns=turns, boxes=self._boxes(row),
            labels=[] if label is None else [self._label(label)], source=self._top.name, license=self.license,
            split=row.split, task="caption" if len(turns) == 2 and turns[0].text == CAPTION_QUESTION else None,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        try:
            tables = _list_tables(root)
            return bool(tables) and next(iter(_read_table(tables[0][1], None)), None) is not None
        except DataError:
            return False

    def _label(self, value: Any) -> str:
        """Return the name of a class, given by name or number."""
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return self._class_names.get(value, str(value)) if is_number else str(value)

    def _boxes(self, row: _Row) -> list[Box]:
        try:
            objects = _objects(row)
            if not objects:
                return []
            key = next(name for name in _BOXES if name in objects)
            boxes = xywh_to_xyxy(np.array(objects[key], np.float64).reshape(-1, 4))
            if not np.isfinite(boxes).all():
                raise ValueError("a number is not finite")
            category = next((name for name in _CATEGORIES if name in objects), None)
            values = ["object"] * len(boxes) if category is None else objects[category]
            for unread in objects.keys() - {key, category}:
                self.drop("fields of objects", unread)
            return [Box(label=self._label(v), xyxy=tuple(b)) for v, b in zip(values, boxes.tolist(), strict=True)]
        except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
            raise DataError(f"{row.where}: `objects` needs `bbox` and `category` of one length ({error!r}).") from None

    def _drop_unlisted(self, rows: list[_Row]) -> None:
        listed = {Path(os.path.normpath(row.folder / row.values["file_name"].replace("\\", "/"))) for row in rows}
        for folder in self._finders:
            for path in sorted(path for path in folder.rglob("*") if is_image(path)):
                if path not in listed and self._table_folder(path) == folder:
                    self.drop("images without a row", os.path.relpath(path, self._top))

    def _table_folder(self, image: Path) -> Path | None:
        return next((folder for folder in image.parents if folder in self._finders), None)


def _list_tables(root: Path) -> list[tuple[str | None, Path]]:
    """Return the tables with their splits."""
    if root.is_file():
        return [(None, root)] if root.name.lower() in _TABLES else []
    places = [(root.name if root.name in SPLITS else None, root), *((name, root / name) for name in SPLITS)]
    return [(split, folder / name) for split, folder in places for name in _TABLES if (folder / name).is_file()]


def _read_table(path: Path, split: str | None) -> Iterator[_Row]:
    read = {".jsonl": read_json_lines, ".csv": _read_csv, ".parquet": _read_parquet}[path.suffix.lower()]
    records: Iterable[tuple[str, dict[str, Any]]] = read(path)
    for where, values in records:
        if not isinstance(values.get("file_name"), str) or not values["file_name"]:
            raise DataError(f"{where}: needs file_name, has {', '.join(map(str, values)) or 'no columns'}.")
        yield _Row(where, path.parent, split or values.get("split") or None, values)


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        reader = csv.DictReader(read_text(path).splitlines(keepends=True))
        for row in reader:
            yield f"{path}:{reader.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table: {error}.") from None


def _read_parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_parquet(path) as file:
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield f"{path}, row {number}", row
                number += 1


def _turns(row: _Row) -> list[Turn]:
    question, answer = row.values.get("question"), row.values.get("answer")
    captions: Any = next((row.values[name] for name in _CAPTIONS if row.values.get(name)), [])
    texts = [captions] if isinstance(captions, str) else captions
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{row.where}: a caption must be text, or a list of texts.")
    turns = [turn for text in texts for turn in qa_turns(CAPTION_QUESTION, text)]
    return turns + (qa_turns(str(question), str(answer)) if question and answer is not None else [])


def _objects(row: _Row) -> dict[str, Any]:
    """Return lists of boxes and their fields; empty if the row has no boxes."""
    objects = row.values.get("objects")
    if not objects:
        objects = {name: row.values[name] for name in _COLUMNS_OF_BOXES if row.values.get(name)}
        objects = objects if objects.keys() & set(_BOXES) else {}
        objects = {name: json.loads(value) if isinstance(value, str) else value for name, value in objects.items()}
    objects = json.loads(objects) if isinstance(objects, str) else objects
    if isinstance(objects, list):  # one object each, not one list for each field
        return {key: [item[key] for item in objects] for key in objects[0]}
    return objects


def _has_numbers(row: _Row) -> bool:
    try:
        objects = _objects(row)
        values: Any = next((objects[name] for name in _CATEGORIES if name in objects), [])
        return any(isinstance(value, int) for value in values)
    except (AttributeError, KeyError, TypeError, ValueError):
        return False  # broken, as reading the sample reports
