"""Captions in Karpathy's JSON layout: RSICD, RSITMD, UCM- and Sydney-captions; and NWPU-Captions."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import CAPTION_QUESTION, UNKNOWN_LICENSE, Dataset, filter_split, qa_turns, read_json
from lhrs.data.datasets._conversations import NearbyImages
from lhrs.data.image_files import list_files
from lhrs.errors import DataError
from lhrs.schema import Sample

_SNIFFED_BYTES = 1 << 16


class _Row(NamedTuple):
    where: str
    image: str
    label: str | None
    split: str | None
    key: int
    """Index among the captions of the image."""
    caption: Any


class Karpathy(Dataset):
    """One sample per caption.

    Format: a JSON object with `images`, each with `filename`, `split` and `sentences` of `raw`; or NWPU-Captions', a
    list of images for each scene class, with `filename`, `split` and `raw`, `raw_1` to `raw_4`. Images are near the
    file; NWPU's in folders of their classes.
    Splits: as `split` names them.
    Sets: RSICD (10,921 images of 224 x 224 pixels, 5 captions each), RSITMD (4,743 of 256 x 256), UCM-captions (2,100
    of 256 x 256), Sydney-captions (613 of 500 x 500), NWPU-Captions (31,500 of 256 x 256). Tasks: captions, retrieval.
    """

    homepage = "https://github.com/201528014227051/RSICD_optimal"
    license = UNKNOWN_LICENSE
    download_hint = (
        "links at the homepage; RSITMD at github.com/xiaoyuan1996/AMFMN, NWPU-Captions at "
        "github.com/HaiyanHuang98/NWPU-Captions"
    )
    layout = "a dataset_*.json of captions, or a folder with one such file, and the images near it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if len(files) != 1:
            names = f": {', '.join(path.name for path in files)}. Name one as the path" if files else ""
            raise DataError(f"{self.root} contains {len(files)} files of captions{names}. Expected {self.layout}.")
        self._path = files[0]
        content = read_json(self._path)
        named = content.get("dataset") if isinstance(content, dict) else None
        self._source = named if isinstance(named, str) and named else self._path.stem.removeprefix("dataset_")
        rows = self._read(content)
        self._rows = filter_split(rows, [row.split for row in rows], split, self._path)
        self._images = NearbyImages(self._path)
        self.classes = sorted({row.label for row in rows if row.label is not None})

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        if not isinstance(row.caption, str) or not row.image:
            raise DataError(f"{row.where}: an image needs `filename` and captions in `raw`.")
        return Sample(
            id=f"{self._source}/{row.image}/caption-{row.key}", images=[self._images.find(row.image, row.where)],
            turns=qa_turns(CAPTION_QUESTION, row.caption.strip()), labels=[row.label] if row.label else [],
            source=self._source, license=self.license, split=row.split, task="caption",
        )  # fmt: skip

    def where(self, index: int) -> str:
        return self._rows[index].where

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return len(_list_files(root)) == 1

    def _read(self, content: Any) -> list[_Row]:
        entries = list(_entries(content))
        if not entries:
            raise DataError(f"{self._path}: has no images with captions. Expected {self.layout}.")
        rows = []
        for number, (label, entry) in enumerate(entries):
            where = f"{self._path}: image {number}"
            captions = _captions(entry)
            if not captions:
                self.drop("images without a caption", entry.get("filename", where))
            name, split = str(entry.get("filename") or ""), entry.get("split")
            name = f"{label}/{name}" if label and name else name
            rows += [_Row(where, name, label, split, key, text) for key, text in enumerate(captions)]
        return rows


def _entries(content: Any) -> list[tuple[str | None, dict[str, Any]]]:
    """Return the images of either layout with their classes."""
    if not isinstance(content, dict):
        return []
    if isinstance(content.get("images"), list):
        return [(None, entry) for entry in content["images"] if isinstance(entry, dict)]
    return [
        (label, entry) for label, entries in content.items() if isinstance(entries, list)
        for entry in entries if isinstance(entry, dict)
    ]  # fmt: skip


def _captions(entry: dict[str, Any]) -> list[Any]:
    if "sentences" in entry:
        sentences = entry["sentences"] if isinstance(entry["sentences"], list) else [None]
        return [sentence.get("raw") if isinstance(sentence, dict) else sentence for sentence in sentences]
    keys = ["raw", *sorted((key for key in entry if key.startswith("raw_")), key=_number)]
    return [entry[key] for key in keys if key in entry]


def _number(key: str) -> int:
    suffix = key.removeprefix("raw_")
    return int(suffix) if suffix.isdecimal() else 0


def _list_files(root: Path) -> list[Path]:
    paths = [root] if root.is_file() else list_files(root, ".json")
    return [path for path in paths if path.suffix.lower() == ".json" and _has_captions(path)]


def _has_captions(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_SNIFFED_BYTES)
    if not start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") or b'"changeflag"' in start:
        return False
    return b'"raw"' in start and b'"filename"' in start
