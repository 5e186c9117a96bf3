"""Change detection in folders: LEVIR-CD (Chen and Shi, 2020), CDD (Lebedev et al., 2018) and all of their layout."""

import os
from pathlib import Path

import numpy as np

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE
from lhrs.data.mask_dataset import MaskDataset, MaskItem
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES

_LABELS = ("label", "OUT")


class BeforeAfter(MaskDataset):
    """Two images of the same name, and a mask of the changes between them.

    Format: folders A (before), B (after) and label or OUT (mask). Masks are 0 and not 0; those of JPEG are changed
    above 127.
    Classes: no change, change.
    Splits: folders called train, val and test, or the beginning of file names (`train_1.png`).
    """

    homepage = "https://justchenhao.github.io/LEVIR/"
    license = UNKNOWN_LICENSE
    layout = (
        "a folder with {train,val,test}/{A,B,label} (LEVIR-CD), {A,B,OUT} (CDD), or A, B, label of files train_*.png"
    )
    dates = 2
    classes = ("no change", "change")

    def list_items(self) -> list[MaskItem]:
        items = []
        for before in sorted(p for p in self.root.rglob("A") if p.is_dir()):
            labels = next((before.parent / name for name in _LABELS if (before.parent / name).is_dir()), None)
            if labels is None:
                self.drop("folders without masks", os.path.relpath(before, self.root))
                continue
            place = before.parent.relative_to(self.root)
            images = sorted(p for p in before.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
            for image in images:
                after, mask = before.parent / "B" / image.name, _same_stem(labels, image)
                if not after.exists() or mask is None:
                    raise DataError(f"{image} has no image of its name in {after.parent} or no mask in {labels}.")
                name = (place / image.stem).as_posix()
                items.append(MaskItem(name, ((image,), (after,)), mask, _split_of(place, image)))
            for mask in sorted(p for p in labels.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
                if mask.stem not in {image.stem for image in images}:
                    self.drop("masks without an image", os.path.relpath(mask, self.root))
        # CDD's masks are JPEG, with nonzero noise in unchanged pixels. Lossless masks may have values 0 and 1.
        self._threshold = 127 if any(item.mask.suffix.lower() in (".jpg", ".jpeg") for item in items) else 0
        return items

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return (values[0] > self._threshold).astype(np.uint8)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        dates = [before for above in ("", "*/", "*/*/") for before in root.glob(f"{above}A") if before.is_dir()]
        return any((a.parent / "B").is_dir() and any((a.parent / n).is_dir() for n in _LABELS) for a in dates)


def _split_of(place: Path, image: Path) -> str | None:
    prefix = image.name.split("_")[0]
    return next((name for name in (*place.parts, prefix) if name in SPLITS), None)


def _same_stem(folder: Path, image: Path) -> Path | None:
    return next((p for p in sorted(folder.glob(f"{image.stem}.*")) if p.suffix.lower() in IMAGE_SUFFIXES), None)
