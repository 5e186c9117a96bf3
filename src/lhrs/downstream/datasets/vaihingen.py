"""ISPRS Vaihingen: aerial images of 9 cm, infrared, red, green (Rottensteiner et al., 2012)."""

from pathlib import Path

from lhrs.downstream.datasets._isprs import Isprs
from lhrs.downstream.reader import Item

_TRAIN = {1, 3, 5, 7, 11, 13, 15, 17, 21, 23, 26, 28, 30, 32, 34, 37}
_PREFIX = "top_mosaic_09cm_area"


class Vaihingen(Isprs):
    """Splits `train` (16 areas) and `test` (17), as in the benchmark."""

    layout = (
        f"a folder with top/{_PREFIX}N.tif and gts_eroded_for_participants/, gts_for_participants/ or the masks beside"
    )
    labels = (
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE", "gts_eroded_for_participants",
        "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE", "gts_for_participants",
    )  # fmt: skip

    def list_items(self, split: str | None) -> list[Item]:
        folder = next((p for p in sorted(self.root.rglob("top")) if p.is_dir()), None)
        if folder is None:
            return []
        images = []
        for path in sorted(folder.glob(f"{_PREFIX}*.tif")):
            number = path.stem.removeprefix(_PREFIX)
            if number.isdecimal() and split in (None, "train" if int(number) in _TRAIN else "test"):
                images.append(path)
        plain = self.pair(images, [p.name for p in images])
        return plain or self.pair(images, [f"{p.stem}_noBoundary.tif" for p in images])

    @classmethod
    def fits(cls, root: Path) -> bool:
        return next(root.rglob(f"top/{_PREFIX}*.tif"), None) is not None
