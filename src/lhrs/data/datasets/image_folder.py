"""Scene classification as folders: `<class>/<image>`, or `<split>/<class>/<image>`."""

import os
from pathlib import Path

from lhrs.data.dataset import UNSTATED, Dataset, keep_split
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES
from lhrs.schema import Sample

_SPLITS = {"train", "val", "valid", "validation", "test"}
_ANNOTATIONS = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xml", ".geojson"}


class ImageFolder(Dataset):
    """Images whose folder names their scene class; there are no turns, only labels.

    Folders called train, val, valid, validation or test are splits: all those in `root`, or `root` itself.
    """

    homepage = "https://pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html"
    licence = UNSTATED
    layout = "a folder with <class>/<image> or <split>/<class>/<image>"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        if not self.root.is_dir():
            raise DataError(f"{self.root} is a file. Expected {self.layout}.")
        children = _folders(self.root)
        if self.root.name in _SPLITS:
            self._top, splits = self.root.parent, [self.root.name]
        else:
            self._top, splits = self.root, children if children and _SPLITS.issuperset(children) else [""]
        rows = [
            (of, label, name)
            for of in splits
            for label in _folders(self._top / of)
            for name in _images(self._top / of / label)
        ]
        if not rows:
            raise DataError(f"{self.root} holds no images. Expected {self.layout}.")
        self._rows = keep_split(rows, [row[0] or None for row in rows], split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Sample:
        split, label, _ = self._rows[index]
        place = "/".join(self._rows[index]).lstrip("/")
        return Sample(
            id=f"{self._top.name}/{place}",
            images=[str(self._top / place)],
            labels=[label],
            source=self._top.name,
            licence=self.licence,
            split=split or None,
        )

    @classmethod
    def fits(cls, root: Path) -> bool:
        if not root.is_dir() or any(path.suffix in _ANNOTATIONS for path in root.iterdir()):
            return False  # annotations beside the folders: another reader knows more than their names
        names = _folders(root)
        if names and _SPLITS.issuperset(names):
            classes = [root / split / name for split in names for name in _folders(root / split)]
        else:
            classes = [root / name for name in names]
        return len(classes) > 1 and all(_images(folder) for folder in classes)


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _images(path: Path) -> list[str]:
    """Return the names of the images in `path`, in order."""
    names = (entry.name for entry in os.scandir(path) if not entry.name.startswith("."))
    return sorted(name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES)
