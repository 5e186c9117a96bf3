"""DIOR-RSVG (Zhan et al., 2023, arXiv:2210.12634) and OPT-RSVG (Li et al., 2024): one box for one expression."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from lhrs.data.dataset import GROUNDING_TASK, SPLITS, Dataset, filter_split, grounding_turns, read_text
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.errors import DataError
from lhrs.schema import XYXY, Box, Sample

_FOLDERS = ("JPEGImages", "Image", "Images", "images", "")


class _Row(NamedTuple):
    number: int
    """Of the expression, counted through all files."""
    image: str
    label: str
    xyxy: XYXY
    expression: str
    split: str | None


class DiorRsvg(Dataset):
    """One sample per referring expression: the question for its box, and the expression with the box as the answer.

    Format: VOC's XML with a `description` of each object. Boxes are in pixels from 0, as in the authors' loader.
    Splits: `train.txt`, `val.txt` and `test.txt` list expressions by number, counted through all files by name. An
    image may have expressions in several splits. Sets: DIOR-RSVG has 26,991, 3,829 and 7,500 expressions of 17,402
    images in 20 classes; OPT-RSVG 48,952.
    """

    homepage = "https://github.com/ZhanYang-nwpu/RSVG-pytorch"
    license = "academic use (DIOR)"
    layout = "a folder with Annotations/*.xml, JPEGImages/, and train.txt, val.txt and test.txt"
    download_hint = "Download DIOR_RSVG from Google Drive (see the homepage) and unpack it."

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = list_files(self.root / "Annotations", ".xml") if self.root.is_dir() else []
        if not files:
            raise DataError(f"{self.root} contains no Annotations/*.xml. Expected {self.layout}.")
        splits = self._read_splits()
        rows = [row._replace(split=splits.get(row.number)) for row in _number(files)]
        beyond = sorted(splits.keys() - {row.number for row in rows})
        if beyond:
            raise DataError(
                f"{self.root}: its lists name expression {beyond[-1]:,}, but there are {len(rows):,} in all."
            )
        for row in rows if splits else ():
            if row.split is None:
                self.drop("expressions in no list", row.number)
        listed = [row for row in rows if row.split or not splits]
        self._rows = filter_split(listed, [row.split for row in listed], split, self.root)
        self._finder = ImageFinder(*(self.root / name for name in _FOLDERS))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        box = Box(label=row.label, xyxy=row.xyxy)
        return Sample(
            id=f"{self.root.name}/{row.number}", images=[str(self._finder.find_or_expected(row.image))],
            turns=grounding_turns(row.expression, box), boxes=[box], source=self.root.name, license=self.license,
            split=row.split, task=GROUNDING_TASK,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        first = list_files(root / "Annotations", ".xml")[:1] if root.is_dir() else []
        try:
            return any("<description>" in read_text(path, "replace") for path in first)
        except DataError:
            return False

    def _read_splits(self) -> dict[int, str]:
        """Return the splits by the number of the expression."""
        splits: dict[int, str] = {}
        for name in SPLITS:
            paths = [
                path for path in (self.root / f"{name}.txt", self.root / "split" / f"{name}.txt") if path.is_file()
            ]
            for line, text in enumerate(read_text(paths[0]).splitlines() if paths else (), 1):
                if not text.strip():
                    continue
                if not text.strip().isdecimal():
                    raise DataError(f"{paths[0]}:{line}: not the number of an expression: {text[:40]!r}.")
                splits[int(text)] = name
        return splits


def _number(files: list[Path]) -> Iterator[_Row]:
    """Yield the expressions of all files in order."""
    number = 0
    for path in files:
        try:
            tree = ElementTree.parse(path).getroot()
            image = (tree.findtext("filename") or f"{path.stem}.jpg").strip()
            for item in tree.iter("object"):
                label, expression = (str(item.findtext(tag) or "").strip() for tag in ("name", "description"))
                values = [float(str(item.findtext(f"bndbox/{name}"))) for name in ("xmin", "ymin", "xmax", "ymax")]
                if not label or not expression or not np.isfinite(values).all():
                    raise ValueError("an object needs name, description and a finite bndbox")
                yield _Row(number, image, label, (values[0], values[1], values[2], values[3]), expression, None)
                number += 1
        except (OSError, ElementTree.ParseError, ValueError) as error:
            raise DataError(f"{path} is not DIOR-RSVG's XML ({error}).") from None
