"""Semantic segmentation: `NAME_mask.png` next to `NAME.jpg`, or `masks/NAME.png` next to `images/NAME.jpg`."""

import os
from collections import defaultdict
from pathlib import Path

import numpy as np

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, read_json
from lhrs.data.mask_dataset import IGNORE, IGNORED_CLASSES, MaskDataset, MaskItem
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES

_CLASSES = "classes.json"
_MASK = "_mask"
_MAX_PARENTS = 2
"""Folders above the root in which `classes.json` may be."""


class MaskFolder(MaskDataset):
    """Images with one mask file each.

    Format: a mask has the class number of each pixel, or a palette's index. `classes.json` is the list of names by
    number, in the folder or at most two above it. 255, and classes named `unlabeled`, `ignore`, `void` or `nodata`,
    count nowhere; the others are renumbered without them.
    Splits: folders called train, val, valid, validation and test.
    """

    homepage = "https://github.com/torchgeo/torchgeo"
    licence = UNKNOWN_LICENSE
    layout = f"a folder with {_CLASSES} and images with NAME{_MASK}.png next to them, or images/ and masks/"

    def list_items(self) -> list[MaskItem]:
        folders = [self.root, *self.root.parents[:_MAX_PARENTS]]
        path = next((folder / _CLASSES for folder in folders if (folder / _CLASSES).is_file()), self.root / _CLASSES)
        names = read_json(path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path} is not a list of names.")
        kept = [n for n, name in enumerate(names) if name.lower() not in IGNORED_CLASSES]
        self.classes = [names[n] for n in kept]
        self._num_names = len(names)
        self._number = np.full(256, IGNORE, np.uint8)
        self._number[kept] = range(len(kept))
        return self._pair_files()

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        if len(values) == 3 and (values == values[:1]).all():  # a gray image stored as red, green and blue
            values = values[:1]
        numbers = set(np.unique(values[0]).tolist())
        if len(values) != 1 or not numbers <= {*range(self._num_names), IGNORE}:
            odd = sorted(numbers - {*range(self._num_names), IGNORE})[:1]
            found = f"{len(values)} bands" if len(values) != 1 else f"the number {odd[0]:g}"
            raise DataError(f"not one number of {_CLASSES} per pixel: it has {found}, not 0-{self._num_names - 1}.")
        return self._number[values[0].astype(np.uint8)]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        folders = [root, *root.absolute().parents[:_MAX_PARENTS]]
        if not root.is_dir() or not any((folder / _CLASSES).is_file() for folder in folders):
            return False
        return next((path for path in root.rglob("*") if _image_of(path) is not None), None) is not None

    def _pair_files(self) -> list[MaskItem]:
        images: dict[tuple[Path, str], list[Path]] = defaultdict(list)
        masks: list[tuple[Path, tuple[Path, str]]] = []
        for path in sorted(self.root.rglob("*")):
            if path.suffix.lower() not in IMAGE_SUFFIXES or path.name[0] == ".":
                continue
            image = _image_of(path)
            if image is None:
                images[path.parent, path.stem].append(path)
            else:
                masks.append((path, image))
        items = []
        for mask, (folder, stem) in masks:
            found = images.pop((folder, stem), None)
            if found is None:
                raise DataError(f"{mask} has no image {stem}.* in {folder}.")
            place = found[0].relative_to(self.root)
            split = next((part for part in place.parts[:-1] if part in SPLITS), None)
            items.append(MaskItem(place.with_suffix("").as_posix(), ((found[0],),), mask, split))
        for path in (path for paths in images.values() for path in paths):
            self.drop("images without a mask", os.path.relpath(path, self.root))
        return items


def _image_of(path: Path) -> tuple[Path, str] | None:
    """Return folder and stem of the image that a mask belongs to; None if the path is no mask."""
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    if path.stem.endswith(_MASK):
        return path.parent, path.stem.removesuffix(_MASK)
    return (path.parent.parent / "images", path.stem) if path.parent.name == "masks" else None
