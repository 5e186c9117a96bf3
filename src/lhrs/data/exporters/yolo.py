"""Export to YOLO's text files of upright boxes."""

from typing import ClassVar

import numpy as np

from lhrs.data.box_export import ExportedObject, Feature
from lhrs.data.exporters._yolo_files import YoloExporter


class Yolo(YoloExporter):
    """Writes rows of `class x y w h`, in fractions of the image's sides, for the training of Ultralytics' detectors.

    Images and labels are in `images/` and `labels/`, in folders of splits if each image has one; `data.yaml` has names
    and splits. Images without objects have an empty file.
    """

    homepage = "https://docs.ultralytics.com/datasets/detect/"
    keeps: ClassVar[frozenset[Feature]] = frozenset(["own box"])

    def values(self, obj: ExportedObject) -> np.ndarray:
        x1, y1, x2, y2 = obj.box.xyxy
        return np.array([[(x1 + x2) / 2, (y1 + y2) / 2], [x2 - x1, y2 - y1]])
