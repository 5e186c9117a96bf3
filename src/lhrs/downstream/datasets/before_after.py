"""Two dates in folders: LEVIR-CD (Chen and Shi, 2020), CDD (Lebedev et al., 2018) and all that lies like them."""

from pathlib import Path

import numpy as np

from lhrs.downstream.reader import Item, MaskReader
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES

_LABELS = ("label", "OUT")


class BeforeAfter(MaskReader):
    """Splits are folders, or what file names begin with (`train_1.png`)."""

    homepage = "https://justchenhao.github.io/LEVIR/"
    layout = (
        "a folder with {train,val,test}/{A,B,label} (LEVIR-CD), {A,B,OUT} (CDD), or A, B, label of files train_*.png"
    )
    dates = 2
    classes = ("no change", "change")

    def list_items(self, split: str | None) -> list[Item]:
        found = []
        for before in sorted(p for p in self.root.rglob("A") if p.is_dir()):
            label = next((before.parent / name for name in _LABELS if (before.parent / name).is_dir()), None)
            if label is None:
                continue
            place = before.parent.relative_to(self.root)
            for image in sorted(p for p in before.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES):
                if split is not None and split not in place.parts and not image.name.startswith(f"{split}_"):
                    continue
                after, mask = before.parent / "B" / image.name, _beside(label, image)
                if not after.exists() or mask is None:
                    raise DataError(f"{image} has no image of its name in {after.parent} or no mask in {label}.")
                found.append(Item((place / image.stem).as_posix(), ((image,), (after,)), mask))
        # CDD's masks are JPEG, whose zeros are not all zero; exact ones may be of 0 and 1.
        self._threshold = 127 if any(Path(item.label).suffix.lower() in (".jpg", ".jpeg") for item in found) else 0
        return found

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return (values[0] > self._threshold).astype(np.uint8)

    @classmethod
    def fits(cls, root: Path) -> bool:
        return next((p for p in root.rglob("A") if (p.parent / "B").is_dir()), None) is not None


def _beside(folder: Path, image: Path) -> Path | None:
    return next((p for p in sorted(folder.glob(f"{image.stem}.*")) if p.suffix.lower() in IMAGE_SUFFIXES), None)
