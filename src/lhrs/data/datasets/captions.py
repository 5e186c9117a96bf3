"""Plain captions: a table of images and captions, or images with a text file of the same name next to each."""

import csv
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import (
    CAPTION_QUESTION,
    UNKNOWN_LICENSE,
    Dataset,
    filter_split,
    first_row,
    qa_turns,
    read_json,
    read_json_lines,
    read_text,
)
from lhrs.data.datasets._yolo_rows import classify_texts
from lhrs.data.datasets.chatearthnet import is_chatearthnet
from lhrs.data.image_files import list_folder_images
from lhrs.errors import DataError
from lhrs.schema import Sample

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_TABLES = (".json", ".jsonl", *_DELIMITERS)
_COLUMNS = frozenset(["image", "caption", "split"])


class _Row(NamedTuple):
    image: str
    caption: str | None
    """None: the caption is in the text file next to the image."""
    split: str | None
    key: int = 0
    """Index among the captions of the image."""


class Captions(Dataset):
    """One sample per caption.

    Format: a table has `image` (path from the table's folder), `caption` (in JSON, several may be a list) and perhaps
    `split`; other columns are counted as left out. Text files that hold rows of numbers are YOLO's, not captions.
    """

    homepage = "https://github.com/NJU-LHRS/LHRS-Bot"
    license = UNKNOWN_LICENSE
    layout = "a .json list, .jsonl, .csv or .tsv with image and caption, or a folder with <name>.txt next to each image"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._folder = self.root if self.root.is_dir() else self.root.parent
        rows = _numbered(_pairs(self.root) if self.root.is_dir() else self._table(self.root))
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        image = self._folder / row.image
        caption = row.caption if row.caption is not None else read_text(image.with_suffix(".txt")).strip()
        source = self.root.stem
        return Sample(
            id=f"{source}/{row.image}/caption-{row.key}",
            images=[str(image)],
            turns=qa_turns(CAPTION_QUESTION, caption),
            source=source,
            license=self.license,
            split=row.split,
            task="caption",
        )

    def _table(self, path: Path) -> Iterator[_Row]:
        suffix = path.suffix.lower()
        if suffix in _DELIMITERS:
            records: Iterator[tuple[str, Any]] = _csv(path)
        elif suffix == ".jsonl":
            records = read_json_lines(path)
        elif suffix == ".json":
            content = read_json(path)
            if not isinstance(content, list):
                raise DataError(f"{path}: expected a list of objects with image and caption.")
            records = ((f"{path}: item {i}", record) for i, record in enumerate(content))
        else:
            raise DataError(f"{path} is none of {', '.join(_TABLES)}.")
        for where, record in records:
            yield from _rows(record, where)
            for column in record.keys() - _COLUMNS:
                self.drop("columns", column)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        if root.is_dir():
            texts = [text for image in list_folder_images(root) if (text := image.with_suffix(".txt")).exists()]
            return classify_texts(texts)[1]
        try:
            if is_chatearthnet(root):  # has its own reader, which knows where the images are
                return False
            if root.suffix.lower() == ".json":
                content = read_json(root)
                row = content[0] if isinstance(content, list) and content else {}
            elif root.suffix.lower() in _DELIMITERS:
                return _has_columns(root)
            else:
                row = first_row(root) if root.suffix.lower() == ".jsonl" else {}
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
    images = list_folder_images(folder)
    without = [image for image in images if not image.with_suffix(".txt").exists()]
    if not images or without:
        missing = f"{without[0].with_suffix('.txt')} is missing" if without else f"{folder} contains no images"
        raise DataError(f"{missing}: a folder of captions has a .txt next to each image.")
    return (_Row(image.name, None, None) for image in images)


def _rows(record: Any, where: str) -> Iterator[_Row]:
    keys = record.keys() if isinstance(record, dict) else ()
    if not {"image", "caption"} <= set(keys):
        raise DataError(f"{where}: needs image and caption, has {', '.join(map(str, keys)) or 'no keys'}.")
    captions = record["caption"] if isinstance(record["caption"], list) else [record["caption"]]
    if not isinstance(record["image"], str) or not all(isinstance(caption, str) for caption in captions):
        raise DataError(f"{where}: image and caption must be texts.")
    yield from (_Row(record["image"], caption, record.get("split") or None) for caption in captions)


def _has_columns(path: Path) -> bool:
    """Return whether the header of a table has both columns, whatever the encoding of the rest."""
    header = next(iter(read_text(path, "replace").splitlines()), "")
    return {"image", "caption"} <= set(next(csv.reader([header], delimiter=_DELIMITERS[path.suffix.lower()]), []))


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin with a byte-order mark
            reader = csv.DictReader(file, delimiter=_DELIMITERS[path.suffix.lower()])
            if not {"image", "caption"} <= set(reader.fieldnames or ()):
                columns = ", ".join(reader.fieldnames or ()) or "none"
                raise DataError(f"{path}: needs the columns image and caption, has {columns}.")
            for row in reader:
                yield f"{path}:{reader.line_num}", row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table in UTF-8: {error}.") from error
