"""LoveDA: rural and urban scenes of 0.3 m (Wang et al., 2021)."""

from pathlib import Path

import numpy as np

from lhrs.data.mask_dataset import IGNORE, MaskDataset, MaskItem

_SPLITS = {"train": "Train", "val": "Val"}


class LoveDA(MaskDataset):
    """LoveDA, semantic segmentation.

    Format: PNG of 1024 x 1024 pixels; number 0 of the masks, no data, is ignored.
    Classes: background, building, road, water, barren, forest, agriculture.
    Splits: `train` (2,522 images) and `val` (1,669); `test` has no public masks.
    """

    homepage = "https://github.com/Junjue-Wang/LoveDA"
    license = "CC-BY-NC-SA-4.0"
    layout = "a folder with {Train,Val}/{Rural,Urban}/{images_png,masks_png}/*.png"
    download_hint = "Get it with torchgeo (`torchgeo.datasets.LoveDA(download=True)`) or from its homepage."
    classes = ("background", "building", "road", "water", "barren", "forest", "agriculture")

    def list_items(self) -> list[MaskItem]:
        items = []
        for split, folder in _SPLITS.items():
            for image in sorted(self.root.glob(f"{folder}/*/images_png/*.png")):
                mask = image.parent.parent / "masks_png" / image.name
                name = f"{folder}/{image.parent.parent.name}/{image.stem}"
                if mask.exists():
                    items.append(MaskItem(name, ((image,),), mask, split))
                else:
                    self.drop("images without a mask", name)
        return items

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return np.where(values[0] == 0, IGNORE, values[0].astype(np.int16) - 1).astype(np.uint8)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return next(root.glob("*/*/images_png"), None) is not None
