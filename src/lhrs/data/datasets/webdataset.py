"""Tar files of samples as the webdataset library reads them: RSTeller, RS5M, and those of `lhrs data export`."""

import json
import os
from array import array
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from lhrs.data.dataset import CAPTION_QUESTION, UNKNOWN_LICENSE, Dataset, filter_split, parse_sample, qa_turns
from lhrs.data.datasets._conversations import Message, to_role, to_turns
from lhrs.data.tar_members import SHARD_SUFFIX, TarMember, iter_members, read_member
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.schema import Sample

_TEXTS = ("txt", "caption", "text")
_IMAGE_FIELD = "img_content"
_JSON = "json"
_SPLITS = ("train", "val", "valid", "validation", "test")
_OUR_KEYS = frozenset(["id", "source", "license"])


class _Group(NamedTuple):
    """Members of one sample."""

    key: str
    images: list[TarMember]
    text: TarMember | None
    json: TarMember | None


class WebDataset(Dataset):
    """One sample per caption or conversation; shards are read in place, not unpacked.

    Format: tar files, not compressed. The files of a sample follow one another and share their name up to the first
    dot: an image (`.jpg` and so on, or RS5M's `.img_content`), and a text (`.txt`, or RS5M's `.caption`) or `.json`:
    RSTeller's `annotations` with `text`, a `caption`, `conversations` or `messages`, or a sample of `lhrs data export`.
    Other files are counted as left out. Images are named `/vsisubfile/OFFSET_LENGTH,SHARD`, which every command opens.
    Splits: a word of the shard's name, as in `pub11-train-0000.tar`.
    Sets: RSTeller (1.2 million NAIP patches of 448 x 448 pixels, 0.6 m, with 2 to 5 captions each; SlytherinGe/RSTeller
    on Hugging Face), RS5M (5 million web and satellite images with captions; Zilun/RS5M). Tasks: captions.
    """

    homepage = "https://github.com/webdataset/webdataset"
    license = UNKNOWN_LICENSE
    download_hint = "huggingface-cli download --repo-type dataset SlytherinGe/RSTeller"
    layout = "a .tar file of samples, or a folder of them"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        shards = _list_shards(self.root)
        if not shards:
            raise DataError(f"{self.root} contains no {SHARD_SUFFIX} file. Expected {self.layout}.")
        self._shards = filter_split(shards, [_split_of(shard) for shard in shards], split, self.root)
        keys, places, members = list[bytes](), array("q"), array("q")
        for number, shard in enumerate(self._shards):
            for group in self._groups(shard):
                first, count = len(members) // 2, len(group.images)
                for image in group.images:
                    members.extend((image.offset, image.length))
                for caption in range(_count_texts(group)):
                    keys.append(group.key.encode())
                    places.extend((number, caption, first, count, *_offsets(group)))
        self._keys = np.array(keys, np.bytes_)
        self._places = np.array(places, np.int64).reshape(-1, 8)
        self._members = np.array(members, np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> Sample:
        number, caption, first, count, text_at, text_length, json_at, json_length = self._places[index].tolist()
        shard, key = self._shards[number], self._keys[index].decode()
        images = [str(TarMember(shard, key, *place).path) for place in self._members[first : first + count].tolist()]
        where = f"{shard}: {key}.{_JSON}"
        row = _parse(read_member(shard, json_at, json_length), where) if json_length >= 0 else {}
        if row.keys() >= _OUR_KEYS:
            return parse_sample({**row, "images": images}, shard.parent, where)
        source, name = self.root.stem, f"{shard.stem}/{key}"
        common: dict[str, Any] = {
            "images": images,
            "license": self.license,
            "split": _split_of(shard),
            "source": source,
        }
        messages = _messages(row, where)
        if messages:
            return Sample(id=f"{source}/{name}", turns=to_turns(messages, images, where), **common)
        texts = _captions(row, where)
        if not texts and text_length >= 0:
            texts = [_decode(read_member(shard, text_at, text_length), f"{shard}: {key}")]
        if caption >= len(texts):
            raise DataError(f"{where}: has no caption.")
        turns = qa_turns(CAPTION_QUESTION, texts[caption])
        return Sample(id=f"{source}/{name}/caption-{caption}", turns=turns, task="caption", **common)

    def where(self, index: int) -> str:
        return f"{self._shards[self._places[index, 0]]}: {self._keys[index].decode()}"

    @classmethod
    def sniff(cls, root: Path) -> bool:
        shards = _list_shards(root)
        if not shards:
            return False
        try:
            group = next(_group_members(shards[0]), None)
        except DataError:
            return True  # broken, which the constructor reports
        return group is not None and not (group[1].text is None and group[1].json is None)

    def _groups(self, shard: Path) -> Iterator[_Group]:
        """Yield the samples of a shard that can be read, and count the others, and files that are not read."""
        for others, group in _group_members(shard):
            for extension in others:
                self.drop("files in shards", f".{extension}")
            place = f"{shard.name}: {group.key}"
            if not group.images and not _is_talk(group):
                self.drop("samples without an image", place)
            elif group.text is None and group.json is None:
                self.drop("samples without a text", place)
            else:
                yield group


def _list_shards(root: Path) -> list[Path]:
    paths = sorted(root.iterdir()) if root.is_dir() else [root]
    return [path for path in paths if path.suffix.lower() == SHARD_SUFFIX and path.is_file()]


def _split_of(shard: Path) -> str | None:
    words = shard.stem.lower().replace("_", "-").split("-")
    return next((word for word in words if word in _SPLITS), None)


def _group_members(shard: Path) -> Iterator[tuple[list[str], _Group]]:
    """Yield the extensions that are not read, and the members of each sample."""
    for key, members in groupby(iter_members(shard), key=lambda member: _key_and_extension(member.name)[0]):
        images, fields, others = [], dict[str, TarMember](), []
        for member in members:
            extension = _key_and_extension(member.name)[1]
            if f".{extension.rpartition('.')[2]}" in IMAGE_SUFFIXES or extension == _IMAGE_FIELD:
                images.append(member)
            elif extension in (*_TEXTS, _JSON) and extension not in fields:
                fields[extension] = member
            else:
                others.append(extension)
        text = next((fields[name] for name in _TEXTS if name in fields), None)
        yield others, _Group(key, images, text, fields.get(_JSON))


def _key_and_extension(name: str) -> tuple[str, str]:
    """Return a member's name up to the first dot after its folders, and the rest in lower case."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    folder = "" if str(path.parent) == "." else f"{path.parent}/"
    return folder + stem, extension.lower()


def _offsets(group: _Group) -> list[int]:
    """Return offset and length of the text and of the JSON; of one that is missing, 0 and -1."""
    return [
        value
        for member in (group.text, group.json)
        for value in ((member.offset, member.length) if member else (0, -1))
    ]


def _count_texts(group: _Group) -> int:
    """Return the number of samples of a group; 1 if it is broken, which `load` reports."""
    if group.json is None:
        return 1
    try:
        row = _parse(read_member(group.json.shard, group.json.offset, group.json.length), "")
        is_one = row.keys() >= _OUR_KEYS or bool(_messages(row, ""))
        return 1 if is_one else max(1, len(_captions(row, "")))
    except DataError:
        return 1


def _is_talk(group: _Group) -> bool:
    """Return whether the JSON of a group is a conversation, which needs no image."""
    if group.json is None:
        return False
    try:
        row = _parse(read_member(group.json.shard, group.json.offset, group.json.length), "")
        return row.keys() >= _OUR_KEYS or bool(_messages(row, ""))
    except DataError:
        return True  # broken, which `load` reports


def _parse(content: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(content)
    except ValueError as error:
        raise DataError(f"{where}: not valid JSON ({error}).") from None
    return row if isinstance(row, dict) else {}


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 text ({error.reason} at byte {error.start}).") from None


def _messages(row: dict[str, Any], where: str) -> list[Message]:
    """Return the conversation of a row, empty if it has none."""
    rows = row.get("conversations") or row.get("messages") or []
    if not isinstance(rows, list):
        return []
    messages = []
    for turn in rows:
        text = turn.get("value", turn.get("content")) if isinstance(turn, dict) else None
        if not isinstance(text, str):
            raise DataError(f"{where}: a turn needs a role and a text: {str(turn)[:80]}.")
        messages.append(Message(to_role(turn.get("from", turn.get("role")), where), text))
    return messages


def _captions(row: dict[str, Any], where: str) -> list[str]:
    """Return the captions of a row, empty if it has none."""
    annotations = row.get("annotations")
    if isinstance(annotations, list):
        texts = [annotation.get("text") if isinstance(annotation, dict) else None for annotation in annotations]
    else:
        caption = row.get("caption")
        texts = caption if isinstance(caption, list) else [] if caption is None else [caption]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: a caption must be a text.")
    return [str(text) for text in texts]
