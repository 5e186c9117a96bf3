"""ChatEarthNet (Yuan et al., 2024): Sentinel-2 images of the whole Earth with detailed captions."""

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import CAPTION_QUESTION, Dataset, filter_split, qa_turns, read_json
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.errors import DataError
from lhrs.schema import Sample

_NAME = re.compile(r"ChatEarthNet_caps_(?P<writer>35|4v)_(?P<split>train|val|test)", re.IGNORECASE)
_IMAGE_FOLDERS = ("s2_rgb_images/s2_images", "s2_images", "s2_rgb_images", "images", "")
_SNIFFED_BYTES = 1 << 16


class _Row(NamedTuple):
    where: str
    source: str
    split: str | None
    entry: Any
    key: int
    """Index among the captions of the image."""


class ChatEarthNet(Dataset):
    """One sample per caption.

    Format: JSON lists of objects with `image` (or `image_id`) and `caption`, a text or several. The three-band images
    of the other bands, `s2_band_5_6_7_images` and `s2_band_8_11_12_images`, are not read.
    Splits: train, val and test, as the files' names end.
    Size: 163,488 images of 256 x 256 pixels with captions of ChatGPT-3.5 (`caps_35`), 10,000 of ChatGPT-4V (`caps_4v`).
    Tasks: captions.
    """

    homepage = "https://github.com/zhu-xlab/ChatEarthNet"
    license = "CC-BY-4.0"
    download_hint = "json_files.zip and s2_rgb_images.zip of https://doi.org/10.5281/zenodo.11003436"
    layout = "a folder with json_files/ChatEarthNet_caps_*.json and s2_rgb_images/s2_images, or one of these files"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if not files:
            raise DataError(f"{self.root} contains no ChatEarthNet_caps_*.json. Expected {self.layout}.")
        rows = [row for path in files for row in _read(path)]
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)
        top = self.root if self.root.is_dir() else self.root.parent
        tops = (top.parent, top) if top.name == "json_files" or self.root.is_file() else (top,)
        self._finder = ImageFinder(*(folder / name for folder in tops for name in _IMAGE_FOLDERS))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        name, captions = _fields(row.entry)
        if not isinstance(name, str) or not name or row.key >= len(captions) or not isinstance(captions[row.key], str):
            raise DataError(f"{row.where}: needs `image` and `caption`, has {json.dumps(row.entry)[:80]}.")
        return Sample(
            id=f"{row.source}/{name}/caption-{row.key}", images=[str(self._finder.find_or_expected(name))],
            turns=qa_turns(CAPTION_QUESTION, captions[row.key].strip()), source=row.source, license=self.license,
            split=row.split, attribution="ChatEarthNet (Yuan et al., 2024)", task="caption",
        )  # fmt: skip

    def where(self, index: int) -> str:
        return self._rows[index].where

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))


def _read(path: Path) -> list[_Row]:
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of objects with `image` and `caption`.")
    named = _NAME.search(path.stem)
    source = f"chatearthnet-{named['writer'].lower()}" if named else path.stem
    split = named["split"].lower() if named else None
    return [
        _Row(f"{path}: item {n}", source, split, entry, key)
        for n, entry in enumerate(content) for key in range(max(1, len(_fields(entry)[1])))
    ]  # fmt: skip


def _fields(entry: Any) -> tuple[Any, list[Any]]:
    """Return the name of the image and the captions of an entry."""
    if not isinstance(entry, dict):
        return None, []
    caption = entry.get("caption")
    captions = caption if isinstance(caption, list) else [] if caption is None else [caption]
    return entry.get("image", entry.get("image_id")), captions


def _list_files(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() == ".json" and (is_chatearthnet(root) or _has_image_ids(root)) else []
    return [
        path for folder in (root, root / "json_files") for path in list_files(folder, ".json") if is_chatearthnet(path)
    ]


def is_chatearthnet(path: Path) -> bool:
    """Return whether a file has the name of one of ChatEarthNet's."""
    return _NAME.search(path.stem) is not None


def _has_image_ids(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    return start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"[") and b'"image_id"' in start and b'"caption"' in start
