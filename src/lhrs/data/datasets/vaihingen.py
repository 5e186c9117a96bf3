"""ISPRS Vaihingen: aerial images of 9 cm, infrared, red, green (Rottensteiner et al., 2012)."""

from pathlib import Path

from lhrs.data.datasets._isprs import Isprs
from lhrs.data.mask_dataset import MaskItem

_TRAIN = {1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37}
_PREFIX = "top_mosaic_09cm_area"


class Vaihingen(Isprs):
    """ISPRS Vaihingen, semantic segmentation.

    Format: TIFF of about 2500 x 2000 pixels, infrared, red, green, with color-coded masks.
    Classes: impervious surface, building, low vegetation, tree, car; clutter is ignored.
    Splits: `train` (16 areas) and `test` (17), as in the benchmark.
    """

    layout = (
        f"a folder with top/{_PREFIX}N.tif and gts_eroded_for_participants/, gts_for_participants/ or the masks there"
    )
    mask_folders = (
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE", "gts_eroded_for_participants",
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE", "gts_for_participants",
    )  # fmt: skip

    def list_items(self) -> list[MaskItem]:
        folder = next((p for p in sorted(self.root.rglob("top")) if p.is_dir()), None)
        paths = sorted(folder.glob(f"{_PREFIX}*.tif")) if folder is not None else []
        numbers = {path: path.stem.removeprefix(_PREFIX) for path in paths}
        images = [
            (path, "train" if int(number) in _TRAIN else "test")
            for path, number in numbers.items() if number.isdecimal()
        ]  # fmt: skip
        return self.pair(images, [path.name for path, _ in images])

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return any(next(root.glob(f"{above}top/{_PREFIX}*.tif"), None) is not None for above in ("", "*/"))
