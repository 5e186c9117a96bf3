"""refGeo (Zhou et al., 2024, GeoGround, arXiv:2411.11904): expressions of five sets in JSON lines, RSVG among them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.data.dataset import (
    GROUNDING_TASK,
    UNKNOWN_LICENSE,
    Dataset,
    filter_split,
    first_row,
    grounding_turns,
    read_json_lines,
)
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.data.oriented_boxes import outline_box
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_SPLITS = ("train", "val", "test")
_KEYS = frozenset(["image_id", "question", "bbox"])
_READ = frozenset(["poly", "class", "category", "cls_name", "dataset"])


class _Row(NamedTuple):
    where: str
    values: dict[str, Any]
    split: str | None


class RefGeo(Dataset):
    """One sample per referring expression: the question for its box, and the expression with the box as the answer.

    Format: JSON lines of `image_id`, `question` and `bbox`, xyxy in pixels; `poly`, four corners of an oriented box, is
    kept. Other keys are counted as left out. Boxes without a class are called `object`.
    Splits: train, val or test in the name of a file. Size: 161,000 expressions of RSVG, DIOR-RSVG, AVVG, GeoChat and
    VRSBench. `lhrs_instruct` reads RSVG as LHRS-Bot has it.
    """

    homepage = "https://github.com/zytx121/GeoGround"
    license = UNKNOWN_LICENSE
    layout = "a folder of .jsonl files, perhaps in metainfo/, or one such file, and images/ near it"
    download_hint = "Download refGeo by the links of its homepage."

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if not files:
            raise DataError(f"{self.root} contains no JSON lines of referring expressions. Expected {self.layout}.")
        rows = [row for path in files for row in _read(path)]
        for row in rows:
            for key in row.values.keys() - _KEYS - _READ:
                self.drop("keys of expressions", key)
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)
        self._source = (self.root if self.root.is_dir() else self.root.parent).name
        tops = dict.fromkeys(top for path in files for top in (path.parent, path.parent.parent, path.parents[1].parent))
        self._finder = ImageFinder(*(top / name for top in tops for name in ("", "images")))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        values = row.values
        name = str(values["image_id"])
        folder = values.get("dataset")
        named = self._finder.find(f"{folder}/{name}") if isinstance(folder, str) else None
        image = named or self._finder.find_or_expected(name)
        expression = str(values["question"]).strip()
        if not expression:
            raise DataError(f"{row.where}: the expression is empty.")
        box = _to_box(row)
        return Sample(
            id=f"{self._source}/{row.split or 'all'}/{index}", images=[str(image)],
            turns=grounding_turns(expression, box), boxes=[box], source=self._source, license=self.license,
            split=row.split, task=GROUNDING_TASK,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))


def _to_box(row: _Row) -> Box:
    values = row.values
    label = str(next((values[key] for key in ("class", "category", "cls_name") if values.get(key)), "object"))
    try:
        x1, y1, x2, y2 = np.array(values["bbox"], np.float64).tolist()
        corners = np.array(values.get("poly") or [], np.float64).reshape(-1, 2)
        if not np.isfinite([x1, y1, x2, y2, *corners.ravel()]).all():
            raise ValueError("a number is not finite")
    except (TypeError, ValueError) as error:
        raise DataError(f"{row.where}: `bbox` is not four numbers, or `poly` not four corners ({error}).") from None
    xyxy = x1, y1, x2, y2
    return outline_box(label, corners, xyxy) if len(corners) else Box(label=label, xyxy=xyxy)


def _list_files(root: Path) -> list[Path]:
    """Return the files of expressions at `root`, also in `metainfo/`, as published."""
    paths = [root] if root.is_file() else [*list_files(root, ".jsonl"), *list_files(root / "metainfo", ".jsonl")]
    return [path for path in paths if path.suffix.lower() == ".jsonl" and first_row(path).keys() >= _KEYS]


def _read(path: Path) -> Iterator[_Row]:
    split = next((name for name in _SPLITS if name in path.stem.lower()), None)
    for where, values in read_json_lines(path):
        if not values.keys() >= _KEYS:
            raise DataError(f"{where}: needs {', '.join(sorted(_KEYS))}.")
        yield _Row(where, values, split)
