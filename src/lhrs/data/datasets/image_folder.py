"""Scene classification as folders: `<class>/<image>`, or `<split>/<class>/<image>`."""

import os
from pathlib import Path

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, Dataset, filter_split
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.schema import Sample

_SPLITS = frozenset(SPLITS)
_ANNOTATIONS = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xml", ".geojson"}


class ImageFolder(Dataset):
    """Images whose folder names their scene class; there are no turns, only labels.

    Format: `<class>/<image>`. Files of class folders that are no images are counted as left out.
    Splits: folders called train, val, valid, validation or test: all those in `root`, or `root` itself.
    """

    homepage = "https://pytorch.org/vision/stable/generated/torchvision.datasets.ImageFolder.html"
    license = UNKNOWN_LICENSE
    layout = "a folder with <class>/<image> or <split>/<class>/<image>"
    is_fallback = True

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
            (name, label, image)
            for name in splits
            for label in _folders(self._top / name)
            for image in self._images(self._top / name / label)
        ]
        if not rows:
            raise DataError(f"{self.root} contains no images. Expected {self.layout}.")
        self._rows = filter_split(rows, [row[0] or None for row in rows], split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        split, label, _ = self._rows[index]
        place = "/".join(self._rows[index]).lstrip("/")
        return Sample(
            id=f"{self._top.name}/{place}",
            images=[str(self._top / place)],
            labels=[label],
            source=self._top.name,
            license=self.license,
            split=split or None,
        )

    def _images(self, folder: Path) -> list[str]:
        """Return the names of the images in a folder, in order; other files are counted."""
        names = sorted(entry.name for entry in os.scandir(folder) if not entry.name.startswith("."))
        images = [name for name in names if _is_image(name)]
        for name in names if len(images) < len(names) else []:
            if not _is_image(name):
                self.drop("entries that are no images", os.path.relpath(folder / name, self._top))
        return images

    @classmethod
    def sniff(cls, root: Path) -> bool:
        if not root.is_dir() or any(path.suffix.lower() in _ANNOTATIONS for path in root.iterdir()):
            return False  # annotations next to the folders: another reader is preferred
        names = _folders(root)
        if names and _SPLITS.issuperset(names):
            classes = [root / split / name for split in names for name in _folders(root / split)]
        else:
            classes = [root / name for name in names]
        return len(classes) > 1 and all(map(_has_images, classes))


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _has_images(folder: Path) -> bool:
    return any(_is_image(entry.name) and not entry.name.startswith(".") for entry in os.scandir(folder))
