"""Base of the exporters of boxes: one entry per image, whatever the samples are."""

import shutil
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from lhrs.boxes import Size
from lhrs.data.dataset import SPLITS, Dataset, ObjectPolygon, bounding_box, outline_of
from lhrs.data.export import Exporter
from lhrs.data.image_files import image_size
from lhrs.data.oriented_boxes import are_same_corners
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError
from lhrs.imagery.image import IMAGE_SUFFIXES, open_image
from lhrs.progress import Progress
from lhrs.schema import Box, Sample

Feature = Literal["corners", "outline", "own box", "crowd", "confidence", "difficult", "labels", "any split"]
_LOST: dict[Feature, str] = {
    "corners": "corners of oriented boxes",
    "outline": "outlines of objects",
    "own box": "upright boxes that are not those around the outline",
    "crowd": "boxes around groups of objects",
    "confidence": "confidences of boxes",
    "difficult": "`difficult` flags of objects",
    "labels": "scene classes of images",
    "any split": "names of splits",
}
"""Reasons for what a format lacks."""
_OWN_BOX_PX = 0.5
"""Difference from which an upright box is not the one around its outline; tools round one or the other."""


@dataclass(frozen=True)
class ExportedObject:
    """An object of an image."""

    box: Box
    polygon: tuple[tuple[float, float], ...] = ()
    """The outline, if the dataset has one that is neither the box nor its corners."""
    difficult: bool = False

    @property
    def corners(self) -> np.ndarray:
        """Corners float64 `(4, 2)` of the oriented or upright box."""
        return outline_of(self.box)

    @property
    def has_own_box(self) -> bool:
        """Whether the upright box is not the one around the outline."""
        if self.outline is None:
            return False
        return float(np.abs(np.subtract(bounding_box(self.outline), self.box.xyxy)).max()) > _OWN_BOX_PX

    @property
    def outline(self) -> np.ndarray | None:
        """The outline float64 `(P, 2)`: the polygon or the corners; None for an upright box alone."""
        if self.polygon:
            return np.array(self.polygon, np.float64)
        return self.corners if self.box.corners is not None else None


@dataclass
class ExportedImage:
    """An image and all its objects."""

    source: Path
    name: str
    """File name in the export; neither name nor stem is another image's."""
    size: Size
    split: str | None
    labels: list[str] = field(default_factory=list)
    """Scene classes."""
    objects: list[ExportedObject] = field(default_factory=list)

    @property
    def stem(self) -> str:
        """Name without the suffix."""
        return self.name.rpartition(".")[0]

    @property
    def place(self) -> str:
        """Path in a layout of one folder per split; the name alone without a split."""
        return f"{self.split}/{self.name}" if self.split else self.name


class BoxExporter(Exporter):
    """Writes images and the annotations of their objects.

    A subclass lists in `keeps` what its format can express; `write` counts the rest.
    """

    keeps: ClassVar[frozenset[Feature]] = frozenset()

    @abstractmethod
    def image_place(self, image: ExportedImage) -> str:
        """Return the path of an image in the export."""

    @abstractmethod
    def write_annotations(self, images: Sequence[ExportedImage], folder: Path) -> None:
        """Write the annotations of all images."""

    def select(self, images: list[ExportedImage], dropped: Dropped) -> list[ExportedImage]:
        """Return the images that the format can hold; all by default."""
        return images

    def write(self, dataset: Dataset, folder: Path, dropped: Dropped, progress: Progress) -> int:
        with progress("reading", len(dataset)) as bar:
            images = collect_images(dataset, dropped, bar.update)
        if not images:
            raise ConfigError(f"{dataset.root} has no images to export.")
        images = [self._reduce(image, dropped) for image in self.select(images, dropped)]
        if "any split" not in self.keeps and not has_folders_of_splits(images):
            for image in images:
                dropped.add(_LOST["any split"], image.split, int(image.split is not None))
                image.split = None
        with progress("writing", len(images)) as bar:
            for image in images:
                target = folder / self.image_place(image)
                target.parent.mkdir(parents=True, exist_ok=True)
                self.place_image(image, target)
                bar.update()
        self.write_annotations(images, folder)
        return len(images)

    def place_image(self, image: ExportedImage, target: Path) -> None:
        """Copy an image; what is no single file is rendered."""
        if _is_copied(image.source):
            shutil.copyfile(image.source, target)
        else:
            from PIL import Image

            Image.fromarray(open_image(image.source, None).pixels).save(target, format="PNG")

    def _reduce(self, image: ExportedImage, dropped: Dropped) -> ExportedImage:
        """Leave out what the format lacks, and count it."""
        objects = [obj for obj in (self._reduce_object(obj, image.name, dropped) for obj in image.objects) if obj]
        labels = image.labels
        if labels and "labels" not in self.keeps:
            dropped.add(_LOST["labels"], image.name, len(labels))
            labels = []
        return ExportedImage(image.source, image.name, image.size, image.split, labels, objects)

    def _reduce_object(self, obj: ExportedObject, name: str, dropped: Dropped) -> ExportedObject | None:
        present: dict[Feature, bool] = {
            "corners": obj.box.corners is not None, "outline": bool(obj.polygon), "crowd": obj.box.crowd,
            "confidence": obj.box.confidence is not None, "difficult": obj.difficult, "own box": obj.has_own_box,
        }  # fmt: skip
        lost = {feature for feature, is_present in present.items() if is_present and feature not in self.keeps}
        if "crowd" in lost:  # written as one object it would be wrong
            dropped.add(_LOST["crowd"], name)
            return None
        for feature in lost:
            dropped.add(_LOST[feature], name)
        update: dict[str, None] = {feature: None for feature in ("corners", "confidence") if feature in lost}
        return ExportedObject(
            obj.box.model_copy(update=update), () if "outline" in lost else obj.polygon,
            obj.difficult and "difficult" not in lost,
        )  # fmt: skip


def collect_images(dataset: Dataset, dropped: Dropped, advance: Callable[[], object]) -> list[ExportedImage]:
    """Return the images of a dataset in their first order, with the objects of all their samples.

    Args:
        dataset: Samples with at most one image each are exported whole.
        dropped: Counts conversations, further images, and outlines of several parts.
        advance: Called after each sample.

    Raises:
        DataError: An annotation is broken, or an image is missing.
    """
    images: dict[tuple[str, str | None], ExportedImage] = {}
    names: set[str] = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        dropped.add("turns of conversations", sample.id, len(sample.turns))
        if sample.images:
            dropped.add("images of samples after the first", sample.id, len(sample.images) - 1)
            key = sample.images[0], sample.split
            if key not in images:
                source = Path(sample.images[0])
                images[key] = ExportedImage(source, _choose_name(source, names), image_size(source), sample.split)
            image = images[key]
            known = set(image.objects)
            image.objects += [obj for obj in _objects(dataset, index, sample, dropped) if obj not in known]
            image.labels += [label for label in sample.labels if label not in image.labels]
        else:
            dropped.add("samples without an image", sample.id)
        advance()
    return list(images.values())


def has_folders_of_splits(images: Sequence[ExportedImage]) -> bool:
    """Return whether each image has a split that readers know as the name of a folder."""
    return all(image.split in SPLITS for image in images)


def class_names(images: Sequence[ExportedImage]) -> list[str]:
    """Return the sorted labels of all objects."""
    return sorted({obj.box.label for image in images for obj in image.objects})


def _objects(dataset: Dataset, index: int, sample: Sample, dropped: Dropped) -> list[ExportedObject]:
    """Return the objects of a sample with the outlines that the dataset has for them."""
    polygons = iter(dataset.polygons(index))  # of all boxes but those of groups, in their order
    return [_object(box, None if box.crowd else next(polygons, None), sample.id, dropped) for box in sample.boxes]


def _object(box: Box, polygon: ObjectPolygon | None, name: str, dropped: Dropped) -> ExportedObject:
    if polygon is None:
        return ExportedObject(box)
    if polygon.num_parts > 1:
        dropped.add("outlines of several parts", name)
        return ExportedObject(box, (), polygon.difficult)
    points = polygon.points
    if len(points) > 1 and (points[0] == points[-1]).all():  # closed, as GeoJSON's rings
        points = points[:-1]
    is_box = len(points) == 4 and are_same_corners(points, outline_of(box))
    outline = () if is_box else tuple((float(x), float(y)) for x, y in points)
    return ExportedObject(box, outline, polygon.difficult)


def _choose_name(source: Path, names: set[str]) -> str:
    """Return a file name whose stem is not among `names`, in any case, and add it there."""
    candidates = chain([source.stem], (f"{source.stem}-{number}" for number in count(2)))
    stem = next(stem for stem in candidates if stem.lower() not in names)
    names.add(stem.lower())
    return stem + (source.suffix if _is_copied(source) else ".png")


def _is_copied(source: Path) -> bool:
    return source.is_file() and source.suffix.lower() in IMAGE_SUFFIXES
