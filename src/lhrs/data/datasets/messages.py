"""Conversations as chat messages, in the dialects of ms-swift, LLaMA-Factory, Qwen and OpenAI."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from lhrs.data.box_notations import UNKNOWN_LABEL
from lhrs.data.dataset import (
    UNKNOWN_LICENSE,
    UTF16_MARKS,
    Dataset,
    filter_split,
    first_row,
    parse_json_object,
    read_json,
    read_json_lines,
)
from lhrs.data.datasets._conversations import (
    Message,
    NearbyImages,
    check_placeholders,
    read_size,
    to_role,
    to_turns,
)
from lhrs.data.image_files import list_files
from lhrs.data.line_index import LineIndex
from lhrs.errors import DataError
from lhrs.schema import BOX_PLACEHOLDER, IMAGE_PLACEHOLDER, Box, Sample, Turn

_SUFFIXES = (".jsonl", ".json")
_KEYS = frozenset(["id", "messages", "images", "image", "objects", "split"])
_BOX_MARK, _PHRASE_MARK = "<bbox>", "<ref-object>"
_MAX_SNIFFED_BYTES = 1 << 20


class Messages(Dataset):
    """One sample per row.

    Format: JSON lines, or a JSON list, of objects with `messages`, each of `role` (system, user, assistant; also
    developer, human, gpt) and `content`: a text, or a list of parts of `type` text, image or image_url. `<image>` in a
    text is the place of an image in `images` (paths, or objects with `path` or `url`). ms-swift's `objects` has `bbox`
    in pixels, or with `bbox_type` norm1 in fractions, for `<bbox>` in texts, and `ref` for `<ref-object>`. Boxes in
    texts are read in the notations of `lhrs.data.box_notations`. Images are near the file. Only the places of lines are
    held in memory. Other keys are counted as left out.
    Splits: a key `split`.
    """

    homepage = "https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html"
    license = UNKNOWN_LICENSE
    layout = (
        "a .jsonl file (or .json list) of rows with messages, or a folder with one such file, and the images near it"
    )

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if len(files) != 1:
            names = f": {', '.join(path.name for path in files)}. Name one as the path" if files else ""
            raise DataError(f"{self.root} contains {len(files)} files of messages{names}. Expected {self.layout}.")
        self._path = files[0]
        self._images = NearbyImages(self._path)
        self._rows: list[Any] | LineIndex = LineIndex(self._path) if _is_lines(self._path) else _read_list(self._path)
        self._numbers: Sequence[int] = range(len(self._rows))
        if split is not None:
            splits = [_split(self._row(number)) for number in self._numbers]
            self._numbers = filter_split(list(self._numbers), splits, split, self._path)

    def __len__(self) -> int:
        return len(self._numbers)

    def load(self, index: int) -> Sample:
        number = self._numbers[index]
        row, where = self._row(number), self.where(index)
        for key in row.keys() - _KEYS:
            self.drop("keys of messages", key)
        if not isinstance(row.get("messages"), list) or not row["messages"]:
            raise DataError(f"{where}: has no list `messages`.")
        listed = row.get("images") or row.get("image") or []
        sources = [_source(image, where) for image in (listed if isinstance(listed, list) else [listed])]
        messages = [_message(message, sources if not listed else [], where) for message in row["messages"]]
        images = [self._images.find(source, where) for source in sources]
        objects = row.get("objects")
        turns = _grounded(messages, images, objects, where) if objects else to_turns(messages, images, where)
        source = self._path.stem
        return Sample(
            id=f"{source}/{row.get('id', number)}", images=images, turns=turns, source=source, license=self.license,
            split=_split(row),
        )  # fmt: skip

    def where(self, index: int) -> str:
        return self._where(self._numbers[index])

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return len(_list_files(root)) == 1

    def _where(self, number: int) -> str:
        return self._rows.where(number) if isinstance(self._rows, LineIndex) else f"{self._path}: item {number}"

    def _row(self, number: int) -> dict[str, Any]:
        if isinstance(self._rows, LineIndex):
            return parse_json_object(self._rows.read(number), self._where(number))
        row = self._rows[number]
        if not isinstance(row, dict):
            raise DataError(f"{self._where(number)}: expected a JSON object, found {type(row).__name__}.")
        return row


def _is_lines(path: Path) -> bool:
    return path.suffix.lower() == ".jsonl" and not _starts_with(path, *UTF16_MARKS)


def _starts_with(path: Path, *marks: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(2).startswith(marks)


def _read_list(path: Path) -> list[Any]:
    if path.suffix.lower() == ".jsonl":
        return [row for _, row in read_json_lines(path)]
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of rows with messages.")
    return rows


def _list_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() in _SUFFIXES and _has_messages(root) else []
    return [path for path in list_files(root, *_SUFFIXES) if _has_messages(path)]


def _has_messages(path: Path) -> bool:
    if path.suffix.lower() == ".jsonl":
        return isinstance(first_row(path).get("messages"), list)
    with path.open("rb") as file:
        start = file.read(_MAX_SNIFFED_BYTES).replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \r\n\t")
    return start.startswith(b"[") and b'"messages"' in start and b'"role"' in start


def _split(row: dict[str, Any]) -> str | None:
    return row["split"] if isinstance(row.get("split"), str) else None


def _source(image: Any, where: str) -> str:
    """Return the path or URL of an image: a text, or an object with `path` or `url`."""
    if isinstance(image, dict):
        image = next((image[key] for key in ("path", "url", "image") if image.get(key)), None)
    if not isinstance(image, str) or not image:
        raise DataError(f"{where}: an image must be a path, or an object with `path` or `url`.")
    if image.startswith("data:"):
        raise DataError(f"{where}: an image is embedded; save it as a file and name its path.")
    return unquote(urlsplit(image).path) if image.startswith("file://") else image


def _message(message: Any, sources: list[str], where: str) -> Message:
    """Return a message; images among its parts are appended to `sources`, and have placeholders in its text."""
    if not isinstance(message, dict):
        raise DataError(f"{where}: a message must be an object with `role` and `content`, found {str(message)[:80]}.")
    role, content = to_role(message.get("role"), where), message.get("content")
    if isinstance(content, str):
        return Message(role, content)
    if not isinstance(content, list):
        raise DataError(f"{where}: `content` must be a text or a list of parts, found {str(content)[:80]}.")
    texts = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image", "image_url"):
            texts.append(IMAGE_PLACEHOLDER)
            if named := part.get("image") or part.get("image_url") or part.get("path") or part.get("url"):
                sources.append(_source(named, where))
        else:
            raise DataError(f"{where}: a part of `content` is neither text nor image: {str(part)[:80]}.")
    return Message(role, "\n".join(texts))


def _grounded(messages: list[Message], images: list[str], objects: Any, where: str) -> list[Turn]:
    """Return turns whose marks stand for ms-swift's `objects`."""
    check_placeholders(messages, len(images), where)
    if not images:
        raise DataError(f"{where}: has `objects` but no image.")
    phrases, boxes = _phrases(objects, where), _boxes(objects, images, where)
    turns = []
    for message in messages:
        first, *rest = message.text.split(_PHRASE_MARK)
        if len(rest) > len(phrases):
            raise DataError(f"{where}: more {_PHRASE_MARK} than `objects.ref`.")
        names = [phrases.pop(0) for _ in rest]
        text = first + "".join(name + piece for name, piece in zip(names, rest, strict=True))
        count = text.count(_BOX_MARK)
        if count > len(boxes):
            raise DataError(f"{where}: more {_BOX_MARK} than `objects.bbox`.")
        of_turn, boxes = boxes[:count], boxes[count:]
        turns.append(Turn(role=message.role, text=text.replace(_BOX_MARK, BOX_PLACEHOLDER), boxes=of_turn))
    if boxes:
        raise DataError(f"{where}: {len(boxes)} boxes of `objects.bbox` without a {_BOX_MARK}.")
    return turns


def _phrases(objects: Any, where: str) -> list[str]:
    phrases = objects.get("ref", []) if isinstance(objects, dict) else None
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise DataError(f"{where}: `objects.ref` must be a list of texts.")
    return list(phrases)


def _boxes(objects: dict[str, Any], images: list[str], where: str) -> list[Box]:
    kind = objects.get("bbox_type", "real")
    if kind not in ("real", "norm1"):
        raise DataError(f"{where}: `objects.bbox_type` is real or norm1, not {kind!r}.")
    if any(number != 0 for number in objects.get("image_id", [])):
        raise DataError(f"{where}: `objects.image_id`: boxes on another image than the first are not supported.")
    phrases = objects.get("ref", [])
    try:
        values = np.array(objects.get("bbox", []), np.float64).reshape(-1, 4)
    except (TypeError, ValueError):
        raise DataError(f"{where}: a box of `objects.bbox` must have four numbers.") from None
    if not np.isfinite(values).all():
        raise DataError(f"{where}: a box of `objects.bbox` is not finite.")
    if kind == "norm1":
        values *= np.tile(read_size(images[0], where), 2)
    labels = (
        phrases if len(phrases) == len(values) else [phrases[0] if len(phrases) == 1 else UNKNOWN_LABEL] * len(values)
    )
    return [
        Box(label=label, xyxy=(x1, y1, x2, y2)) for label, (x1, y1, x2, y2) in zip(labels, values.tolist(), strict=True)
    ]
