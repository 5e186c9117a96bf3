"""RSVG (Sun et al., 2022, doi:10.1145/3503161.3548316) in the JSON of LHRS-Bot, and the JSON lines of refGeo."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.boxes import parse_boxes
from lhrs.data.dataset import (
    GROUNDING_TASK,
    Dataset,
    filter_split,
    first_row,
    grounding_turns,
    read_json,
    read_json_lines,
)
from lhrs.data.image_files import ImageFinder, image_size, list_files
from lhrs.data.oriented_boxes import outline_box
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_SPLITS = ("train", "val", "test")
_LINE_KEYS = frozenset(["image_id", "question", "bbox"])
_JSON_KEYS = frozenset(["img", "question", "answer"])
_READ = frozenset(["poly", "class", "category", "cls_name", "dataset"])
_SNIFFED_BYTES = 1 << 12
_BOX_ANSWER = re.compile(rb'"answer"\s*:\s*"[^"]*\[\s*[01]?\.\d')


class _Row(NamedTuple):
    where: str
    values: dict[str, Any]
    split: str | None


class Rsvg(Dataset):
    """One sample per referring expression: the question for its box, and the expression with the box as the answer.

    Format: LHRS-Bot's JSON has `img`, `question` (the expression after a `[VG]` tag) and `answer`, a box in fractions.
    refGeo's JSON lines have `image_id`, `question` and `bbox`, xyxy in pixels; `poly`, four corners of an oriented box,
    is kept. Other keys are counted as left out. Boxes without a class are called `object`.
    Splits: train, val or test in the name of a file. Sets: RSVG has 5,505, 1,201 and 1,227 expressions of 4,239 images;
    refGeo repeats RSVG, DIOR-RSVG, AVVG, GeoChat and VRSBench, 161,000 expressions.
    """

    homepage = "https://sunyuxi.github.io/publication/GeoVG"
    license = "images of Google Earth: research only"
    layout = "a folder of RSVG_{train,val,test}.json or of refGeo's .jsonl files (or one such file), and images near it"
    download_hint = "Download RSVG's images from its homepage and RSVG_*.json from https://huggingface.co/datasets/PumpkinCat/LHRS_Data."

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if not files:
            raise DataError(f"{self.root} contains no JSON of referring expressions. Expected {self.layout}.")
        rows = [row for path in files for row in _read(path)]
        for row in rows:
            for key in row.values.keys() - _LINE_KEYS - _JSON_KEYS - _READ:
                self.drop("keys of expressions", key)
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)
        self._source = (self.root if self.root.is_dir() else self.root.parent).name
        tops = dict.fromkeys(top for path in files for top in (path.parent, path.parent.parent, path.parents[1].parent))
        self._finder = ImageFinder(*(top / name for top in tops for name in ("", "RSVG_Image", "images")))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        values = row.values
        name = str(values.get("img", values.get("image_id")))
        folder = values.get("dataset")
        named = self._finder.find(f"{folder}/{name}") if isinstance(folder, str) else None
        image = named or self._finder.find_or_expected(name)
        expression = str(values["question"]).rpartition("]")[2].strip() if "img" in values else str(values["question"])
        if not expression.strip():
            raise DataError(f"{row.where}: the expression is empty.")
        box = self._box(row, image)
        return Sample(
            id=f"{self._source}/{row.split or 'all'}/{index}", images=[str(image)],
            turns=grounding_turns(expression.strip(), box), boxes=[box], source=self._source, license=self.license,
            split=row.split, task=GROUNDING_TASK,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))

    def _box(self, row: _Row, image: Path) -> Box:
        values = row.values
        label = str(next((values[key] for key in ("class", "category", "cls_name") if values.get(key)), "object"))
        if "img" in values:
            parsed = parse_boxes(str(values["answer"]), image_size(image), "norm1").boxes
            if len(parsed) != 1:
                raise DataError(f"{row.where}: the answer is not one box: {str(values['answer'])[:60]!r}.")
            x1, y1, x2, y2 = parsed[0].tolist()
            return Box(label=label, xyxy=(x1, y1, x2, y2))
        try:
            x1, y1, x2, y2 = np.array(values["bbox"], np.float64).tolist()
            corners = np.array(values.get("poly") or [], np.float64).reshape(-1, 2)
            if not np.isfinite([x1, y1, x2, y2, *corners.ravel()]).all():
                raise ValueError("a number is not finite")
        except (TypeError, ValueError) as error:
            raise DataError(f"{row.where}: `bbox` is not four numbers, or `poly` not four corners ({error}).") from None
        return (
            outline_box(label, corners, (x1, y1, x2, y2)) if len(corners) else Box(label=label, xyxy=(x1, y1, x2, y2))
        )


def _list_files(root: Path) -> list[Path]:
    """Return the files of expressions at `root`, also in `metainfo/`, as refGeo has them."""
    paths = (
        [root] if root.is_file() else [*list_files(root, ".json", ".jsonl"), *list_files(root / "metainfo", ".jsonl")]
    )
    return [path for path in paths if _is_expressions(path)]


def _is_expressions(path: Path) -> bool:
    if path.suffix.lower() == ".jsonl":
        return first_row(path).keys() >= _LINE_KEYS
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
    except OSError:
        return False
    has_keys = all(f'"{key}"'.encode() in start for key in _JSON_KEYS)
    return path.suffix.lower() == ".json" and has_keys and _BOX_ANSWER.search(start) is not None


def _read(path: Path) -> Iterator[_Row]:
    split = next((name for name in _SPLITS if name in path.stem.lower()), None)
    if path.suffix.lower() == ".jsonl":
        records: list[tuple[str, Any]] = list(read_json_lines(path))
        needed = _LINE_KEYS
    else:
        content = read_json(path)
        content = content.get("data") if isinstance(content, dict) else content
        if not isinstance(content, list):
            raise DataError(f"{path}: expected a list of expressions.")
        records, needed = [(f"{path}: entry {n}", values) for n, values in enumerate(content)], _JSON_KEYS
    for where, values in records:
        if not isinstance(values, dict) or not values.keys() >= needed:
            raise DataError(f"{where}: needs {', '.join(sorted(needed))}.")
        yield _Row(where, values, split)
