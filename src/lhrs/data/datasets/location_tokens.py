"""JSON lines with boxes as location tokens: PaliGemma's `<loc0123>` and Florence-2's `<loc_123>`."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.boxes import Size
from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, Dataset, filter_split, first_row, qa_turns, read_json_lines
from lhrs.data.image_files import ImageFinder, image_size, list_files
from lhrs.errors import DataError
from lhrs.schema import Box, Sample, Turn

_KEYS = frozenset(["image", "prefix", "suffix"])
_PALIGEMMA = re.compile(r"((?:<loc\d{4}>){4})\s*((?:<seg\d{3}>)*)\s*([^<;]*)")
_FLORENCE = re.compile(r"([^<]*)((?:<loc_\d+>){4})")
_NUM_BINS = {"paligemma": 1024, "florence": 1000}


class _Row(NamedTuple):
    where: str
    folder: Path
    split: str | None
    values: dict[str, Any]


class LocationTokens(Dataset):
    """One sample per line: the prefix is the question, the suffix the answer.

    Format: `image`, `prefix` and `suffix`. PaliGemma's boxes are `<locY1><locX1><locY2><locX2> class`, of 1024, with a
    semicolon between two; Florence-2's are `class<loc_x1><loc_y1><loc_x2><loc_y2>`, of 1000. Tokens of segmentation
    are left out. Lines without tokens are questions and answers.
    Splits: `train`, `valid` or `test` in the name of a file, or its folder.
    """

    homepage = "https://roboflow.com/formats/paligemma-jsonl"
    license = UNKNOWN_LICENSE
    layout = "a folder with _annotations.{train,valid,test}.jsonl and the images (or in dataset/), or such a file"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if not files:
            raise DataError(
                f"{self.root} contains no JSON lines with image, prefix and suffix. Expected {self.layout}."
            )
        rows = [row for path in files for row in _read(path)]
        for row in rows:
            for key in row.values.keys() - _KEYS:
                self.drop("keys of lines", key)
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)
        self._finders = {path.parent: ImageFinder(path.parent, path.parent / "images") for path in files}
        self._source = (self.root if self.root.is_dir() else self.root.parent).name

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        prefix, suffix, name = (str(row.values[key]) for key in ("prefix", "suffix", "image"))
        image = self._finders[row.folder].find_or_expected(name)
        notation = "paligemma" if "<loc0" in suffix or "<loc1" in suffix else "florence" if "<loc_" in suffix else None
        boxes = list(self._boxes(row, suffix, notation, image_size(image))) if notation else []
        turns = qa_turns(prefix, suffix.strip())
        if boxes:
            answer = ", ".join(dict.fromkeys(box.label for box in boxes))
            turns = [turns[0], Turn(role="assistant", text=answer, boxes=boxes)]
        return Sample(
            id=f"{self._source}/{row.split or 'all'}/{index}", images=[str(image)], turns=turns, boxes=boxes,
            source=self._source, license=self.license, split=row.split,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))

    def _boxes(self, row: _Row, suffix: str, notation: str, size: Size) -> Iterator[Box]:
        matches = list((_PALIGEMMA if notation == "paligemma" else _FLORENCE).finditer(suffix))
        if 4 * len(matches) != suffix.count("<loc"):
            raise DataError(f"{row.where}: the location tokens are not four for each box: {suffix[:80]!r}.")
        label = ""
        for number, match in enumerate(matches):
            tokens, words = (match[1], match[3]) if notation == "paligemma" else (match[2], match[1])
            bins = np.array(re.findall(r"\d+", tokens), np.float64) / _NUM_BINS[notation]
            if bins.max() > 1:
                raise DataError(f"{row.where}: a location token is beyond {_NUM_BINS[notation]}: {tokens}.")
            if notation == "paligemma":
                bins = bins[[1, 0, 3, 2]]
                if match[2]:
                    self.drop("segmentation tokens of objects", f"{row.where}#{number}")
            x1, y1, x2, y2 = (bins * np.tile(size, 2)).tolist()
            label = words.removesuffix("<eos>").strip() or label or "object"  # Florence-2 has a class once for several
            yield Box(label=label, xyxy=(x1, y1, x2, y2))


def _list_files(root: Path) -> list[Path]:
    folders = [root, root / "dataset", *(root / name for name in SPLITS)]
    paths = [root] if root.is_file() else [path for folder in folders for path in list_files(folder, ".jsonl")]
    return [path for path in paths if path.suffix.lower() == ".jsonl" and first_row(path).keys() >= _KEYS]


def _read(path: Path) -> Iterator[_Row]:
    parts = [*path.name.lower().split("."), path.parent.name]
    split = next((part for part in parts if part in SPLITS), None)
    for where, values in read_json_lines(path):
        if not values.keys() >= _KEYS or not all(isinstance(values[key], str) for key in _KEYS):
            raise DataError(f"{where}: needs the texts image, prefix and suffix.")
        yield _Row(where, path.parent, split, values)
