"""Plain captions: a table of images and captions, or pictures with a text file of the same name beside each."""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import (
    CAPTION_QUESTION,
    UNSTATED,
    Dataset,
    first_row,
    keep_split,
    question_and_answer,
    read_json,
    read_json_lines,
)
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES
from lhrs.schema import Sample

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_TABLES = (".json", ".jsonl", *_DELIMITERS)


class _Row(NamedTuple):
    image: str
    caption: str | None
    """None: in the text file beside the image."""
    split: str | None
    key: int = 0
    """Which of the image's captions this is."""


class Captions(Dataset):
    """One sample per caption.

    A table has `image` (path from the table's folder), `caption` (in JSON, several may be a list) and perhaps `split`.
    Other columns are passed over.
    """

    homepage = "https://github.com/NJU-LHRS/LHRS-Bot"
    licence = UNSTATED
    layout = "a .json list, .jsonl, .csv or .tsv with image and caption, or a folder with <name>.txt beside each image"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._folder = self.root if self.root.is_dir() else self.root.parent
        rows = _numbered(_pairs(self.root) if self.root.is_dir() else _table(self.root))
        self._rows = keep_split(rows, [row.split for row in rows], split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Sample:
        row = self._rows[index]
        image = self._folder / row.image
        caption = row.caption if row.caption is not None else _read_text(image.with_suffix(".txt"))
        source = self.root.stem
        return Sample(
            id=f"{source}/{row.image}/caption-{row.key}",
            images=[str(image)],
            turns=question_and_answer(CAPTION_QUESTION, caption),
            source=source,
            licence=self.licence,
            split=row.split,
            task="caption",
        )

    @classmethod
    def fits(cls, root: Path) -> bool:
        if root.is_dir():
            return any(image.with_suffix(".txt").exists() for image in _list_images(root))
        try:
            if root.suffix == ".json":
                content = read_json(root)
                row = content[0] if isinstance(content, list) and content else {}
            elif root.suffix in _DELIMITERS:
                return bool(next(iter(_csv(root)), None))
            else:
                row = first_row(root) if root.suffix == ".jsonl" else {}
        except DataError:
            return False
        return isinstance(row, dict) and {"image", "caption"} <= row.keys()


def _numbered(rows: Iterator[_Row]) -> list[_Row]:
    """Count the captions of each image."""
    so_far: Counter[str] = Counter()
    numbered = []
    for row in rows:
        numbered.append(row._replace(key=so_far[row.image]))
        so_far[row.image] += 1
    return numbered


def _pairs(folder: Path) -> Iterator[_Row]:
    images = _list_images(folder)
    without = [image for image in images if not image.with_suffix(".txt").exists()]
    if not images or without:
        missing = f"{without[0].with_suffix('.txt')} is missing" if without else f"{folder} holds no images"
        raise DataError(f"{missing}: a folder of captions has a .txt beside each image.")
    return (_Row(image.name, None, None) for image in images)


def _list_images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def _table(path: Path) -> Iterator[_Row]:
    if path.suffix in _DELIMITERS:
        records: Iterator[tuple[str, Any]] = _csv(path)
    elif path.suffix == ".jsonl":
        records = read_json_lines(path)
    elif path.suffix == ".json":
        content = read_json(path)
        if not isinstance(content, list):
            raise DataError(f"{path}: expected a list of objects with image and caption.")
        records = ((f"{path}: item {i}", record) for i, record in enumerate(content))
    else:
        raise DataError(f"{path} is none of {', '.join(_TABLES)}.")
    for where, record in records:
        yield from _rows(record, where)


def _rows(record: Any, where: str) -> Iterator[_Row]:
    keys = record.keys() if isinstance(record, dict) else ()
    if not {"image", "caption"} <= set(keys):
        raise DataError(f"{where}: needs image and caption, has {', '.join(map(str, keys)) or 'no keys'}.")
    captions = record["caption"] if isinstance(record["caption"], list) else [record["caption"]]
    if not isinstance(record["image"], str) or not all(isinstance(caption, str) for caption in captions):
        raise DataError(f"{where}: image and caption must be texts.")
    yield from (_Row(record["image"], caption, record.get("split") or None) for caption in captions)


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a byte-order mark
            reader = csv.DictReader(file, delimiter=_DELIMITERS[path.suffix])
            if not {"image", "caption"} <= set(reader.fieldnames or ()):
                found = ", ".join(reader.fieldnames or ()) or "none"
                raise DataError(f"{path}: needs the columns image and caption, has {found}.")
            for row in reader:
                yield f"{path}:{reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table in UTF-8: {error}.") from error


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
