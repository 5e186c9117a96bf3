"""ISPRS Potsdam: aerial images of 5 cm (Rottensteiner et al., 2012)."""

import re
from pathlib import Path

from lhrs.downstream.datasets._isprs import Isprs
from lhrs.downstream.reader import Item

_TEST = {"2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15", "5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"}
_IMAGES = ("2_Ortho_RGB", "4_Ortho_RGBIR", "3_Ortho_IRRG")
_NAME = re.compile(r"top_potsdam_(\d+)_0?(\d+)_(?:RGB|IRRG|RGBIR)\.tif$")


class Potsdam(Isprs):
    """Splits `train` (24 tiles) and `test` (14), as in the benchmark."""

    layout = "a folder with 2_Ortho_RGB/ (or 3_Ortho_IRRG/, 4_Ortho_RGBIR/) and 5_Labels_all_noBoundary/"
    labels = (
        "5_Labels_all_noBoundary",
        "5_Labels_all",
        "5_Labels_for_participants_no_Boundary",
        "5_Labels_for_participants",
    )

    def list_items(self, split: str | None) -> list[Item]:
        folders = [
            p for name in ("2_Ortho_RGB", "4_Ortho_RGBIR", "3_Ortho_IRRG") for p in sorted(self.root.rglob(name))
        ]
        found = sorted(p for p in folders[0].iterdir() if _NAME.match(p.name)) if folders else []
        images, names = [], []
        for path in found:
            row, column = _NAME.match(path.name).groups()  # type: ignore[union-attr]
            if split is None or split == ("test" if f"{row}_{column}" in _TEST else "train"):
                images.append(path)
                names.append(path.name.rsplit("_", 1)[0] + "_label.tif")
        return self.pair(images, names)

    @classmethod
    def fits(cls, root: Path) -> bool:
        return next(root.rglob("top_potsdam_*.tif"), None) is not None
