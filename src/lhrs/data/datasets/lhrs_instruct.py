"""LHRS-Instruct and LHRS-Align as published for LHRS-Bot (Muhtar et al., 2024)."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import CAPTION_QUESTION, UNKNOWN_LICENSE, Dataset, read_json
from lhrs.data.datasets._conversations import Message, NearbyImages, to_turns, unique_ids
from lhrs.data.image_files import list_files
from lhrs.errors import DataError
from lhrs.schema import IMAGE_PLACEHOLDER, Sample

_SNIFFED_BYTES = 1 << 16
_NAMES = ("name", "filename", "img")
_KEYS = frozenset(["conv", "question", "answer", "cap", *_NAMES])


class _Row(NamedTuple):
    path: Path
    number: int
    entry: Any


class LHRSInstruct(Dataset):
    """One sample per image: its conversation, or its caption.

    Format: NAME.json, a list or an object with a list `data`, of objects with `name` (or `filename`, `img`; of a list,
    the first) and `conv`, one pair of `Question` and `Answer` or several; or `question` and `answer` (RSVG, DIOR-RSVG);
    or `cap` (LHRS-Align). Images are in `NAME_Image/` next to the file; of LHRS-Align in COUNTRY/CITY there, as `info`
    names them. Boxes in texts are fractions `[x1, y1, x2, y2]`. `<image>` after the first question is counted as left
    out, as are other keys.
    Sets: Stage1 (1.15 million captions), Stage2 and Stage3 (instructions) of PumpkinCat/LHRS_Data on Hugging Face.
    Tasks: captions, questions, conversations, referring, scenes.
    """

    homepage = "https://github.com/NJU-LHRS/LHRS-Bot/blob/main/DataPrepare/README.md"
    license = UNKNOWN_LICENSE
    download_hint = "huggingface-cli download --repo-type dataset PumpkinCat/LHRS_Data; images from their own sources"
    layout = "NAME.json with conv, question or cap, or a folder of them, and the images in NAME_Image"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        if split is not None:
            raise DataError(f"{self.root} has no split {split!r}; it has no splits.")
        files = _list_files(self.root)
        if not files:
            raise DataError(f"{self.root} contains no conversations. Expected {self.layout}.")
        self._rows = [_Row(path, n, entry) for path in files for n, entry in enumerate(_entries(path))]
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
        images = [self._images[row.path].find(_place(row.entry, name), where)]
        for key in row.entry.keys() - _KEYS:
            self.drop("keys of conversations", key)
        return Sample(
            id=self._ids[index], images=images, turns=to_turns(messages, images, where), source=row.path.stem,
            license=self.license, task="caption" if "cap" in row.entry else None,
        )  # fmt: skip

    def where(self, index: int) -> str:
        return f"{self._rows[index].path}: item {self._rows[index].number}"

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))

    def _messages(self, entry: dict[str, Any], where: str) -> list[Message]:
        pairs = entry.get("conv")
        if pairs is None and "question" in entry:
            pairs = {"Question": entry["question"], "Answer": entry.get("answer")}
        if pairs is None and "cap" in entry:
            pairs = {"Question": CAPTION_QUESTION, "Answer": entry["cap"]}
        messages = []
        for number, pair in enumerate(pairs if isinstance(pairs, list) else [pairs]):
            question = pair.get("Question") if isinstance(pair, dict) else None
            answer = pair.get("Answer", pair.get("value")) if isinstance(pair, dict) else None
            if not isinstance(question, str) or not isinstance(answer, str):
                raise DataError(f"{where}: a pair needs the texts `Question` and `Answer`: {str(pair)[:80]}.")
            if (number and IMAGE_PLACEHOLDER in question) or IMAGE_PLACEHOLDER in answer:
                self.drop(f"{IMAGE_PLACEHOLDER} after the first question", where)
                answer = answer.replace(IMAGE_PLACEHOLDER, "")
                question = question.replace(IMAGE_PLACEHOLDER, "") if number else question
            messages += [Message("user", question), Message("assistant", answer)]
        return messages


def _entries(path: Path) -> list[Any]:
    content = read_json(path)
    entries = content.get("data") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise DataError(f"{path}: expected a list, or an object with a list `data`.")
    return entries


def _name(entry: Any) -> str | None:
    """Return the name of an image."""
    value = next((entry[key] for key in _NAMES if entry.get(key)), None) if isinstance(entry, dict) else None
    value = value[0] if isinstance(value, list) and value else value
    return value if isinstance(value, str) else None


def _place(entry: dict[str, Any], name: str) -> str:
    """Return the path of an image inside its folder."""
    info = entry.get("info")
    location = info.get("location") if isinstance(info, dict) else None
    if isinstance(location, list) and all(isinstance(part, str) for part in location):
        return "/".join([*location, name])
    return name


def _image_folders(path: Path) -> list[Path]:
    """Return the folders of a file's images. LHRS-Align has many files, in a folder next to that of the images."""
    return [path.parent / f"{path.stem}_Image", *sorted(path.parent.parent.glob("*OSM*_Image"))]


def _list_files(root: Path) -> list[Path]:
    paths = [root] if root.is_file() else list_files(root, ".json")
    return [path for path in paths if path.suffix.lower() == ".json" and _has_conversations(path)]


def _has_conversations(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    pairs = b'"conv"' in start and b'"Question"' in start
    captions = b'"cap"' in start and b'"location"' in start
    referring = b'"img"' in start and b'"question"' in start and b'"answer"' in start
    return b'"conversations"' not in start and (pairs or captions or referring)
