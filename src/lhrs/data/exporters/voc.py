"""Export to Pascal VOC's XML."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

from lhrs.atomic_io import write_atomic
from lhrs.data.box_export import BoxExporter, ExportedImage, ExportedObject, Feature

_SIDES = ("left_top", "right_top", "right_bottom", "left_bottom")


class Voc(BoxExporter):
    """Writes `Annotations/NAME.xml`, `JPEGImages/` and `ImageSets/Main/SPLIT.txt`.

    `bndbox` counts pixels from 1 and includes the last. The corners of oriented boxes are `robndbox`, as in DIOR-R, and
    outlines are `polygon`, both in pixels from 0.
    """

    homepage = "http://host.robots.ox.ac.uk/pascal/VOC/"
    keeps: ClassVar[frozenset[Feature]] = frozenset(["corners", "outline", "own box", "difficult", "any split"])

    def image_place(self, image: ExportedImage) -> str:
        return f"JPEGImages/{image.name}"

    def write_annotations(self, images: Sequence[ExportedImage], folder: Path) -> None:
        (folder / "Annotations").mkdir()
        for image in images:
            tree = _annotation(image)
            ElementTree.indent(tree)
            write_atomic(folder / f"Annotations/{image.stem}.xml", ElementTree.tostring(tree, "unicode") + "\n")
        (folder / "ImageSets/Main").mkdir(parents=True)
        for split in dict.fromkeys(image.split for image in images if image.split):
            stems = [image.stem for image in images if image.split == split]
            write_atomic(folder / f"ImageSets/Main/{split}.txt", "".join(f"{stem}\n" for stem in stems))


def _annotation(image: ExportedImage) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, folder="JPEGImages", filename=image.name)
    width, height = image.size
    _add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    _add(root, segmented=0)
    for obj in image.objects:
        root.append(_object(obj))
    return root


def _object(obj: ExportedObject) -> ElementTree.Element:
    element = ElementTree.Element("object")
    _add(element, name=obj.box.label, pose="Unspecified", truncated=0, difficult=int(obj.difficult))
    x1, y1, x2, y2 = obj.box.xyxy
    _add(ElementTree.SubElement(element, "bndbox"), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    if obj.box.corners is not None:
        rotated = ElementTree.SubElement(element, "robndbox")
        for side, (x, y) in zip(_SIDES, obj.box.corners, strict=True):
            _add(rotated, **{f"x_{side}": x, f"y_{side}": y})
    if obj.polygon:
        polygon = ElementTree.SubElement(element, "polygon")
        for x, y in obj.polygon:
            _add(ElementTree.SubElement(polygon, "pt"), x=x, y=y)
    return element


def _add(element: ElementTree.Element, **children: object) -> None:
    for tag, value in children.items():
        is_whole = isinstance(value, float) and value.is_integer()
        ElementTree.SubElement(element, tag).text = f"{value:.0f}" if is_whole else str(value)
