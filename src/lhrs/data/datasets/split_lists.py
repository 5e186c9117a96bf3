"""Scene classification in torchgeo's layout: class folders somewhere below, and lists of file names for each split."""

import os
from pathlib import Path

from lhrs.data.dataset import UNSTATED, Dataset, keep_split
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES
from lhrs.schema import Sample

_SPLITS = ("train", "val", "test")


class SplitLists(Dataset):
    """EuroSAT, UC Merced, NWPU-RESISC45 as torchgeo unpacks them; images in no list are left out.

    A list names files, with or without their true suffix: `AnnualCrop_2215.jpg` also means the `.tif`.
    """

    homepage = "https://github.com/torchgeo/torchgeo"
    licence = UNSTATED
    layout = "a folder with NAME-train.txt, NAME-val.txt, NAME-test.txt and, at any depth, <class>/<image>"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        of: dict[str, str] = {}
        for name in _SPLITS:
            for path in sorted(self.root.glob(f"*-{name}.txt")):
                of |= {
                    Path(line.strip()).stem: name for line in path.read_text(encoding="utf-8").split() if line.strip()
                }
        if not of:
            raise DataError(f"{self.root} holds no list of a split. Expected {self.layout}.")
        paths = (path for path in self.root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.stem in of)
        rows = [(of[path.stem], path) for path in sorted(paths)]
        self._rows = keep_split(rows, [row[0] for row in rows], split, self.root)
        if not self._rows:
            raise DataError(f"{self.root} holds no image of its lists. Expected {self.layout}.")

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Sample:
        split, path = self._rows[index]
        return Sample(
            id=f"{self.root.name}/{path.parent.name}/{path.name}", images=[str(path)], labels=[path.parent.name],
            source=self.root.name, licence=self.licence, split=split,
        )  # fmt: skip

    @classmethod
    def fits(cls, root: Path) -> bool:
        return root.is_dir() and next(root.glob("*-train.txt"), None) is not None
