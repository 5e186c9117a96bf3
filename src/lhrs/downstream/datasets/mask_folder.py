"""Images with masks in files: `NAME_mask.png` beside `NAME.jpg`, or `masks/NAME.png` beside `images/NAME.jpg`."""

from pathlib import Path

import numpy as np

from lhrs.data.dataset import read_json
from lhrs.downstream.reader import IGNORE, Item, MaskReader
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES

_CLASSES = "classes.json"
_MASK = "_mask"
_IGNORED = frozenset(["unlabeled", "unlabelled", "ignore", "void", "nodata"])


class MaskFolder(MaskReader):
    """`classes.json` is a list of names by number; numbers named `unlabeled` or `ignore`, and 255, count nowhere.

    Folders called train, val and test are splits, where there are any.
    """

    homepage = "https://github.com/torchgeo/torchgeo"
    layout = f"a folder with {_CLASSES} and images with NAME{_MASK}.png beside them, or images/ and masks/"

    def list_items(self, split: str | None) -> list[Item]:
        names = read_json(self.root / _CLASSES)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise DataError(f"{self.root / _CLASSES} is not a list of names.")
        kept = [n for n, name in enumerate(names) if name.lower() not in _IGNORED]
        self.classes = [names[n] for n in kept]
        self._number = np.full(256, IGNORE, np.uint8)
        self._number[kept] = range(len(kept))
        self._known = {*range(len(names)), IGNORE}
        found = []
        for mask in sorted(self.root.rglob("*")):
            if mask.suffix.lower() not in IMAGE_SUFFIXES or mask.name[0] == ".":
                continue
            place = mask.relative_to(self.root)
            if split is not None and split not in place.parts[:-1]:
                continue
            if mask.stem.endswith(_MASK):
                folder, stem = mask.parent, mask.stem.removesuffix(_MASK)
            elif mask.parent.name == "masks":
                folder, stem = mask.parent.parent / "images", mask.stem
            else:
                continue
            image = next((p for p in sorted(folder.glob(f"{stem}.*")) if p.suffix.lower() in IMAGE_SUFFIXES), None)
            if image is None:
                raise DataError(f"{mask} has no image {stem}.* in {folder}.")
            found.append(Item(image.relative_to(self.root).with_suffix("").as_posix(), ((image,),), mask))
        return found

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        numbers = np.unique(values[0])
        if len(values) != 1 or not self._known.issuperset(numbers.tolist()):
            raise DataError(f"not one number of {_CLASSES} per pixel.")
        return self._number[values[0].astype(np.uint8)]

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / _CLASSES).is_file()
