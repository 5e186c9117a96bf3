"""Export to COCO's JSON of boxes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.boxes import box_area
from lhrs.data.box_export import BoxExporter, ExportedImage, ExportedObject, Feature, class_names


class Coco(BoxExporter):
    """Writes `train/_annotations.coco.json` with the images next to it, and so on for each split.

    Without splits, images are in `images/` and the file is `annotations.json`. Oriented boxes and outlines are polygons
    in `segmentation`; `bbox` is the upright box; the confidence is `score`.
    """

    homepage = "https://cocodataset.org/#format-data"
    keeps: ClassVar[frozenset[Feature]] = frozenset(
        ["corners", "outline", "own box", "crowd", "confidence", "difficult"]
    )

    def image_place(self, image: ExportedImage) -> str:
        return image.place if image.split else f"images/{image.name}"

    def write_annotations(self, images: Sequence[ExportedImage], folder: Path) -> None:
        classes = class_names(images)
        for split in dict.fromkeys(image.split for image in images):
            part = [image for image in images if image.split == split]
            path = folder / (f"{split}/_annotations.coco.json" if split else "annotations.json")
            write_atomic(path, json.dumps(_content(part, classes), ensure_ascii=False))


def _content(images: Sequence[ExportedImage], classes: Sequence[str]) -> dict[str, Any]:
    numbers = {name: number for number, name in enumerate(classes, 1)}
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, 1):
        width, height = image.size
        entries.append({"id": image_id, "file_name": image.name, "width": width, "height": height})
        for obj in image.objects:
            place = {"id": len(annotations) + 1, "image_id": image_id, "category_id": numbers[obj.box.label]}
            annotations.append(place | _annotation(obj))
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
    return {"images": entries, "annotations": annotations, "categories": categories}


def _annotation(obj: ExportedObject) -> dict[str, Any]:
    x1, y1, x2, y2 = obj.box.xyxy
    outline = obj.outline
    values: dict[str, Any] = {
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "segmentation": [] if outline is None else [outline.ravel().tolist()],
        "area": float(box_area(np.array(obj.box.xyxy))) if outline is None else _polygon_area(outline),
        "iscrowd": int(obj.box.crowd),
    }
    if obj.box.confidence is not None:
        values["score"] = obj.box.confidence
    return values | ({"difficult": 1} if obj.difficult else {})


def _polygon_area(points: np.ndarray) -> float:
    x, y = points.T
    return float(abs(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2)
