"""Semantic segmentation: `NAME_mask.png` next to `NAME.jpg`, or `masks/NAME.png` next to `images/NAME.jpg`."""

import os
from pathlib import Path

import numpy as np

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, read_json
from lhrs.data.mask_dataset import IGNORE, IGNORED_CLASSES, MASK_STEM, MaskDataset, MaskItem, image_of_mask, pair_masks
from lhrs.errors import DataError
from lhrs.log import warn_once

_CLASSES = "classes.json"
_MAX_PARENTS = 2
"""Folders above the root in which `classes.json` may be."""


class MaskFolder(MaskDataset):
    """Images with one mask file each.

    Format: a mask has the class number of each pixel, or a palette's index. `classes.json` is the list of names by
    number, in the folder or at most two above it. 255, and classes named `unlabeled`, `ignore`, `void` or `nodata`,
    are ignored; the others are renumbered without them.
    Splits: folders called train, val, valid, validation and test.
    """

    homepage = "https://github.com/torchgeo/torchgeo"
    license = UNKNOWN_LICENSE
    layout = f"a folder with {_CLASSES} and images with NAME{MASK_STEM}.png next to them, or images/ and masks/"

    def list_items(self) -> list[MaskItem]:
        folders = [self.root, *self.root.parents[:_MAX_PARENTS]]
        path = next((folder / _CLASSES for folder in folders if (folder / _CLASSES).is_file()), self.root / _CLASSES)
        names = read_json(path)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{path} is not a list of names.")
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
        folders = [root, *root.absolute().parents[:_MAX_PARENTS]]
        if not root.is_dir() or not any((folder / _CLASSES).is_file() for folder in folders):
            return False
        return next((path for path in root.rglob("*") if image_of_mask(path) is not None), None) is not None
