"""OSCD: 24 pairs of Sentinel-2 scenes of cities, 13 bands (Daudt et al., 2018)."""

from pathlib import Path

import numpy as np

from lhrs.data.mask_dataset import MaskDataset, MaskItem
from lhrs.errors import DataError

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""In the order in which `data.bands` counts them."""
_IMAGES = "Onera Satellite Change Detection dataset - Images"
_LABELS = {"train": "Train Labels", "test": "Test Labels"}


class OSCD(MaskDataset):
    """OSCD, change detection.

    Format: one GeoTIFF per band and date, uint16; bands are resampled to those of 10 m. Masks, `cm.png`, are 255 where
    something changed. The images of a sample are the 13 bands of the first date, then those of the second.
    Classes: no change, change.
    Splits: `train` (14 cities) and `test` (10) of the official layout.
    """

    homepage = "https://rcdaudt.github.io/oscd/"
    license = "CC-BY-NC-SA-4.0 (masks); contains modified Copernicus Sentinel data"
    layout = f"a folder with the official ones (`{_IMAGES}`, ...), or CITY/{{1,2}}_B01.tif ... with CITY/cm.png"
    download_hint = "Get it with torchgeo (`torchgeo.datasets.OSCD(download=True)`) or from its homepage."
    dates = 2
    classes = ("no change", "change")

    def list_items(self) -> list[MaskItem]:
        official = self.root / _IMAGES
        if not official.is_dir():
            masks = sorted(self.root.glob("*/cm.png"))
            return [
                _item(p.parent.name, [[p.parent / f"{n}_{b}.tif" for b in BANDS] for n in (1, 2)], p) for p in masks
            ]
        items = []
        for split, name in _LABELS.items():
            folder = self.root / f"Onera Satellite Change Detection dataset - {name}"
            for mask in sorted(folder.glob("*/cm/cm.png")):
                city = mask.parent.parent.name
                dates = [[official / city / f"imgs_{n}_rect" / f"{b}.tif" for b in BANDS] for n in (1, 2)]
                items.append(_item(city, dates, mask, split))
        cities = {item.id for item in items}
        for folder in sorted(path for path in official.iterdir() if path.is_dir() and path.name not in cities):
            self.drop("cities without a mask", folder.name)
        return items

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return (values[0] > 127).astype(np.uint8)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return (root / _IMAGES).is_dir() or next(root.glob("*/1_B01.tif"), None) is not None


def _item(city: str, dates: list[list[Path]], mask: Path, split: str | None = None) -> MaskItem:
    missing = next((file for files in dates for file in files if not file.exists()), None)
    if missing is not None:
        raise DataError(f"{missing} is missing.")
    return MaskItem(city, (tuple(dates[0]), tuple(dates[1])), mask, split)
