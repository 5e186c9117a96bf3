"""Pascal VOC's XML of boxes (Everingham et al., 2010), as DIOR, DIOR-R, LEVIR, RSOD, labelImg and Roboflow write it."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from lhrs.data.dataset import (
    SPLITS,
    UNKNOWN_LICENSE,
    Dataset,
    ObjectPolygon,
    box_corners,
    filter_split,
    parse_flag,
    read_text,
)
from lhrs.data.image_files import ImageFinder, list_files, list_folder_images
from lhrs.data.oriented_boxes import obb_corners, outline_box
from lhrs.errors import DataError
from lhrs.schema import Sample

_FOLDERS = ("JPEGImages", "images", "JPEGImages-trainval", "JPEGImages-test")
_FLAGGED = re.compile(r"(.*\S)\s+(?:-1|0|1)$")
"""A line of a class's own image set: a name, and whether the image shows the class."""
_ROOT = re.compile(r"<annotation[\s>]")
"""Start of a file of VOC, not of CVAT's `<annotations>`. Objects with a `description` are those of `dior_rsvg`."""
_ORIENTED = re.compile(r"(?i)oriented|obb")
"""Folder of oriented boxes in Annotations/, next to one of upright boxes of the same objects."""
_CORNERS = [
    (f"x_{side}", f"y_{side}") for side in ("left_top", "right_top", "right_bottom", "left_bottom")
]  # fmt: skip


class Voc(Dataset):
    """One sample per XML file.

    Format: VOC counts pixels from 1 and includes the last: its box 1, 1, 2, 2 is ours 0, 0, 2, 2. `robndbox`, as four
    corners (DIOR-R) or as center, size and angle, and `polygon` are outlines in our pixels. Parts of objects are left
    out. Of DIOR-R only `Oriented Bounding Boxes/` is read.
    Splits: `ImageSets/Main/*.txt`, without those of single classes (`ship_train.txt`); or folders train, valid, test.
    """

    homepage = "http://host.robots.ox.ac.uk/pascal/VOC/"
    license = UNKNOWN_LICENSE
    layout = (
        "a folder with Annotations/*.xml and JPEGImages/ (or images/), perhaps ImageSets/Main/*.txt; or NAME.xml next "
        "to each image, there or in train/, valid/, test/"
    )

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = self._without_copies(_list_annotations(self.root))
        if not files:
            raise DataError(f"{self.root} contains no VOC annotations. Expected {self.layout}.")
        sets = self._read_sets({path.stem for path in files})
        splits = [_choose_split(path, sets, split) for path in files]
        self._rows = filter_split(list(zip(files, splits, strict=True)), splits, split, self.root)
        self._finders: dict[Path, ImageFinder] = {}
        annotated = {path.stem for path in files}
        folders = (
            [self.root / name for name in _FOLDERS] if _annotation_folder(self.root) else {p.parent for p in files}
        )
        for image in (image for folder in sorted(folders) for image in list_folder_images(folder)):
            if image.stem not in annotated:
                self.drop("images without an annotation", os.path.relpath(image, self.root))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        path, split = self._rows[index]
        tree = self._parse(path)
        boxes = [outline_box(polygon.label, polygon.points, xyxy) for polygon, xyxy in self._objects(tree, path)]
        place = os.path.relpath(path.with_suffix(""), _annotation_folder(self.root) or self.root)
        return Sample(
            id=f"{self.root.name}/{Path(place).as_posix()}", images=[str(self._image(path, tree))], boxes=boxes,
            source=self.root.name, license=self.license, split=split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return oriented boxes and polygons, the corners of boxes where there are none; with the flag `difficult`."""
        path, _ = self._rows[index]
        return [polygon for polygon, _ in self._objects(self._parse(path), path)]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        try:
            texts = [read_text(path, "replace") for path in _list_annotations(root)[:1]]
            return any(_ROOT.search(text[:500]) and "<description>" not in text for text in texts)
        except DataError:
            return False

    def _without_copies(self, files: list[Path]) -> list[Path]:
        """Leave out the upright boxes of an image that has oriented ones in another folder, as in DIOR-R."""
        oriented = {path.stem for path in files if _ORIENTED.match(path.parent.name)}
        kept = [path for path in files if path.stem not in oriented or _ORIENTED.match(path.parent.name)]
        for path in set(files) - set(kept):
            self.drop("upright copies of oriented annotations", os.path.relpath(path, self.root))
        return kept

    def _read_sets(self, stems: set[str]) -> dict[str, set[str]]:
        """Return the names of the sets that an image is in, by its name."""
        sets: dict[str, dict[str, None]] = {}
        of_classes: dict[str, dict[str, None]] = {}
        for path in list_files(self.root / "ImageSets/Main", ".txt"):
            lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
            flags = [None if line in stems else _FLAGGED.match(line) for line in lines]
            if lines and all(flags):  # a class's own: the images of its split, and whether they show the class
                target, lines = of_classes.setdefault(path.stem.rpartition("_")[2], {}), [m[1] for m in flags if m]
            else:
                target = sets.setdefault(path.stem, {})
            target.update(dict.fromkeys(lines))
        sets_of: dict[str, set[str]] = {}
        for name, lines_of in (sets or of_classes).items():
            for line in lines_of:
                stem = line if line in stems else Path(line.replace("\\", "/")).stem
                if stem in stems:
                    sets_of.setdefault(stem, set()).add(name)
                else:
                    self.drop("images of ImageSets without an annotation", f"{name}: {line}")
        return sets_of

    def _parse(self, path: Path) -> ElementTree.Element:
        try:
            return ElementTree.parse(path).getroot()
        except (OSError, ElementTree.ParseError) as error:
            raise DataError(f"{path} is not VOC's XML of boxes ({error}).") from None

    def _image(self, path: Path, tree: ElementTree.Element) -> Path:
        if path.parent not in self._finders:
            self._finders[path.parent] = ImageFinder(
                *(self.root / folder for folder in _FOLDERS), path.parent, self.root
            )
        finder = self._finders[path.parent]
        name = (tree.findtext("filename") or "").strip() or path.stem
        return finder.find(name) or finder.find(path.stem) or finder.find_or_expected(name)

    def _objects(
        self, tree: ElementTree.Element, path: Path
    ) -> list[tuple[ObjectPolygon, tuple[float, float, float, float] | None]]:
        """Return the polygon of each object, and its box where it is not the one around the polygon."""
        objects = []
        try:
            for number, item in enumerate(tree.iter("object")):
                for part in range(len(item.findall("part"))):
                    self.drop("parts of objects", f"{path.stem}#{number}.{part}")
                label, difficult = (item.findtext("name") or "").strip(), parse_flag(item.findtext("difficult"))
                if not label:
                    raise ValueError("an object has no name")
                points, xyxy = _outline(item), _box(item)
                if points is None and xyxy is None:
                    raise ValueError("an object has no bndbox, robndbox or polygon")
                outline = box_corners(xyxy) if points is None and xyxy is not None else points
                objects.append((ObjectPolygon(label, np.asarray(outline), difficult), xyxy))
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is not VOC's XML of boxes ({error}).") from None
        return objects


def _annotation_folder(root: Path) -> Path | None:
    """Return the folder of annotations; None where they are next to the images."""
    return root / "Annotations" if (root / "Annotations").is_dir() else None


def _list_annotations(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    folder = _annotation_folder(root)
    if folder is not None:
        return list_files(folder, ".xml", recursive=True)
    return [p for place in (root, *(root / name for name in SPLITS)) for p in list_files(place, ".xml") if _is_own(p)]


def _is_own(path: Path) -> bool:
    """Return whether an XML file is not a sidecar file, such as GDAL's `NAME.tif.aux.xml`."""
    return not path.name.lower().endswith(".aux.xml")


def _choose_split(path: Path, sets: dict[str, set[str]], wanted: str | None) -> str | None:
    names = sets.get(path.stem, set())
    if wanted in names:
        return wanted
    if names:  # trainval contains train and val: the smaller set is more specific
        return min(names, key=lambda name: (name not in SPLITS, name))
    return path.parent.name if path.parent.name in SPLITS else None


def _box(item: ElementTree.Element) -> tuple[float, float, float, float] | None:
    corners = item.find("bndbox")
    if corners is None:
        return None
    x1, y1, x2, y2 = (_number(corners, name) for name in ("xmin", "ymin", "xmax", "ymax"))
    return x1 - 1, y1 - 1, x2, y2


def _number(element: ElementTree.Element, name: str) -> float:
    try:
        return float(str(element.findtext(name)))
    except ValueError:
        raise ValueError(f"{name} of {element.tag} is missing or no number") from None


def _outline(item: ElementTree.Element) -> np.ndarray | None:
    """Return the points `(P, 2)` of an oriented box or a polygon; None if there is neither."""
    rotated, polygon = item.find("robndbox"), item.find("polygon")
    if rotated is not None and rotated.find("cx") is not None:
        cx, cy, w, h, angle = (_number(rotated, name) for name in ("cx", "cy", "w", "h", "angle"))
        return obb_corners((cx, cy), (w, h), angle)
    if rotated is not None:
        return np.array([[_number(rotated, name) for name in pair] for pair in _CORNERS])
    if polygon is None:
        return None
    points = [(p.findtext("x"), p.findtext("y")) for p in polygon.iter("pt")]
    while (x := polygon.findtext(f"x{len(points) + 1}")) is not None:
        points.append((x, polygon.findtext(f"y{len(points) + 1}")))
    values = np.array([[float(str(v)) for v in point] for point in points])
    if len(values) < 3 or not np.isfinite(values).all():
        raise ValueError("a polygon needs three finite points")
    return values
