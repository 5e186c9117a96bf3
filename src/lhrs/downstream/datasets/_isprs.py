"""What the two ISPRS cities share."""

from pathlib import Path

import numpy as np

from lhrs.downstream.reader import Item, MaskReader, by_colour

_COLOURS = [(255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0)]


class Isprs(MaskReader):
    """Colour-coded masks; clutter (red) and the black rims of the eroded labels count nowhere, as in the benchmark."""

    homepage = "https://www.isprs.org/education/benchmarks/UrbanSemLab/semantic-labeling.aspx"
    classes = ("impervious surface", "building", "low vegetation", "tree", "car")
    labels: tuple[str, ...]
    """Folders of masks, best first; eroded rims are the benchmark's choice."""

    def to_classes(self, values: np.ndarray) -> np.ndarray:
        return by_colour(values, _COLOURS)

    def pair(self, images: list[Path], names: list[str]) -> list[Item]:
        """Return items of images that have a mask; `names` are the masks' file names, for each image."""
        folders = [p for name in self.labels for p in sorted(self.root.rglob(name)) if p.is_dir()] or [self.root]
        found = []
        for image, name in zip(images, names, strict=True):
            stem, suffix = name.rsplit(".", 1)
            mask = next((p for f in folders for p in (f / name, f / f"{stem}_noBoundary.{suffix}") if p.exists()), None)
            if mask is not None and mask != image:
                found.append(Item(image.stem, ((image,),), mask))
        return found
