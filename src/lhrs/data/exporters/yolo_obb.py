"""Export to YOLO's text files of oriented boxes."""

from typing import ClassVar

import numpy as np

from lhrs.data.box_export import ExportedObject, Feature
from lhrs.data.exporters._yolo_files import YoloExporter


class YoloObb(YoloExporter):
    """Writes rows of `class x1 y1 x2 y2 x3 y3 x4 y4`, in fractions of the image's sides.

    Upright boxes are written as their corners. The layout is that of `yolo`.
    """

    homepage = "https://docs.ultralytics.com/datasets/obb/"
    keeps: ClassVar[frozenset[Feature]] = frozenset(["corners"])

    def values(self, obj: ExportedObject) -> np.ndarray:
        return obj.corners
