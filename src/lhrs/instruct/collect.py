"""Annotations of every image of a dataset, from its alignment table or from any format that `lhrs data show` reads."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from lhrs.align.table import INDEX, read_table, rows_to_facts
from lhrs.data.boxes import usable_boxes
from lhrs.data.dataset import Dataset, open_dataset
from lhrs.data.image_files import image_size
from lhrs.dropped import Dropped
from lhrs.errors import DataError
from lhrs.instruct.annotations import ImageAnnotations, Vocabulary, from_row, from_sample
from lhrs.jobs import MANIFEST
from lhrs.progress import Progress, no_progress


def collect_annotations(
    path: Path,
    *,
    split: str | None = None,
    open_world: bool = False,
    dropped: Dropped | None = None,
    progress: Progress = no_progress,
) -> list[ImageAnnotations]:
    """Return the annotations of each image at `path`.

    Boxes are clipped to the image. Reversed and empty boxes, boxes outside their image, and missing or broken images
    are dropped.

    Args:
        path: An alignment dataset, or data of any format.
        split: Only this split.
        open_world: Objects may lack a box, so that nothing is known to be absent.
        dropped: Counts what is left out.
        progress: Reports the samples read.

    Raises:
        ConfigError: The format cannot be detected.
        DataError: Annotations are broken, number their classes without names, or there is no such split.
    """
    dropped = Dropped() if dropped is None else dropped
    if (path / INDEX).exists() and (path / MANIFEST).exists():
        return _from_table(path, split)
    dataset = open_dataset(path, split=split)
    if not dataset.has_class_names:
        raise DataError(f"{path} numbers its classes: name them in data.yaml (`names`) or classes.txt, one a line.")
    images = _from_dataset(dataset, open_world, dropped, progress)
    dropped.update(dataset.dropped)
    return images


def vocabulary_of(images: Iterable[ImageAnnotations]) -> Vocabulary:
    """Return the labels of all objects."""
    return Vocabulary(tuple(sorted({item.label for image in images for item in image.objects})))


def _from_table(path: Path, split: str | None) -> list[ImageAnnotations]:
    if split is not None:
        raise DataError(f"{path} has no splits.")
    return [
        from_row(row, rows_to_facts(row["facts"]), str(path.absolute() / row["image"]) if row["image"] else None)
        for row in read_table(path).to_pylist()
    ]


def _from_dataset(dataset: Dataset, open_world: bool, dropped: Dropped, progress: Progress) -> list[ImageAnnotations]:
    labels: set[str] = set()
    scenes: set[str] = set()
    for sample in dataset:
        labels.update(box.label for box in sample.boxes)
        scenes.update(sample.labels)
    merged: dict[tuple[str, ...], ImageAnnotations] = {}
    with progress("reading", len(dataset)) as bar:
        for sample in dataset:
            bar.update()
            if not all(os.path.exists(image) for image in sample.images):
                dropped.add("samples whose image does not exist", sample.id)
                continue
            try:
                width, height = image_size(Path(sample.images[0])) if sample.images else (1, 1)
            except DataError:
                dropped.add("samples whose image cannot be read", sample.id)
                continue
            lost: set[str] = set()  # labels whose boxes are all unusable: the objects are not known to be absent
            if sample.images:
                boxes = usable_boxes(sample.boxes, (width, height), dropped, sample.id)
                lost = {box.label for box in sample.boxes} - {box.label for box in boxes}
                sample = sample.model_copy(update={"boxes": boxes})
            annotations = from_sample(sample, width, height, sorted(labels - lost), sorted(scenes))
            if open_world or dataset.has_masks:
                annotations = replace(annotations, exhaustive=frozenset(), are_components=dataset.has_masks)
            key = annotations.images or (annotations.id,)
            merged[key] = merged[key].merge(annotations) if key in merged else annotations
    return list(merged.values())
