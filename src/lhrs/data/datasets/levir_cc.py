"""LEVIR-CC (Liu et al., 2022): pairs of images of two dates, with sentences on what changed."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import Dataset, filter_split, qa_turns, read_json
from lhrs.errors import DataError
from lhrs.schema import Sample

CHANGE_QUESTION = "Describe the changes between the two images."
_FILE = "LevirCCcaptions.json"
_CHANGED = {0: "no change", 1: "change"}


class _Row(NamedTuple):
    where: str
    folder: str
    name: str
    split: str | None
    label: str | None
    key: int
    """Index among the captions of the pair."""
    caption: Any


class LevirCC(Dataset):
    """One sample per sentence, each with the images before and after, in this order.

    Format: `LevirCCcaptions.json`, an object with `images` of `filepath` (train, val or test), `filename`, `split`,
    `changeflag` (0 or 1) and `sentences` of `raw`. The images are `images/SPLIT/A/NAME` (before) and
    `images/SPLIT/B/NAME` (after). LEVIR-MCI has the same file; its masks are read as `before_after`.
    Classes: no change, change.
    Splits: train, val and test.
    Size: 10,077 pairs of 256 x 256 pixels, 0.5 m, with 5 sentences each. Tasks: change captions.
    """

    homepage = "https://github.com/Chen-Yang-Liu/RSICC"
    license = "academic use only (images of LEVIR-CD)"
    download_hint = "huggingface-cli download --repo-type dataset lcybuaa/LEVIR-CC, then unpack the archive of images"
    layout = "a folder with LevirCCcaptions.json and images/{train,val,test}/{A,B}, or that file"
    dates = 2
    classes = tuple(_CHANGED.values())

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._path = self.root / _FILE if self.root.is_dir() else self.root
        content = read_json(self._path)
        entries = content.get("images") if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise DataError(f"{self._path}: has no list `images`. Expected {self.layout}.")
        rows = [row for number, entry in enumerate(entries) for row in self._parse(number, entry)]
        self._rows = filter_split(rows, [row.split for row in rows], split, self._path)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        if not isinstance(row.caption, str) or not row.name:
            raise DataError(f"{row.where}: a pair needs `filename` and sentences with `raw`.")
        folder = self._path.parent / "images" / row.folder
        return Sample(
            id=f"levir-cc/{row.name}/caption-{row.key}", images=[str(folder / date / row.name) for date in ("A", "B")],
            turns=qa_turns(CHANGE_QUESTION, row.caption.strip()), labels=[row.label] if row.label else [],
            source="levir-cc", license=self.license, split=row.split, attribution="LEVIR-CC (Liu et al., 2022)",
            task="change-caption",
        )  # fmt: skip

    def where(self, index: int) -> str:
        return self._rows[index].where

    @classmethod
    def sniff(cls, root: Path) -> bool:
        path = root / _FILE if root.is_dir() else root
        if not path.is_file() or path.suffix.lower() != ".json":
            return False
        with path.open("rb") as file:
            return b'"changeflag"' in file.read(1 << 16)

    def _parse(self, number: int, entry: Any) -> list[_Row]:
        where = f"{self._path}: image {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{where}: expected an object, found {type(entry).__name__}.")
        split = entry.get("split") if isinstance(entry.get("split"), str) else None
        folder, name = entry.get("filepath") or split or "", entry.get("filename") or ""
        sentences = entry.get("sentences") if isinstance(entry.get("sentences"), list) else []
        if not sentences:
            self.drop("pairs without a sentence", name or where)
        captions = [sentence.get("raw") if isinstance(sentence, dict) else None for sentence in sentences or ()]
        label = _CHANGED.get(entry.get("changeflag"))  # type: ignore[arg-type]
        return [_Row(where, str(folder), str(name), split, label, key, text) for key, text in enumerate(captions)]
