"""Pascal VOC's XML of boxes (Everingham et al., 2010), as DIOR, LEVIR and RSOD come."""

import os
from pathlib import Path
from xml.etree import ElementTree

from lhrs.data.dataset import UNSTATED, Dataset, keep_split
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_FOLDERS = ("JPEGImages", "images", "JPEGImages-trainval", "JPEGImages-test")


class Voc(Dataset):
    """One sample per XML file of `Annotations/`; splits are those of `ImageSets/Main/*.txt`.

    VOC counts pixels from 1 and includes the last: its box 1, 1, 2, 2 is ours 0, 0, 2, 2.
    """

    homepage = "http://host.robots.ox.ac.uk/pascal/VOC/"
    licence = UNSTATED
    layout = "a folder with Annotations/*.xml and JPEGImages/ (or images/), perhaps ImageSets/Main/*.txt"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = sorted((self.root / "Annotations").rglob("*.xml"))
        if not files:
            raise DataError(f"{self.root} holds no VOC annotations. Expected {self.layout}.")
        of = {
            line.split()[0]: path.stem
            for path in sorted((self.root / "ImageSets/Main").glob("*.txt"), reverse=True)
            for line in path.read_text().splitlines() if line.strip()
        }  # fmt: skip
        splits = [of.get(path.stem) for path in files]
        self._rows = keep_split(list(zip(files, splits, strict=True)), splits, split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Sample:
        path, split = self._rows[index]
        try:
            tree = ElementTree.parse(path).getroot()
            name = tree.findtext("filename") or f"{path.stem}.jpg"
            boxes = [_box(item) for item in tree.iter("object")]
        except (ElementTree.ParseError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is not VOC's XML of boxes ({error}).") from None
        near = [self.root / folder / Path(name).name for folder in _FOLDERS]
        image = next((file for file in near if file.exists()), near[0])
        return Sample(
            id=f"{self.root.name}/{path.stem}", images=[str(image)], boxes=boxes, source=self.root.name,
            licence=self.licence, split=split,
        )  # fmt: skip

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / "Annotations").is_dir() and any((root / "Annotations").rglob("*.xml"))


def _box(item: ElementTree.Element) -> Box:
    corners = item.find("bndbox")
    if corners is None:
        raise ValueError("an object has no bndbox")
    x1, y1, x2, y2 = (float(str(corners.findtext(name))) for name in ("xmin", "ymin", "xmax", "ymax"))
    return Box(label=str(item.findtext("name")).strip(), xyxy=(x1 - 1, y1 - 1, x2, y2))
