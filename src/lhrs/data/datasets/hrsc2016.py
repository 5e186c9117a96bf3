"""HRSC2016: ships with oriented boxes (Liu et al., 2017, "A high resolution optical satellite image dataset for ship
recognition and some new baselines", ICPRAM)."""

import os
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from lhrs.data.dataset import Dataset, ObjectPolygon, filter_split, parse_flag, read_text
from lhrs.data.image_files import ImageFinder, list_files, list_folder_images
from lhrs.data.oriented_boxes import obb_corners, outline_box
from lhrs.errors import DataError
from lhrs.schema import Sample

_PARTS = (("FullDataSet", None), ("Train", "train"), ("Val", "val"), ("Test", "test"), ("", None))
"""Folders that hold Annotations/, and the split that a folder alone means."""
_LISTS = ("train", "val", "test", "trainval")


class Hrsc2016(Dataset):
    """One sample per image; boxes keep their corners, and `difficult` is a flag of the polygons.

    Format: an XML file for each image, with center, width, height and angle (radians, clockwise) of each ship, and its
    upright box. Classes are ids, which `sysdata.xml` names; without that file each object is a `ship`. Heads of ships
    and segmentation masks are not read.
    Splits: `ImageSets/{train,val,test,trainval}.txt`, else folders Train and Test. Sets: 436, 181 and 444 images, with
    1,207, 541 and 1,228 ships.
    """

    homepage = "https://sites.google.com/site/hrsc2016/"
    license = "academic use only (HRSC2016); images of Google Earth"
    layout = "a folder with FullDataSet/ (or Train/ and Test/) of AllImages/*.bmp and Annotations/*.xml, and ImageSets/"
    download_hint = "Download HRSC2016 from its homepage (a form), and unpack all parts into one folder."

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        parts = _find_parts(self.root)
        if not parts:
            raise DataError(f"{self.root} contains no Annotations/*.xml of HRSC2016. Expected {self.layout}.")
        self._names = _read_names([folder for folder, _ in parts])
        self.classes = list(dict.fromkeys(self._names.values())) or ["ship"]
        listed = self._read_lists()
        files = [(path, name) for folder, name in parts for path in list_files(folder / "Annotations", ".xml")]
        splits = [_choose_split(listed.get(path.stem, []), name, split) for path, name in files]
        rows = [(path, name) for (path, _), name in zip(files, splits, strict=True)]
        self._rows = filter_split(rows, splits, split, self.root)
        self._finders = {folder: ImageFinder(folder / "AllImages", folder / "images", folder) for folder, _ in parts}
        annotated = {path.stem for path, _ in files}
        for image in (image for folder, _ in parts for image in list_folder_images(folder / "AllImages")):
            if image.stem not in annotated:
                self.drop("images without an annotation", os.path.relpath(image, self.root))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        path, split = self._rows[index]
        tree = _parse(path)
        suffix = (tree.findtext("Img_FileFmt") or "bmp").strip()
        image = self._finders[path.parents[1]].find_or_expected(f"{path.stem}.{suffix}")
        boxes = [outline_box(polygon.label, polygon.points, xyxy) for polygon, xyxy in self._objects(tree, path)]
        return Sample(
            id=f"hrsc2016/{path.stem}", images=[str(image)], boxes=boxes, source="hrsc2016", license=self.license,
            split=split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the corners of the oriented boxes."""
        path = self._rows[index][0]
        return [polygon for polygon, _ in self._objects(_parse(path), path)]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return root.is_dir() and bool(_find_parts(root))

    def _read_lists(self) -> dict[str, list[str]]:
        """Return the names of the lists that an image is in, by its stem."""
        lists: dict[str, list[str]] = {}
        for folder in (self.root / "ImageSets", self.root / "FullDataSet" / "ImageSets"):
            for name in _LISTS if folder.is_dir() else ():
                path = folder / f"{name}.txt"
                for line in read_text(path).split() if path.is_file() else ():
                    lists.setdefault(Path(line).stem, []).append(name)
        return lists

    def _objects(
        self, tree: ElementTree.Element, path: Path
    ) -> list[tuple[ObjectPolygon, tuple[float, float, float, float]]]:
        objects = []
        for number, item in enumerate(tree.iter("HRSC_Object")):
            try:
                cx, cy, w, h, angle = _numbers(item, *(f"mbox_{name}" for name in ("cx", "cy", "w", "h", "ang")))
                x1, y1, x2, y2 = _numbers(item, *(f"box_{name}" for name in ("xmin", "ymin", "xmax", "ymax")))
            except ValueError as error:
                raise DataError(f"{path}: object {number} is broken, {error}.") from None
            class_id = (item.findtext("Class_ID") or "").strip()
            if self._names and class_id not in self._names:
                raise DataError(f"{path}: class {class_id!r} of object {number} is not in sysdata.xml.")
            label, is_difficult = self._names.get(class_id, "ship"), parse_flag(item.findtext("difficult"))
            objects.append((ObjectPolygon(label, obb_corners((cx, cy), (w, h), angle), is_difficult), (x1, y1, x2, y2)))
        return objects


def _find_parts(root: Path) -> list[tuple[Path, str | None]]:
    """Return the folders with annotations of HRSC2016; the full set alone, if it is there."""
    parts = [(root / name, split) for name, split in _PARTS if _is_part(root / name)]
    return parts[:1] if parts and parts[0][1] is None else parts


def _is_part(folder: Path) -> bool:
    first = list_files(folder / "Annotations", ".xml")[:1]
    try:
        return any("<HRSC_Image" in read_text(path, "replace") for path in first)
    except DataError:
        return False


def _read_names(folders: list[Path]) -> dict[str, str]:
    """Return the names of the classes by id, as text; none without `sysdata.xml`."""
    for path in (place / "sysdata.xml" for folder in folders for place in (folder, folder.parent)):
        if path.is_file():
            pairs = [
                ((item.findtext("Class_ID") or "").strip(), (item.findtext("Class_EngName") or "").strip())
                for item in _parse(path).iter("HRSC_Class")
            ]
            return {
                class_id: name.removeprefix("|--)").partition("(")[0].strip() or class_id for class_id, name in pairs
            }
    return {}


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise DataError(f"{path} is not HRSC2016's XML ({error}).") from None


def _numbers(item: ElementTree.Element, *names: str) -> list[float]:
    try:
        values = [float(str(item.findtext(name))) for name in names]
    except ValueError:
        raise ValueError(f"it needs the numbers {', '.join(names)}") from None
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    return values


def _choose_split(names: list[str], folder_split: str | None, wanted: str | None) -> str | None:
    """Return the wanted list that an image is in, else the smallest one, else the split of its folder."""
    if wanted in names:
        return wanted
    return min(names, key=_LISTS.index) if names else folder_split
