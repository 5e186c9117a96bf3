"""LoveDA: rural and urban scenes of 0.3 m (Wang et al., 2021)."""

from pathlib import Path

import numpy as np

from lhrs.downstream.reader import IGNORE, Item, MaskReader

_SPLITS = {"train": "Train", "val": "Val"}


class LoveDA(MaskReader):
    """Splits `train` and `val`; `test` has no public masks. Number 0 of the files, no data, counts nowhere."""

    homepage = "https://github.com/Junjue-Wang/LoveDA"
    layout = "a folder with {Train,Val}/{Rural,Urban}/{images_png,masks_png}/*.png"
    classes = ("background", "building", "road", "water", "barren", "forest", "agriculture")

    def list_items(self, split: str | None) -> list[Item]:
        folders = [name for key, name in _SPLITS.items() if split in (None, key)]
        found = []
        for image in (p for name in folders for p in sorted(self.root.glob(f"{name}/*/images_png/*.png"))):
            mask = image.parent.parent / "masks_png" / image.name
            if mask.exists():
                place = image.relative_to(self.root)
                found.append(Item(f"{place.parts[0]}/{place.parts[1]}/{image.stem}", ((image,),), mask))
        return found

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return np.where(values[0] == 0, IGNORE, values[0].astype(np.int16) - 1).astype(np.uint8)

    @classmethod
    def fits(cls, root: Path) -> bool:
        return next(root.glob("*/*/images_png"), None) is not None
