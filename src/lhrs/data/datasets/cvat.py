"""CVAT's XML for images 1.1 (https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/)."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, Dataset, ObjectPolygon, box_corners, filter_split
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.data.oriented_boxes import obb_corners, outline_box, turn_box
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_LEFT_OUT = ("polyline", "points", "cuboid", "skeleton")
_SNIFFED_BYTES = 1 << 16
_DEFAULT = "default"
"""CVAT's name of the subset of images without a subset of their own."""


class _Object(NamedTuple):
    box: Box
    polygon: ObjectPolygon


class _Image(NamedTuple):
    name: str
    split: str | None
    labels: list[str]
    objects: list[_Object]


class Cvat(Dataset):
    """One sample per image.

    Format: `annotations.xml` with an `image` for each file; its `box` has corners in pixels and perhaps a rotation,
    clockwise about the center in degrees. Polygons and rotated ellipses are outlines, of which four points are an
    oriented box; masks are read as their boxes; tags are scene classes. Points, lines, cuboids and skeletons are left
    out, and so are attributes. Tracks ("CVAT for video") are refused.
    Splits: the attribute `subset`, else a folder train, val, valid, validation or test in the image's name.
    """

    homepage = "https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/"
    license = UNKNOWN_LICENSE
    layout = "an annotations.xml of 'CVAT for images 1.1', or a folder with one, and the images in images/ or near it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if len(files) != 1:
            names = f": {', '.join(path.name for path in files)}. Name one as the path" if files else ""
            raise DataError(f"{self.root} contains {len(files)} XML files of CVAT{names}. Expected {self.layout}.")
        self._path = files[0]
        images = list(self._read())
        folder = self._path.parent
        self._finder = ImageFinder(folder / "images", folder, folder.parent / "images", folder.parent)
        for image in self._finder.unlisted(image.name for image in images):
            self.drop("images that are not listed", os.path.relpath(image, folder))
        self._images = filter_split(images, [image.split for image in images], split, self.root)
        self._source = folder.name

    def __len__(self) -> int:
        return len(self._images)

    def load(self, index: int) -> Sample:
        image = self._images[index]
        place = image.name.replace("\\", "/")
        return Sample(
            id=f"{self._source}/{image.split}/{place}" if image.split else f"{self._source}/{place}",
            images=[str(self._finder.find_or_expected(image.name))], labels=image.labels,
            boxes=[item.box for item in image.objects], source=self._source, license=self.license, split=image.split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the points of polygons, the corners of boxes."""
        return [item.polygon for item in self._images[index].objects]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))

    def _read(self) -> Iterator[_Image]:
        name = "before the first image"
        try:
            for event, element in ElementTree.iterparse(self._path, ("start", "end")):
                if event == "start" and element.tag == "image":
                    name = f"image {element.get('name')}"
                elif event == "start" and element.tag == "track":
                    raise DataError(f"{self._path} has tracks of a video: export the task as 'CVAT for images 1.1'.")
                elif event == "end" and element.tag == "image":
                    yield self._image(element)
                    element.clear()
        except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
            raise DataError(f"{self._path}, {name}: not CVAT's XML for images ({error}).") from None

    def _image(self, element: ElementTree.Element) -> _Image:
        name = element.get("name")
        if not name:
            raise ValueError("an image has no name")
        objects, labels = [], []
        for number, shape in enumerate(element):
            place = f"{name}#{number}"
            if shape.tag in _LEFT_OUT:
                self.drop("points, lines, cuboids and skeletons", place)
                continue
            for attribute in shape.iter("attribute"):
                self.drop("attributes of objects", f"{place}.{attribute.get('name')}")
            if shape.tag == "tag":
                labels.append(_label(shape))
            else:
                if shape.tag == "mask":
                    self.drop("pixel masks, read as boxes", place)
                points = _outline(shape)
                objects.append(_Object(outline_box(_label(shape), points), ObjectPolygon(_label(shape), points)))
        parts = PurePosixPath(name.replace("\\", "/")).parts[:-1]
        subset = element.get("subset") or ""
        split = next((part for part in (subset.lower(), subset, *parts) if part in SPLITS), None)
        named = subset if subset.lower() != _DEFAULT else ""
        return _Image(name, split or named or None, labels, objects)


def _label(shape: ElementTree.Element) -> str:
    label = (shape.get("label") or "").strip()
    if not label:
        raise ValueError(f"a {shape.tag} has no label")
    return label


def _outline(shape: ElementTree.Element) -> np.ndarray:
    """Return the corners or points float64 `(P, 2)` of a shape."""
    if shape.tag == "box":
        xyxy = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
        degrees = float(shape.get("rotation") or 0) % 360
        return turn_box(xyxy, degrees) if degrees else box_corners(xyxy.tolist())
    if shape.tag == "ellipse":
        cx, cy, rx, ry = _numbers(shape, "cx", "cy", "rx", "ry").tolist()
        degrees = float(shape.get("rotation") or 0)
        return obb_corners((cx, cy), (2 * rx, 2 * ry), float(np.radians(degrees)))
    if shape.tag == "mask":
        left, top, width, height = _numbers(shape, "left", "top", "width", "height").tolist()
        return box_corners([left, top, left + width, top + height])
    if shape.tag != "polygon":
        raise ValueError(f"{shape.tag} is no shape of version 1.1")
    pairs = [pair.split(",") for pair in str(shape.get("points")).split(";")]
    points = np.array(pairs, np.float64).reshape(-1, 2)
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError("a polygon needs three finite points")
    return points


def _numbers(shape: ElementTree.Element, *names: str) -> np.ndarray:
    try:
        values = np.array([float(str(shape.get(name))) for name in names])
    except ValueError:
        raise ValueError(f"a {shape.tag} needs the numbers {', '.join(names)}") from None
    if not np.isfinite(values).all():
        raise ValueError(f"a {shape.tag} has a number that is not finite")
    return values


def _list_files(root: Path) -> list[Path]:
    paths = [root] if root.is_file() else list_files(root, ".xml")
    return [path for path in paths if path.suffix.lower() == ".xml" and _is_cvat(path)]


def _is_cvat(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
    except OSError:
        return False
    return b"<annotations>" in start and any(
        word in start for word in (b"<image ", b"<task>", b"<project>", b"<track ")
    )
