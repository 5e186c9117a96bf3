"""Roboflow's CSV of multi-label classification: a column for each class."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, Dataset, filter_split, read_text
from lhrs.data.image_files import ImageFinder
from lhrs.errors import DataError
from lhrs.schema import Sample

_FILE = "_classes.csv"
_NAME = "filename"


class _Row(NamedTuple):
    folder: Path
    split: str | None
    name: str
    labels: list[str]


class MultilabelCsv(Dataset):
    """One sample per image, with all of its scene classes; there are no turns.

    Format: `_classes.csv` with a column `filename` and one of 0 and 1 for each class.
    Splits: folders train, valid and test, each with a table and its images.
    """

    homepage = "https://roboflow.com/formats/multi-label-classification-csv"
    license = UNKNOWN_LICENSE
    layout = f"a folder with {_FILE} and the images, or one such folder for each of train, valid, test"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        tables = _list_tables(self.root)
        if not tables:
            raise DataError(f"{self.root} contains no {_FILE} with a column {_NAME}. Expected {self.layout}.")
        rows = [row for name, path in tables for row in self._read(path, name)]
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)
        self._finders = {path.parent: ImageFinder(path.parent) for _, path in tables}
        for folder, finder in self._finders.items():
            for image in finder.unlisted(row.name for row in rows if row.folder == folder):
                self.drop("images that are not listed", os.path.relpath(image, self.root))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        return Sample(
            id="/".join(filter(None, (self.root.name, row.split, row.name))),
            images=[str(self._finders[row.folder].find_or_expected(row.name))], labels=row.labels,
            source=self.root.name, license=self.license, split=row.split,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_tables(root))

    def _read(self, path: Path, split: str | None) -> Iterator[_Row]:
        reader = csv.reader(read_text(path).splitlines())
        _, *names = (name.strip() for name in next(reader))
        self.classes = list(dict.fromkeys([*self.classes, *names]))
        for name, *flags in (row for row in reader if row):
            values = [flag.strip() for flag in flags]
            if len(values) != len(names) or not {"0", "1"}.issuperset(values):
                raise DataError(f"{path}:{reader.line_num}: not a file name and {len(names)} values of 0 or 1.")
            labels = [label for label, value in zip(names, values, strict=True) if value == "1"]
            yield _Row(path.parent, split, name.strip(), labels)


def _list_tables(root: Path) -> list[tuple[str | None, Path]]:
    """Return the tables with their splits."""
    if not root.is_dir():
        return []
    own = root.name if root.name in SPLITS else None
    places = [(own, root / _FILE), *((name, root / name / _FILE) for name in SPLITS)]
    return [(split, path) for split, path in places if path.is_file() and _first_column(path) == _NAME]


def _first_column(path: Path) -> str:
    try:
        return read_text(path, "replace").partition("\n")[0].partition(",")[0].strip().lower()
    except DataError:
        return ""
