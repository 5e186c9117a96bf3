"""ISPRS Potsdam: aerial images of 5 cm (Rottensteiner et al., 2012)."""

import re
from pathlib import Path

from lhrs.data.datasets._isprs import Isprs
from lhrs.data.mask_dataset import MaskItem

_TEST = {"2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"}
_IMAGES = ("2_Ortho_RGB", "4_Ortho_RGBIR", "3_Ortho_IRRG")
_NAME = re.compile(r"top_potsdam_(\d+)_0?(\d+)_(?:RGB|IRRG|RGBIR)\.tif$")


class Potsdam(Isprs):
    """ISPRS Potsdam, semantic segmentation.

    Format: GeoTIFF of 6000 x 6000 pixels, red, green, blue (and infrared), with color-coded masks.
    Classes: impervious surface, building, low vegetation, tree, car; clutter is ignored.
    Splits: `train` (24 tiles) and `test` (14), as in the benchmark.
    """

    layout = "a folder with 2_Ortho_RGB/ (or 3_Ortho_IRRG/, 4_Ortho_RGBIR/) and 5_Labels_all_noBoundary/"
    mask_folders = (
        "5_Labels_all_noBoundary",
        "5_Labels_all",
        "5_Labels_for_participants_no_Boundary",
        "5_Labels_for_participants",
    )

    def list_items(self) -> list[MaskItem]:
        folders = [path for name in _IMAGES for path in sorted(self.root.rglob(name))]
        images, names = [], []
        for path in sorted(folders[0].iterdir()) if folders else []:
            match = _NAME.match(path.name)
            if match is not None:
                images.append((path, "test" if f"{match[1]}_{match[2]}" in _TEST else "train"))
                names.append(path.name.rsplit("_", 1)[0] + "_label.tif")
        return self.pair(images, names)

    @classmethod
    def sniff(cls, root: Path) -> bool:
        patterns = [f"{above}{name}/top_potsdam_*.tif" for name in _IMAGES for above in ("", "*/")]
        return any(next(root.glob(pattern), None) is not None for pattern in patterns)
