"""Segmentation masks: images with `NAME_mask.png` beside them, and what their numbers mean in `classes.json`."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from lhrs.data.dataset import UNSTATED, Dataset, keep_split, read_json
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_CLASSES = "classes.json"
_MASK = "_mask.png"
_IGNORED = frozenset(["unlabeled", "unlabelled", "background", "ignore", "void"])
_LEAST_SIDE_PX = 4


class Masks(Dataset):
    """One sample per image; boxes are around the connected parts of each class, `labels` the classes that it holds.

    Parts under 4 pixels a side are left out. `classes.json` is a list: the first name is that of number 0.
    """

    homepage = "https://github.com/torchgeo/torchgeo"
    licence = UNSTATED
    layout = f"a folder with {_CLASSES} and, there or below, NAME.jpg with NAME{_MASK} beside it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._names = read_json(self.root / _CLASSES)
        if not isinstance(self._names, list) or not all(isinstance(name, str) for name in self._names):
            raise DataError(f"{self.root / _CLASSES} is not a list of names.")
        self._masks = keep_split(sorted(self.root.rglob(f"*{_MASK}")), [], split, self.root)
        if not self._masks:
            raise DataError(f"{self.root} holds no masks. Expected {self.layout}.")

    def __len__(self) -> int:
        return len(self._masks)

    def read(self, index: int) -> Sample:
        mask = self._masks[index]
        stem = mask.name.removesuffix(_MASK)
        image = next((path for path in sorted(mask.parent.glob(f"{stem}.*")) if path != mask), None)
        if image is None:
            raise DataError(f"{mask} has no image {stem}.* beside it.")
        try:
            with Image.open(mask) as opened:
                numbers = np.array(opened)
        except OSError as error:
            raise DataError(f"{mask} cannot be read: {error}.") from None
        if numbers.ndim != 2 or numbers.max() >= len(self._names):
            raise DataError(f"{mask} is not one number below {len(self._names)} per pixel.")
        return Sample(
            id=mask.relative_to(self.root).with_suffix("").as_posix().removesuffix("_mask"), images=[str(image)],
            boxes=self._boxes(numbers), source=self.root.name, licence=self.licence,
        )  # fmt: skip

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / _CLASSES).is_file() and next(root.rglob(f"*{_MASK}"), None) is not None

    def _boxes(self, numbers: np.ndarray) -> list[Box]:
        from rasterio.features import shapes

        found = []
        wanted = ~np.isin(numbers, [n for n, name in enumerate(self._names) if name.lower() in _IGNORED])
        for outline, number in shapes(numbers.astype(np.int16), mask=wanted):
            ring = np.array(outline["coordinates"][0])
            (x1, y1), (x2, y2) = ring.min(0).tolist(), ring.max(0).tolist()
            if min(x2 - x1, y2 - y1) >= _LEAST_SIDE_PX:
                found.append(Box(label=self._names[int(number)], xyxy=(x1, y1, x2, y2)))
        return sorted(found, key=lambda box: (box.xyxy[1], box.xyxy[0], box.label))
