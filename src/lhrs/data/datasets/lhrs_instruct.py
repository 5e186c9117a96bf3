"""Conversations of LHRS-Bot's released files (Muhtar et al., 2024, arXiv:2402.02544), and of LRV-Instruction."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.box_notations import is_only_boxes
from lhrs.data.dataset import UNKNOWN_LICENSE, Dataset, filter_split, read_json
from lhrs.data.datasets._conversations import Message, NearbyImages, to_turns, unique_ids
from lhrs.data.image_files import list_files
from lhrs.errors import DataError
from lhrs.schema import IMAGE_PLACEHOLDER, Sample

_SNIFFED_BYTES = 1 << 16
_NAMES = ("name", "filename", "img", "image_id")
_KEYS = frozenset(["conv", "question", "answer", *_NAMES])
_SPLITS = ("train", "val", "test")
_METER_ML = "METERML"
_METER_ML_FILE = "naip.png"
_TAGS = re.compile(rf"{IMAGE_PLACEHOLDER}|\[\w+\]")
"""The placeholder, and the task such as `[VG]` before a question."""


class _Row(NamedTuple):
    path: Path
    number: int
    entry: Any


class LHRSInstruct(Dataset):
    """One sample per image: its conversation.

    Format: NAME.json, a list or an object with a list `data`, of objects with `name` (or `filename`, `img`, `image_id`;
    of a list, the first) and `conv`, one pair of `Question` and `Answer` (or `value`) or several; or `question` and
    `answer` (RSVG, DIOR-RSVG, LRV-Instruction). Images are in `NAME_Image/` next to the file or below, else in the only
    `*_Image/` next to it; of METER-ML `naip.png` in the folder that is named. Boxes in texts are fractions
    `[x1, y1, x2, y2]`; in an answer of nothing else, their label is the question. `<image>` after the first question,
    rows without a conversation and other keys are counted as left out.
    Splits: train, val or test at the end of a file's name, such as RSVG_test.json. Sets: Stage2 and Stage3 of
    PumpkinCat/LHRS_Data on Hugging Face.
    Tasks: captions, questions, conversations, referring, scenes.
    """

    homepage = "https://github.com/NJU-LHRS/LHRS-Bot/blob/main/DataPrepare/README.md"
    license = UNKNOWN_LICENSE
    download_hint = "`lhrs data list` names the sets of this format, `lhrs data get NAME` downloads them"
    layout = "a file NAME.json with conv or question, or a folder of them, and the images in NAME_Image"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = [self.root] if self.root.is_file() else _list_files(self.root)
        if not files:
            raise DataError(f"{self.root} contains no conversations. Expected {self.layout}.")
        rows = [row for path in files for row in self._read(path)]
        self._rows = filter_split(rows, [_split(row.path) for row in rows], split, self.root)
        self._ids = unique_ids(f"{row.path.stem}/{_name(row.entry) or row.number}" for row in self._rows)
        self._images = {path: NearbyImages(path, *_image_folders(path)) for path in files}

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row, where = self._rows[index], self.where(index)
        name = _name(row.entry)
        if name is None:
            raise DataError(f"{where}: names no image ({', '.join(_NAMES)}).")
        messages = self._messages(row.entry, where)
        place = f"{name}/{_METER_ML_FILE}" if _METER_ML in row.path.stem else name
        images = [self._images[row.path].find(place, where)]
        for key in row.entry.keys() - _KEYS:
            self.drop("keys of conversations", key)
        return Sample(
            id=self._ids[index], images=images, turns=to_turns(messages, images, where), source=row.path.stem,
            license=self.license, split=_split(row.path),
        )  # fmt: skip

    def where(self, index: int) -> str:
        return f"{self._rows[index].path}: item {self._rows[index].number}"

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return _has_conversations(root) if root.is_file() else bool(_list_files(root))

    def _read(self, path: Path) -> Iterator[_Row]:
        for number, entry in enumerate(_entries(path)):
            if isinstance(entry, dict) and not _pairs(entry):
                self.drop("rows without a conversation", f"{path.name}: item {number}")
            else:
                yield _Row(path, number, entry)

    def _messages(self, entry: dict[str, Any], where: str) -> list[Message]:
        messages = []
        for number, pair in enumerate(_pairs(entry)):
            question = pair.get("Question") if isinstance(pair, dict) else None
            answer = pair.get("Answer", pair.get("value")) if isinstance(pair, dict) else None
            if not isinstance(question, str) or not isinstance(answer, str):
                raise DataError(f"{where}: a pair needs the texts `Question` and `Answer`: {str(pair)[:80]}.")
            if (number and IMAGE_PLACEHOLDER in question) or IMAGE_PLACEHOLDER in answer:
                self.drop(f"{IMAGE_PLACEHOLDER} after the first question", where)
                answer = answer.replace(IMAGE_PLACEHOLDER, "")
                question = question.replace(IMAGE_PLACEHOLDER, "") if number else question
            phrase = _TAGS.sub("", question).strip() if is_only_boxes(answer) else None
            messages += [Message("user", question, phrase), Message("assistant", answer)]
        return messages


def _entries(path: Path) -> list[Any]:
    content = read_json(path)
    entries = content.get("data") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list, or an object with a list `data`.")
    return entries


def _split(path: Path) -> str | None:
    return next((name for name in _SPLITS if path.stem.endswith(f"_{name}")), None)


def _pairs(entry: dict[str, Any]) -> list[Any]:
    """Return the questions with their answers."""
    pairs = entry.get("conv")
    if pairs is None and "question" in entry:
        pairs = {"Question": entry["question"], "Answer": entry.get("answer")}
    return pairs if isinstance(pairs, list) else [] if pairs is None else [pairs]


def _name(entry: Any) -> str | None:
    """Return the name of an image."""
    value = next((entry[key] for key in _NAMES if entry.get(key)), None) if isinstance(entry, dict) else None
    value = value[0] if isinstance(value, list) and value else value
    return str(value) if isinstance(value, str | int) else None


def _image_folder(path: Path) -> Path:
    """Return the folder of a file's images, whether it exists or not: `NAME_Image`, else the only `*_Image`."""
    own = path.with_name(f"{path.stem}_Image")
    others = [folder for folder in path.parent.glob("*_Image") if folder.is_dir()]
    return others[0] if not own.is_dir() and len(others) == 1 else own


def _image_folders(path: Path) -> list[Path]:
    """Return the folders that may contain a file's images, the likeliest first. A folder of METER-ML is an image."""
    folder = _image_folder(path)
    if _METER_ML in path.stem:
        inside = folder.iterdir() if folder.is_dir() else []
        below = (place for place in inside if place.is_dir() and not (place / _METER_ML_FILE).is_file())
    else:
        below = (place for place in folder.rglob("*") if place.is_dir())
    return [folder, *sorted(below)]


def _list_files(root: Path) -> list[Path]:
    return [path for path in list_files(root, ".json") if _has_conversations(path)]


def _has_conversations(path: Path) -> bool:
    if path.suffix.lower() != ".json":
        return False
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    pairs = b'"conv"' in start and b'"Question"' in start
    single = b'"question"' in start and b'"answer"' in start
    if single and b'"img"' not in start:  # as questions of other sets have these keys, too
        single = any(f'"{name}"'.encode() in start for name in _NAMES) and _image_folder(path).is_dir()
    return b'"conversations"' not in start and (pairs or single)
