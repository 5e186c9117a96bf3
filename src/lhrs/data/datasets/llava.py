"""Conversations in LLaVA's JSON format (Liu et al., 2023, arXiv:2304.08485), as GeoChat and many others use it."""

import os
import re
from pathlib import Path
from typing import Any

from lhrs.data.dataset import UNKNOWN_LICENSE, UTF16_MARKS, Dataset, filter_split, read_json, read_json_lines
from lhrs.data.datasets._conversations import Message, NearbyImages, to_role, to_turns, unique_ids
from lhrs.data.image_files import list_files
from lhrs.errors import DataError
from lhrs.schema import Sample

_SUFFIXES = (".json", ".jsonl")
_KEYS = frozenset(["id", "image", "images", "conversations", "system", "split", "source_dataset"])
_FIRST = re.compile(r'"conversations"\s*:\s*\[\s*\{\s*"(?:from|value)"\s*:')
_SNIFFED_BYTES = 1 << 16


class Llava(Dataset):
    """One sample per conversation.

    Format: a list (or JSON lines) of objects with `id`, `image` (a path, several, or none) and `conversations`, turns
    of `from` (human, gpt or system) and `value`. Boxes in texts are read in the notations of
    `lhrs.data.box_notations`: GeoChat's with their angle, VRSBench's, FIT-RS's, InternVL's, Qwen2-VL's, and fractions.
    Images are next to the file, in a folder there or above. Other keys are counted as left out.
    Sets: GeoChat_Instruct (318,000; MBZUAI/GeoChat_Instruct on Hugging Face), VHM SFT (list_sft.json of
    FitzPC/VHM_dataset_sft, images in folders named by `source_dataset`), VRSBench (142,390 in VRSBench_train.json of
    xiang709/VRSBench, with Images_train.zip), FIT-RS (1,415,000 in FIT-RS-train-1415k.json of ll-13/FIT-RS).
    Tasks: captions, questions, referring, grounding, scenes, relations, as each set names them in its texts.
    """

    homepage = "https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md"
    license = UNKNOWN_LICENSE
    download_hint = "huggingface-cli download --repo-type dataset MBZUAI/GeoChat_Instruct (and so on, see Sets)"
    layout = "a .json list or .jsonl file of conversations, or a folder with one such file, and the images near it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if len(files) != 1:
            names = f": {', '.join(path.name for path in files)}. Name one as the path" if files else ""
            raise DataError(f"{self.root} contains {len(files)} files of conversations{names}. Expected {self.layout}.")
        self._path = files[0]
        rows = self._read()
        self._rows = filter_split(rows, [_split(row) for _, row in rows], split, self.root)
        self._images = NearbyImages(self._path)
        self._ids = unique_ids(_id(row, n) for n, (_, row) in enumerate(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        where, row = self._rows[index]
        if not isinstance(row, dict) or not isinstance(row.get("conversations"), list):
            raise DataError(f"{where}: has no list `conversations`.")
        value = row.get("image") or row.get("images") or []
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{where}: `image` is neither a path nor a list of paths.")
        folder = row.get("source_dataset")
        images = [self._images.find(f"{folder}/{name}" if isinstance(folder, str) else name, where) for name in names]
        messages = [_message(turn, where) for turn in row["conversations"]]
        if isinstance(row.get("system"), str) and row["system"].strip():
            messages.insert(0, Message("system", row["system"]))
        return Sample(
            id=f"{self._path.stem}/{self._ids[index]}", images=images, turns=to_turns(messages, images, where),
            source=self._path.stem, license=self.license, split=_split(row),
        )  # fmt: skip

    def where(self, index: int) -> str:
        return self._rows[index][0]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        files = _list_files(root)
        return len(files) == 1 and _has_conversations(files[0])

    def _read(self) -> list[tuple[str, Any]]:
        if self._path.suffix.lower() == ".jsonl":
            rows: list[tuple[str, Any]] = list(read_json_lines(self._path))
        else:
            content = read_json(self._path)
            if not isinstance(content, list):
                raise DataError(f"{self._path}: expected a list of conversations.")
            rows = [(f"{self._path}: item {n}", row) for n, row in enumerate(content)]
        kept = []
        for where, row in rows:
            if isinstance(row, dict) and isinstance(row.get("conversations"), list):
                for key in row.keys() - _KEYS:
                    self.drop("keys of conversations", key)
                if not row["conversations"]:
                    self.drop("empty conversations", where)
                    continue
            kept.append((where, row))
        return kept


def _split(row: Any) -> str | None:
    split = row.get("split") if isinstance(row, dict) else None
    return split if isinstance(split, str) else None


def _id(row: Any, number: int) -> str:
    return str(row.get("id", number) if isinstance(row, dict) else number)


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


def _message(turn: Any, where: str) -> Message:
    # InternVL's documentation writes answers as `text`.
    text = turn.get("value", turn.get("text")) if isinstance(turn, dict) else None
    if not isinstance(turn, dict) or not isinstance(text, str):
        raise DataError(f"{where}: a turn needs `from` and `value`: {str(turn)[:80]}.")
    return Message(to_role(turn.get("from"), where), text)
