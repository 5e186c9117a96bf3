"""Scene classification in torchgeo's layout: class folders somewhere below, and lists of file names for each split."""

import os
from pathlib import Path

from lhrs.data.dataset import UNKNOWN_LICENSE, Dataset, filter_split, read_text
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.schema import Sample

_SPLITS = ("train", "val", "test")


class SplitLists(Dataset):
    """EuroSAT, UC Merced and NWPU-RESISC45 as torchgeo unpacks them; images in no list are left out.

    Format: `<class>/<image>` at any depth. A list has a file name a line, with or without its true suffix:
    `AnnualCrop_2215.jpg` also means the `.tif`.
    Splits: the lists `NAME-train.txt`, `NAME-val.txt` and `NAME-test.txt`.
    """

    homepage = "https://github.com/torchgeo/torchgeo"
    license = UNKNOWN_LICENSE
    layout = "a folder with NAME-train.txt, NAME-val.txt, NAME-test.txt and, at any depth, <class>/<image>"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        split_of: dict[str, str] = {}
        for name in _SPLITS:
            for path in sorted(self.root.glob(f"*-{name}.txt")):
                lines = filter(None, map(str.strip, read_text(path).splitlines()))
                split_of |= {Path(line.replace("\\", "/")).stem: name for line in lines}
        if not split_of:
            raise DataError(f"{self.root} contains no list of a split. Expected {self.layout}.")
        paths = sorted(path for path in self.root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        for path in paths:
            if path.stem not in split_of:
                self.drop("images in no list", path.relative_to(self.root))
        for stem in split_of.keys() - {path.stem for path in paths}:
            self.drop("names of lists without an image", f"{split_of[stem]}: {stem}")
        rows = [(split_of[path.stem], path) for path in paths if path.stem in split_of]
        self._rows = filter_split(rows, [row[0] for row in rows], split, self.root)
        if not self._rows:
            raise DataError(f"{self.root} contains no image of its lists. Expected {self.layout}.")

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        split, path = self._rows[index]
        return Sample(
            id=f"{self.root.name}/{path.parent.name}/{path.name}", images=[str(path)], labels=[path.parent.name],
            source=self.root.name, license=self.license, split=split,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return root.is_dir() and next(root.glob("*-train.txt"), None) is not None
