"""Export to tasks of Label Studio."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.boxes import Size
from lhrs.data.box_export import BoxExporter, ExportedImage, ExportedObject, Feature, class_names
from lhrs.data.oriented_boxes import RotatedRectangle, as_rectangle


class LabelStudio(BoxExporter):
    """Writes `tasks.json`, `label_config.xml` (the labeling interface) and `images/`.

    Boxes are `rectanglelabels` in percent of the image's sides, turned about their first corner; other quadrangles and
    outlines are `polygonlabels`. The split is in the task's data. Groups and difficult objects are marked in `meta`.
    """

    homepage = "https://labelstud.io/guide/task_format"
    keeps: ClassVar[frozenset[Feature]] = frozenset(
        ["corners", "outline", "crowd", "confidence", "difficult", "labels", "any split"]
    )

    def image_place(self, image: ExportedImage) -> str:
        return f"images/{image.name}"

    def write_annotations(self, images: Sequence[ExportedImage], folder: Path) -> None:
        tasks = [self._task(number, image) for number, image in enumerate(images, 1)]
        write_atomic(folder / "tasks.json", json.dumps(tasks, ensure_ascii=False, indent=1))
        scenes = sorted({label for image in images for label in image.labels})
        write_atomic(folder / "label_config.xml", _interface(class_names(images), scenes))

    def _task(self, number: int, image: ExportedImage) -> dict[str, Any]:
        regions = [_region(obj, f"{number}-{n}", image.size) for n, obj in enumerate(image.objects)]
        scene = {"from_name": "scene", "to_name": "image", "type": "choices", "value": {"choices": image.labels}}
        data = {"image": f"/data/local-files/?d={quote(self.image_place(image))}"}
        return {
            "id": number, "data": data | ({"split": image.split} if image.split else {}),
            "annotations": [{"result": [*regions, *([scene] if image.labels else [])]}],
        }  # fmt: skip


def _region(obj: ExportedObject, region_id: str, size: Size) -> dict[str, Any]:
    x1, y1, x2, y2 = obj.box.xyxy
    rectangle: RotatedRectangle | None = RotatedRectangle(x1, y1, x2 - x1, y2 - y1, 0.0)
    if (outline := obj.outline) is not None:
        rectangle = as_rectangle(outline) if len(outline) == 4 else None
    if rectangle is not None:
        x, y, width, height, degrees = rectangle
        kind = "rectanglelabels"
        value: dict[str, Any] = {
            "x": x / size[0] * 100, "y": y / size[1] * 100, "width": width / size[0] * 100,
            "height": height / size[1] * 100, "rotation": degrees,
        }  # fmt: skip
    else:
        assert outline is not None
        kind, value = "polygonlabels", {"points": (outline / np.array(size) * 100).tolist(), "closed": True}
    region: dict[str, Any] = {
        "id": region_id, "from_name": "box" if kind == "rectanglelabels" else "polygon", "to_name": "image",
        "type": kind, "original_width": size[0], "original_height": size[1], "image_rotation": 0,
        "value": value | {kind: [obj.box.label]},
    }  # fmt: skip
    marks = [mark for mark, is_set in (("crowd", obj.box.crowd), ("difficult", obj.difficult)) if is_set]
    if marks:
        region["meta"] = {"text": marks}
    return region | ({} if obj.box.confidence is None else {"score": obj.box.confidence})


def _interface(classes: Sequence[str], scenes: Sequence[str]) -> str:
    """Return the labeling interface of a project for these tasks."""
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in classes)
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in scenes)
    parts = [
        '<View>\n  <Image name="image" value="$image"/>\n',
        f'  <RectangleLabels name="box" toName="image" canRotate="true">\n{labels}  </RectangleLabels>\n',
        f'  <PolygonLabels name="polygon" toName="image">\n{labels}  </PolygonLabels>\n',
        f'  <Choices name="scene" toName="image" choice="multiple">\n{choices}  </Choices>\n' if scenes else "",
        "</View>\n",
    ]
    return "".join(parts)
