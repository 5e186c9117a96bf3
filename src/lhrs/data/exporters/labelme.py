"""Export to LabelMe's JSON files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from lhrs.atomic_io import write_atomic
from lhrs.data.box_export import BoxExporter, ExportedImage, ExportedObject, Feature

_VERSION = "5.5.0"
"""Version of LabelMe whose files these are."""


class Labelme(BoxExporter):
    """Writes `NAME.json` next to each image, in folders of splits if each image has one.

    Upright boxes are rectangles; oriented boxes and outlines are polygons. Scene classes are flags of the image. The
    keys `score` and `difficult` of X-AnyLabeling have confidence and difficulty; the flag `crowd` marks groups.
    """

    homepage = "https://github.com/wkentaro/labelme"
    keeps: ClassVar[frozenset[Feature]] = frozenset(
        ["corners", "outline", "crowd", "confidence", "difficult", "labels"]
    )

    def image_place(self, image: ExportedImage) -> str:
        return image.place

    def write_annotations(self, images: Sequence[ExportedImage], folder: Path) -> None:
        for image in images:
            path = (folder / self.image_place(image)).with_name(f"{image.stem}.json")
            write_atomic(path, json.dumps(_content(image), ensure_ascii=False, indent=1))


def _content(image: ExportedImage) -> dict[str, Any]:
    return {
        "version": _VERSION, "flags": dict.fromkeys(image.labels, True),
        "shapes": [_shape(obj) for obj in image.objects], "imagePath": image.name, "imageData": None,
        "imageHeight": image.size[1], "imageWidth": image.size[0],
    }  # fmt: skip


def _shape(obj: ExportedObject) -> dict[str, Any]:
    x1, y1, x2, y2 = obj.box.xyxy
    outline = obj.outline
    shape: dict[str, Any] = {
        "label": obj.box.label, "points": [[x1, y1], [x2, y2]] if outline is None else outline.tolist(),
        "group_id": None, "description": "", "shape_type": "rectangle" if outline is None else "polygon",
        "flags": {"crowd": True} if obj.box.crowd else {},
    }  # fmt: skip
    if obj.box.confidence is not None:
        shape["score"] = obj.box.confidence
    return shape | ({"difficult": True} if obj.difficult else {})
