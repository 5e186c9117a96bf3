"""The layout that all YOLO exports share: images, labels and data.yaml."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lhrs.atomic_io import write_atomic
from lhrs.data.box_export import BoxExporter, ExportedImage, ExportedObject, class_names

_KEYS = {"valid": "val", "validation": "val"}
"""Keys of data.yaml by split; others have the split's name."""


class YoloExporter(BoxExporter):
    """Writes `images/`, `labels/` and `data.yaml`; a subclass writes the row of an object."""

    @abstractmethod
    def values(self, obj: ExportedObject) -> np.ndarray:
        """Return the coordinates `(N, 2)` of an object in pixels, as its row has them."""

    def image_place(self, image: ExportedImage) -> str:
        return "/".join(filter(None, ("images", image.split, image.name)))

    def write_annotations(self, images: Sequence[ExportedImage], folder: Path) -> None:
        classes = class_names(images)
        numbers = {name: number for number, name in enumerate(classes)}
        for image in images:
            path = (folder / "labels" / self.image_place(image).removeprefix("images/")).with_name(f"{image.stem}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [self._row(obj, numbers[obj.box.label], image) for obj in image.objects]
            write_atomic(path, "".join(f"{row}\n" for row in rows))
        config: dict[str, Any] = {}
        for split in dict.fromkeys(image.split for image in images if image.split):
            config.setdefault(_KEYS.get(split, split), []).append(f"images/{split}")
        config = {key: folders[0] if len(folders) == 1 else folders for key, folders in config.items()}
        names = {"names": dict(enumerate(classes))}
        write_atomic(folder / "data.yaml", yaml.safe_dump(config | names, sort_keys=False, allow_unicode=True))

    def _row(self, obj: ExportedObject, number: int, image: ExportedImage) -> str:
        fractions = self.values(obj) / np.array(image.size, np.float64)
        return " ".join([str(number), *(format(value, ".12g") for value in fractions.ravel())])
