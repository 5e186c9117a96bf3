"""SkyScript (Wang et al., 2024): 5.2 million image-text pairs made of OpenStreetMap's tags."""

import csv
import os
from array import array
from pathlib import Path

import numpy as np

from lhrs.data.dataset import CAPTION_QUESTION, Dataset, qa_turns
from lhrs.data.datasets._conversations import NearbyImages
from lhrs.data.line_index import LineIndex
from lhrs.errors import DataError
from lhrs.schema import Sample

_IMAGE, _TITLE, _ALL_OBJECTS = "filepath", "title", "title_multi_objects"
_READ = frozenset([_IMAGE, _TITLE, _ALL_OBJECTS])
_MAX_HEADER_BYTES = 1 << 16
_SPLITS = ("train", "val", "test")


class SkyScript(Dataset):
    """One sample per caption: of the object in focus, and of all objects, where that differs.

    Format: a CSV file with `filepath` (images2/... to images7/..., from the folder of the file or the one above),
    `title` and `title_multi_objects`. Only the places of rows are held in memory. Other columns are counted as left
    out.
    Splits: a word of the file's name, as in `SkyScript_train_top30pct_filtered_by_CLIP_openai.csv`.
    Size: 5.1 million pairs for training (1.5 and 2.6 million filtered), 5,000 for validation, 30,000 for tests. Tasks:
    captions, retrieval.
    """

    homepage = "https://github.com/wangzhecheng/SkyScript"
    license = "unstated; text from OpenStreetMap (ODbL-1.0)"
    download_hint = (
        "curl -O https://opendatasharing.s3.us-west-2.amazonaws.com/SkyScript/images2.zip (to images7.zip), and "
        ".../SkyScript/dataframe/SkyScript_train_top30pct_filtered_by_CLIP_openai.csv"
    )
    layout = "a SkyScript_*.csv with filepath and title, and the folders images2 to images7 near it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._columns = _read_header(self.root)
        if not {_IMAGE, _TITLE} <= set(self._columns):
            raise DataError(f"{self.root}: needs the columns {_IMAGE} and {_TITLE}, has {', '.join(self._columns)}.")
        for column in sorted(set(self._columns) - _READ):
            self.drop("columns", column)
        own = next((word for word in self.root.stem.lower().split("_") if word in _SPLITS), None)
        if split not in (None, own):
            raise DataError(f"{self.root} has no split {split!r}; it has {own or 'no splits'}.")
        self._own_split = own
        self._lines = LineIndex(self.root, quoted=True)
        places = array("q")
        for line in range(1, len(self._lines)):
            for key in range(self._count(line)):
                places.extend((line, key))
        self._places = np.array(places, np.int64).reshape(-1, 2)
        self._images = NearbyImages(self.root)

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> Sample:
        line, key = self._places[index].tolist()
        where, row = self._lines.where(line), self._row(line)
        captions = _captions(row)
        if not row.get(_IMAGE) or not captions:
            raise DataError(f"{where}: needs {_IMAGE} and {_TITLE}.")
        return Sample(
            id=f"skyscript/{row[_IMAGE]}/caption-{key}", images=[self._images.find(row[_IMAGE], where)],
            turns=qa_turns(CAPTION_QUESTION, captions[key]), source="skyscript", license=self.license,
            split=self._own_split, task="caption",
        )  # fmt: skip

    def where(self, index: int) -> str:
        return self._lines.where(int(self._places[index, 0]))

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return root.is_file() and root.suffix.lower() == ".csv" and {_IMAGE, _TITLE} <= set(_read_header(root))

    def _count(self, line: int) -> int:
        """Return the number of samples of a row; 1 if it is broken, which `load` reports."""
        try:
            return max(1, len(_captions(self._row(line))))
        except DataError:
            return 1

    def _row(self, line: int) -> dict[str, str]:
        where = self._lines.where(line)
        try:
            values = next(csv.reader(self._lines.read(line).decode().splitlines(keepends=True), strict=True), [])
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: not UTF-8 text ({error.reason} at byte {error.start}).") from None
        except csv.Error as error:
            raise DataError(f"{where}: not a row of a table ({error}).") from None
        if len(values) != len(self._columns):
            raise DataError(f"{where}: {len(values)} values for {len(self._columns)} columns.")
        return dict(zip(self._columns, values, strict=True))


def _read_header(path: Path) -> list[str]:
    """Return the columns of a table; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            line = file.readline(_MAX_HEADER_BYTES)
    except OSError:
        return []
    return next(csv.reader([line.decode("utf-8-sig", "replace").strip()]), [])


def _captions(row: dict[str, str]) -> list[str]:
    texts = [row.get(column, "").strip() for column in (_TITLE, _ALL_OBJECTS)]
    return list(dict.fromkeys(filter(None, texts)))
