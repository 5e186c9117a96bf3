"""DOTA (Xia et al., 2018, arXiv:1711.10398): one text file of quadrangles per image."""

import os
import re
from pathlib import Path

import numpy as np

from lhrs.data.dataset import SPLITS, Dataset, ObjectPolygon, filter_split, parse_flag, read_text
from lhrs.data.image_files import list_files, list_folder_images
from lhrs.data.oriented_boxes import outline_box
from lhrs.errors import DataError
from lhrs.schema import Sample

_FOLDERS = ("labelTxt", "annfiles", "labelTxt-v1.0", "labelTxt-v1.5")
_FLAGS = ("0", "1", "2", "0.0", "1.0", "2.0", "true", "false")
_FRACTION = re.compile(r"[-+]?\d*\.\d+")
"""Such as a confidence, which a label does not have."""


class Dota(Dataset):
    """One sample per image; boxes are those around the quadrangles and keep their corners. Difficult ones are kept.

    Format: lines are `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`; a class may have several words, the flag may be
    missing; `imagesource:` and `gsd:` may come first.
    Splits: folders train, val (or valid) and test.
    """

    homepage = "https://captain-whu.github.io/DOTA/dataset.html"
    license = "academic use only (DOTA); images of Google Earth, GF-2 and CycloMedia"
    layout = "a folder with images/ and labelTxt/ (or annfiles/), or one such folder for each of train, val, test"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        rows = [(name, image, label) for name, folder in _parts(self.root) for image, label in self._pair(folder)]
        if not rows:
            raise DataError(f"{self.root} contains no DOTA annotations. Expected {self.layout}.")
        self._rows = filter_split(rows, [row[0] for row in rows], split, self.root)

    def _pair(self, folder: Path) -> list[tuple[Path, Path]]:
        images = {path.stem: path for path in list_folder_images(folder / "images")}
        labels = _labels(folder)
        assert labels is not None
        pairs = []
        for path in list_files(labels, ".txt"):
            if path.stem not in images:
                raise DataError(f"{path} has no image {path.stem}.* in {folder / 'images'}.")
            pairs.append((images.pop(path.stem), path))
        for path in images.values():
            self.drop("images without an annotation", os.path.relpath(path, self.root))
        return pairs

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        split, image, _ = self._rows[index]
        boxes = [outline_box(o.label, o.points) for o in self.polygons(index)]
        return Sample(
            id=f"dota/{split or ''}{'/' if split else ''}{image.stem}", images=[str(image)], boxes=boxes,
            source="dota", license=self.license, split=split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the quadrangles."""
        return _read(self._rows[index][2])

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return root.is_dir() and bool(_parts(root))


def _parts(root: Path) -> list[tuple[str | None, Path]]:
    """Return the folders that hold images and annotations, with their splits."""
    if _labels(root):
        return [(None, root)]
    return [(name, root / name) for name in SPLITS if _labels(root / name)]


def _labels(folder: Path) -> Path | None:
    return next((folder / name for name in _FOLDERS if (folder / name).is_dir()), None)


def _read(path: Path) -> list[ObjectPolygon]:
    polygons = []
    for number, line in enumerate(read_text(path, "replace").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].lower().startswith(("imagesource", "gsd")):
            continue
        words = fields[8:]
        has_flag = len(words) > 1 and words[-1].lower() in _FLAGS
        try:
            corners = np.array(fields[:8], float).reshape(4, 2)
            label = " ".join(words[:-1] if has_flag else words)
            if not label or (not has_flag and _FRACTION.fullmatch(words[-1])):
                raise ValueError("no class, or a number that is no flag after it")
        except ValueError:
            raise DataError(f"{path}:{number}: not eight numbers and a class: {line[:80]!r}.") from None
        if not np.isfinite(corners).all():
            raise DataError(f"{path}:{number}: a corner is not a finite number: {line[:80]!r}.")
        polygons.append(ObjectPolygon(label, corners, has_flag and parse_flag(words[-1])))
    return polygons
