"""OSCD: 24 pairs of Sentinel-2 scenes of cities, 13 bands (Daudt et al., 2018)."""

from pathlib import Path

import numpy as np

from lhrs.downstream.reader import Item, MaskReader
from lhrs.errors import DataError

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""In the order in which `data.bands` counts them."""
_IMAGES = "Onera Satellite Change Detection dataset - Images"
_LABELS = {"train": "Train Labels", "test": "Test Labels"}


class OSCD(MaskReader):
    """Splits `train` (14 cities) and `test` (10) of the official layout; bands are resampled to the 10 m ones.

    Mask files, `cm.png`, are 255 where something changed.
    """

    homepage = "https://rcdaudt.github.io/oscd/"
    layout = f"the official folders (`{_IMAGES}`, ...), or CITY/{{1,2}}_B01.tif ... with CITY/cm.png"
    dates = 2
    classes = ("no change", "change")

    def list_items(self, split: str | None) -> list[Item]:
        if split is not None and split not in _LABELS:
            raise DataError(f"OSCD has no split {split!r}; it has {', '.join(_LABELS)}.")
        official = self.root / _IMAGES
        if not official.is_dir():
            masks = sorted(self.root.glob("*/cm.png")) if split is None else []
            return [
                _item(p.parent.name, [[p.parent / f"{n}_{b}.tif" for b in BANDS] for n in (1, 2)], p) for p in masks
            ]
        found = []
        for of in [split] if split else _LABELS:
            folder = self.root / f"Onera Satellite Change Detection dataset - {_LABELS[of]}"
            for mask in sorted(folder.glob("*/cm/cm.png")):
                city = mask.parent.parent.name
                dates = [[official / city / f"imgs_{n}_rect" / f"{b}.tif" for b in BANDS] for n in (1, 2)]
                found.append(_item(city, dates, mask))
        return found

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return (values[0] > 127).astype(np.uint8)

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / _IMAGES).is_dir() or next(root.glob("*/1_B01.tif"), None) is not None


def _item(city: str, dates: list[list[Path]], mask: Path) -> Item:
    missing = next((file for files in dates for file in files if not file.exists()), None)
    if missing is not None:
        raise DataError(f"{missing} is missing.")
    return Item(city, (tuple(dates[0]), tuple(dates[1])), mask)
