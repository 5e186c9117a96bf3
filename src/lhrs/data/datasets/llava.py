"""Conversations in LLaVA's JSON format (Liu et al., 2023, arXiv:2304.08485), as GeoChat and many others use it."""

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from lhrs.data.dataset import UNKNOWN_LICENSE, UTF16_MARKS, Dataset, read_json, read_json_lines
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.errors import DataError
from lhrs.schema import Sample, Turn

_SUFFIXES = (".json", ".jsonl")
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "system": "system",
}  # fmt: skip
_KEYS = frozenset(["id", "image", "images", "conversations", "system", "split"])
_FIRST = re.compile(r'"conversations"\s*:\s*\[\s*\{\s*"(?:from|value)"\s*:')
_SNIFFED_BYTES = 1 << 16


class Llava(Dataset):
    """One sample per conversation.

    Format: a list (or JSON lines) of objects with `id`, `image` (a path, several, or none) and `conversations`, turns
    of `from` (human, gpt or system) and `value`. Images are next to the file or in `images/`. Other keys are counted as
    left out.
    """

    homepage = "https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md"
    license = UNKNOWN_LICENSE
    layout = "a .json list or .jsonl file of conversations, or a folder with one such file, and the images near it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if len(files) != 1:
            names = f": {', '.join(path.name for path in files)}. Name one as the path" if files else ""
            raise DataError(f"{self.root} contains {len(files)} files of conversations{names}. Expected {self.layout}.")
        if split is not None:
            raise DataError(f"{self.root} has no split {split!r}; it has no splits.")
        self._path = files[0]
        self._rows = self._read()
        near = (self._path.parent, self._path.parent.parent)
        self._finder = ImageFinder(near[0], near[0] / "images", near[1], near[1] / "images")
        ids, seen = [str(row.get("id", n)) for n, (_, row) in enumerate(self._rows)], Counter[str]()
        self._ids = []
        for name in ids:  # several conversations of one image often share its id
            self._ids.append(f"{name}#{seen[name]}" if seen[name] else name)
            seen[name] += 1

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        where, row = self._rows[index]
        images = row.get("image") or row.get("images") or []
        names = [images] if isinstance(images, str) else images
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}: `image` is neither a path nor a list of paths.")
        turns = [_turn(turn, where) for turn in row["conversations"]]
        if isinstance(row.get("system"), str) and row["system"].strip():
            turns.insert(0, Turn(role="system", text=row["system"]))
        return Sample(
            id=f"{self._path.stem}/{self._ids[index]}", images=[str(self._finder.find_or_expected(n)) for n in names],
            turns=turns, source=self._path.stem, license=self.license,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        files = _list_files(root)
        return len(files) == 1 and _has_conversations(files[0])

    def _read(self) -> list[tuple[str, dict[str, Any]]]:
        if self._path.suffix.lower() == ".jsonl":
            rows = list(read_json_lines(self._path))
        else:
            content = read_json(self._path)
            if not isinstance(content, list):
                raise DataError(f"{self._path}: expected a list of conversations.")
            rows = [(f"{self._path}: item {n}", row) for n, row in enumerate(content)]
        for where, row in rows:
            if not isinstance(row, dict) or not isinstance(row.get("conversations"), list):
                raise DataError(f"{where}: has no list `conversations`.")
            for key in row.keys() - _KEYS:
                self.drop("keys of conversations", key)
            if not row["conversations"]:
                self.drop("empty conversations", where)
        return [(where, row) for where, row in rows if row["conversations"]]


def _list_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() in _SUFFIXES else []
    return [path for path in list_files(root, *_SUFFIXES) if _has_conversations(path)]


def _has_conversations(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
        encoding = "utf-16" if start.startswith(UTF16_MARKS) else "utf-8-sig"
        return _FIRST.search(start.decode(encoding, "replace")) is not None
    except OSError:
        return False


def _turn(turn: Any, where: str) -> Turn:
    role = _ROLES.get(str(turn.get("from")).lower()) if isinstance(turn, dict) else None
    if role is None or not isinstance(turn.get("value"), str):
        raise DataError(f"{where}: a turn needs `from` (one of {', '.join(_ROLES)}) and `value`: {str(turn)[:80]}.")
    return Turn(role=role, text=turn["value"])  # type: ignore[arg-type]
