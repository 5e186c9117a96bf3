"""Conversations of LHRS-Bot's released files (Muhtar et al., 2024, arXiv:2402.02544), and of LRV-Instruction."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lhrs.boxes import parse_boxes
from lhrs.data.dataset import UNKNOWN_LICENSE, Dataset, qa_turns, read_json
from lhrs.data.image_files import ImageFinder, image_size, list_files
from lhrs.errors import DataError
from lhrs.schema import IMAGE_PLACEHOLDER, Box, Sample, Turn

_IMAGE_FOLDER = "_Image"
_SNIFFED_BYTES = 1 << 14
_ROW = re.compile(r'"(?:Question|question)"\s*:')
_NUMBER = r"\s*(?:[01](?:\.\d+)?|\.\d+)\s*"
_ONLY_BOXES = re.compile(rf"\s*(?:\[{_NUMBER}(?:,{_NUMBER}){{3}}\][\s,;]*)+\.?\s*")
_TAGS = re.compile(r"<image>|\[\w+\]")
"""The placeholder, and the task such as `[VG]` before a question."""
_METER_ML_FILE = "naip.png"


class LhrsInstruct(Dataset):
    """One sample per row.

    Format: a list, or `{"data": [...]}`. A row names its image by `name`, `filename` (perhaps a list), `img` or
    `image_id`, and has `conv`, one object of `Question` and `Answer` (or `value`) or a list of them, or `question` and
    `answer`. In a file with METERML in its name, the image is `naip.png` in the folder of that name.

    Images of `X.json` are in `X_Image/` or below, else in the only `*_Image/` next to it. An answer of nothing but
    boxes in fractions of the image becomes boxes in pixels. Rows without a text are counted as left out.
    """

    homepage = "https://huggingface.co/datasets/PumpkinCat/LHRS_Data"
    license = UNKNOWN_LICENSE
    layout = "a file X.json with rows of `conv`, or `question` and `answer`, and the folder X_Image"
    download_hint = "`lhrs data list` names the sets of this format, `lhrs data get NAME` downloads them."

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = [self.root] if self.root.is_file() else _list_files(self.root)
        if len(files) != 1:
            raise DataError(f"{self.root} has {len(files)} files of conversations. Expected {self.layout}.")
        if split is not None:
            raise DataError(f"{self.root} has no split {split!r}; it has no splits.")
        self._path = files[0]
        folder = image_folder(self._path)
        is_nested = "METERML" in self._path.stem
        below = [] if is_nested else sorted(path for path in folder.rglob("*") if path.is_dir())
        self._finder = ImageFinder(folder, *below)
        self._in_folder = [folder, *(path for path in folder.glob("*") if is_nested and path.is_dir())]
        self._is_nested = is_nested
        self._rows = list(self._read())

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        number, row = self._rows[index]
        where = f"{self._path}: item {number}"
        image = self._image(row, where)
        turns = [turn for n, pair in enumerate(_pairs(row)) for turn in self._turns(pair, n == 0, image, where)]
        source = self._path.stem
        return Sample(id=f"{source}/{number}", images=[str(image)], turns=turns, source=source, license=self.license)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        if root.is_file():
            return root.suffix.lower() == ".json" and image_folder(root).is_dir() and _has_rows(root)
        return len(_list_files(root)) == 1

    def _read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        content = read_json(self._path)
        rows = content.get("data") if isinstance(content, dict) else content
        if not isinstance(rows, list):
            raise DataError(f"{self._path}: expected a list, or an object with a list `data`.")
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise DataError(f"{self._path}: item {number}: expected an object, found {type(row).__name__}.")
            if _pairs(row):
                yield number, row
            else:
                self.drop("rows without a conversation", f"{self._path.name}: item {number}")

    def _image(self, row: dict[str, Any], where: str) -> Path:
        name = next((row[key] for key in ("name", "filename", "img", "image_id") if row.get(key)), None)
        name = name[0] if isinstance(name, list) and name else name
        if not isinstance(name, str | int):
            raise DataError(f"{where}: has no image in `name`, `filename`, `img` or `image_id`.")
        if self._is_nested:
            places = [folder / str(name) / _METER_ML_FILE for folder in self._in_folder]
            return next((place for place in places if place.is_file()), places[0])
        return self._finder.find_or_expected(str(name))

    def _turns(self, pair: Any, is_first: bool, image: Path, where: str) -> list[Turn]:
        if not isinstance(pair, dict):
            raise DataError(f"{where}: a turn is an object of `Question` and `Answer`, found {str(pair)[:80]}.")
        question, answer = pair.get("Question"), pair.get("Answer", pair.get("value"))
        if not isinstance(question, str) or not isinstance(answer, str):
            raise DataError(f"{where}: a turn needs the texts `Question` and `Answer`: {str(pair)[:80]}.")
        if not is_first:  # as the authors' code does: one image per conversation
            question = question.replace(IMAGE_PLACEHOLDER, "")
        turns = qa_turns(question, answer.replace(IMAGE_PLACEHOLDER, ""))
        if _ONLY_BOXES.fullmatch(answer) and image.is_file():
            parsed = parse_boxes(answer, image_size(image), "norm1")
            if not parsed.num_malformed:
                label = _TAGS.sub("", question).strip()
                boxes = [Box(label=label, xyxy=(x1, y1, x2, y2)) for x1, y1, x2, y2 in parsed.boxes.tolist()]
                turns[1] = Turn(role="assistant", text="", boxes=boxes)
        return turns


def image_folder(path: Path) -> Path:
    """Return the folder of the images of an annotation file, whether it exists or not."""
    own = path.with_name(path.stem + _IMAGE_FOLDER)
    others = sorted(p for p in path.parent.glob(f"*{_IMAGE_FOLDER}") if p.is_dir())
    return others[0] if not own.is_dir() and len(others) == 1 else own


def _pairs(row: dict[str, Any]) -> list[Any]:
    """Return the turns of a row, each a question and its answer."""
    if "conv" in row:
        return row["conv"] if isinstance(row["conv"], list) else [row["conv"]]
    if "question" in row or "answer" in row:
        return [{"Question": row.get("question"), "Answer": row.get("answer")}]
    return []


def _list_files(root: Path) -> list[Path]:
    return [path for path in list_files(root, ".json") if image_folder(path).is_dir() and _has_rows(path)]


def _has_rows(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _ROW.search(file.read(_SNIFFED_BYTES).decode("utf-8", "replace")) is not None
    except OSError:
        return False
