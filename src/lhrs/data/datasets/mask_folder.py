"""Semantic segmentation: `NAME_mask.png` next to `NAME.jpg`, or `masks/NAME.png` next to `images/NAME.jpg`."""

import csv
import os
from pathlib import Path

import numpy as np

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, read_json, read_text
from lhrs.data.mask_dataset import IGNORE, IGNORED_CLASSES, MASK_STEM, MaskDataset, MaskItem, image_of_mask, pair_masks
from lhrs.errors import DataError
from lhrs.log import warn_once

_CLASSES = "classes.json"
_ROBOFLOW = "_classes.csv"
_MAX_PARENTS = 2
"""Folders above the root in which `classes.json` may be."""


class MaskFolder(MaskDataset):
    """Images with one mask file each.

    Format: a mask has the class number of each pixel, or a palette's index. `classes.json` is the list of names by
    number, in the folder or at most two above it; Roboflow's `_classes.csv` (`Pixel Value, Class`) is read too. 255,
    and classes named `unlabeled`, `ignore`, `void` or `nodata`, are ignored; the others are renumbered without them.
    Splits: folders called train, val, valid, validation and test.
    """

    homepage = "https://github.com/torchgeo/torchgeo"
    license = UNKNOWN_LICENSE
    layout = f"a folder with {_CLASSES} and images with NAME{MASK_STEM}.png next to them, or images/ and masks/"

    def list_items(self) -> list[MaskItem]:
        names = _read_names(_find_names(self.root) or self.root / _CLASSES)
        kept = [n for n, name in enumerate(names) if name.lower() not in IGNORED_CLASSES]
        self.classes = [names[n] for n in kept]
        self._num_names, self._second_name = len(names), names[1] if len(names) > 1 else ""
        self._has_classes = False
        self._number = np.full(256, IGNORE, np.uint8)
        self._number[kept] = range(len(kept))
        pairs, unpaired = pair_masks(self.root)
        for path in unpaired:
            self.drop("images without a mask", os.path.relpath(path, self.root))
        items = []
        for image, mask in pairs:
            place = image.relative_to(self.root)
            split = next((part for part in place.parts[:-1] if part in SPLITS), None)
            items.append(MaskItem(place.with_suffix("").as_posix(), ((image,),), mask, split))
        return items

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        if len(values) == 3 and (values == values[:1]).all():  # a gray image stored as red, green and blue
            values = values[:1]
        numbers = set(np.unique(values[0]).tolist())
        self._hint_binary(numbers)
        if len(values) != 1 or not numbers <= {*range(self._num_names), IGNORE}:
            odd = sorted(numbers - {*range(self._num_names), IGNORE})[:1]
            content = f"{len(values)} bands" if len(values) != 1 else f"the number {odd[0]:g}"
            raise DataError(f"not one number of {_CLASSES} per pixel: it has {content}, not 0-{self._num_names - 1}.")
        return self._number[values[0].astype(np.uint8)]

    def _hint_binary(self, numbers: set[float]) -> None:
        """Warn if the first masks have only 0 and 255: of a binary mask 255 is often meant to be the object."""
        self._has_classes |= bool(numbers - {0, IGNORE})
        if IGNORE in numbers and not self._has_classes and self._num_names > 1:
            warn_once(
                f"{self.root}: a mask has only the values 0 and 255, and 255 is ignored. "
                f"If 255 means {self._second_name!r}, write 1 instead of 255."
            )

    @classmethod
    def sniff(cls, root: Path) -> bool:
        if not root.is_dir() or _find_names(root) is None:
            return False
        return next((path for path in root.rglob("*") if image_of_mask(path) is not None), None) is not None


def _find_names(root: Path) -> Path | None:
    """Return the file of the classes, in the folder, at most two above it, or in folders of splits."""
    above = [root, *root.absolute().parents[:_MAX_PARENTS]]
    jsons = (folder / _CLASSES for folder in above)
    tables = (folder / _ROBOFLOW for folder in (root, *(root / split for split in SPLITS)))
    is_table = (path for path in tables if path.is_file() and "pixel value" in read_text(path, "replace")[:40].lower())
    return next((path for path in jsons if path.is_file()), None) or next(is_table, None)


def _read_names(path: Path) -> list[str]:
    """Return the names of the classes by number."""
    if path.name == _ROBOFLOW:
        rows = [row for row in csv.reader(read_text(path).splitlines()) if row]
        pairs = [(number.strip(), name.strip()) for number, name, *_ in rows[1:]]
        if [number for number, _ in pairs] != [str(number) for number in range(len(pairs))]:
            raise DataError(f"{path} does not number its classes from 0 in order.")
        return [name for _, name in pairs]
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} is not a list of names.")
    return names
