"""DOTA (Xia et al., 2018, arXiv:1711.10398): one text file of quadrangles per image."""

import os
from pathlib import Path

import numpy as np

from lhrs.data.dataset import Dataset, Outline, keep_split
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES
from lhrs.schema import Box, Sample

_FOLDERS = ("labelTxt", "annfiles", "labelTxt-v1.0", "labelTxt-v1.5")
_SPLITS = ("train", "val", "test")


class Dota(Dataset):
    """One sample per image; boxes are those around the quadrangles, outlines they themselves. Difficult ones are kept.

    Lines are `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`; `imagesource:` and `gsd:` may stand above.
    """

    homepage = "https://captain-whu.github.io/DOTA/dataset.html"
    licence = "academic use only (DOTA); images of Google Earth, GF-2 and CycloMedia"
    layout = "a folder with images/ and labelTxt/ (or annfiles/), or one such folder for each of train, val, test"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        rows = [(of, image, label) for of, folder in _parts(self.root) for image, label in _pairs(folder)]
        if not rows:
            raise DataError(f"{self.root} holds no DOTA annotations. Expected {self.layout}.")
        self._rows = keep_split(rows, [row[0] for row in rows], split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Sample:
        split, image, _ = self._rows[index]
        boxes = [
            Box(label=o.label, xyxy=tuple([*o.points.min(0).tolist(), *o.points.max(0).tolist()]))
            for o in self.outlines(index)
        ]  # fmt: skip
        return Sample(
            id=f"dota/{split or ''}{'/' if split else ''}{image.stem}", images=[str(image)], boxes=boxes,
            source="dota", licence=self.licence, split=split,
        )  # fmt: skip

    def outlines(self, index: int) -> list[Outline]:
        """Return the quadrangles."""
        return _read(self._rows[index][2])

    @classmethod
    def fits(cls, root: Path) -> bool:
        return root.is_dir() and bool(_parts(root))


def _parts(root: Path) -> list[tuple[str | None, Path]]:
    """Return the folders that hold images and annotations, with their splits."""
    if _labels(root):
        return [(None, root)]
    return [(name, root / name) for name in _SPLITS if _labels(root / name)]


def _labels(folder: Path) -> Path | None:
    return next((folder / name for name in _FOLDERS if (folder / name).is_dir()), None)


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    images = {
        path.stem: path for path in sorted((folder / "images").glob("*")) if path.suffix.lower() in IMAGE_SUFFIXES
    }
    labels = _labels(folder)
    assert labels is not None
    found = []
    for path in sorted(labels.glob("*.txt")):
        if path.stem not in images:
            raise DataError(f"{path} has no image {path.stem}.* in {folder / 'images'}.")
        found.append((images[path.stem], path))
    return found


def _read(path: Path) -> list[Outline]:
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith(("imagesource", "gsd")):
            continue
        try:
            corners = np.array(fields[:8], float).reshape(4, 2)
            label, difficult = fields[8], fields[9:10] == ["1"]
        except (ValueError, IndexError):
            raise DataError(f"{path}:{number}: not eight numbers and a class: {line[:80]!r}.") from None
        if not np.isfinite(corners).all():
            raise DataError(f"{path}:{number}: a corner is not a finite number: {line[:80]!r}.")
        found.append(Outline(label, corners, difficult))
    return found
