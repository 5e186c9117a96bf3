"""Labeled images of one task: classification, segmentation, change detection or object detection."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from lhrs import registry
from lhrs.data.boxes import usable_polygons
from lhrs.data.dataset import READERS, Dataset, ObjectPolygon, PixelWindow, detect_format, get_reader, open_dataset
from lhrs.data.image_files import image_size
from lhrs.data.mask_dataset import IGNORE as IGNORE
from lhrs.data.mask_dataset import MaskDataset
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError


@dataclass(frozen=True)
class Item:
    """A labeled image, or pair of images of two dates.

    Args:
        id: The same on every machine.
        images: One image, or before and after; each is a tuple of the files of its bands.
        label: The class of a scene, or the file of a mask; empty for detection.
        objects: Objects of the image.
        index: Index of the sample in its dataset.
    """

    id: str
    images: tuple[tuple[Path, ...], ...]
    label: str | Path
    objects: tuple[ObjectPolygon, ...] = ()
    index: int = 0


@dataclass(frozen=True)
class LabeledDataset:
    """Labeled images of one split of a dataset."""

    items: list[Item]
    classes: list[str]
    dataset: Dataset | None = None
    """Reader of masks."""
    dropped: Dropped = field(default_factory=Dropped, compare=False)
    """Samples that were left out, by reason."""

    def mask(self, item: Item, window: PixelWindow | None = None) -> np.ndarray:
        """Return the mask of a window of an item, uint8 `(H, W)`, 255 for ignored pixels.

        Raises:
            DataError: The mask cannot be read, or has a value that is not a class.
        """
        assert self.dataset is not None
        return self.dataset.mask(item.index, window)


def open_labeled(
    task: str, path: Path, format: str | None = None, split: str | None = None, only: Sequence[str] = ()
) -> LabeledDataset:
    """Read the labeled images of a task.

    Args:
        task: `classify`, `segment`, `change` or `detect`.
        path: Path of the data.
        format: Name of the format; None detects it.
        split: Split of the data; None is all.
        only: Patterns such as `tile1/*`; items whose id matches none of them are left out.

    Raises:
        ConfigError: No format matches, or several match.
        DataError: Data is missing or broken.
    """
    read = {"classify": _scenes, "detect": _objects}
    labeled = read[task](path, format, split) if task in read else _masks(task, path, format, split)
    kept = [item for item in labeled.items if not only or any(fnmatch(item.id, pattern) for pattern in only)]
    if not kept:
        raise DataError(f"{path} contains no image that matches {', '.join(only)}; one is {labeled.items[0].id!r}.")
    return LabeledDataset(kept, labeled.classes, labeled.dataset, labeled.dropped)


def _scenes(path: Path, format: str | None, split: str | None) -> LabeledDataset:
    dataset = open_dataset(path, format, split)
    items: dict[str, Item] = {}
    for n, sample in enumerate(dataset):
        if not sample.labels or not sample.images:
            raise DataError(f"{path}: {sample.id} has no class; this format is not one of scene classification.")
        image = sample.images[0]  # several captions may be of one image
        items.setdefault(image, Item(sample.id, ((Path(image),),), sample.labels[0], index=n))
    classes = sorted({str(item.label) for item in items.values()})
    return LabeledDataset(list(items.values()), classes, dataset, dataset.dropped)


def _objects(path: Path, format: str | None, split: str | None) -> LabeledDataset:
    dataset = open_dataset(path, format, split)
    items, dropped = [], Dropped()
    for n, sample in enumerate(dataset):
        if not sample.images:
            raise DataError(f"{path}: {sample.id} has no image.")
        image = Path(sample.images[0])
        objects = usable_polygons(dataset.polygons(n), image_size(image), dropped, sample.id)
        items.append(Item(sample.id, ((image,),), "", tuple(objects), n))
    classes = sorted({polygon.label for item in items for polygon in item.objects})
    if not classes:
        raise DataError(f"{path} has no objects; this format is not one of detection, or the split has none.")
    dropped.update(dataset.dropped)
    return LabeledDataset(items, classes, dataset, dropped)


def _masks(task: str, path: Path, format: str | None, split: str | None) -> LabeledDataset:
    dates = 2 if task == "change" else 1
    name = format or detect_format(path, lambda reader: reader.has_masks and reader.dates == dates)
    reader = get_reader(name)
    if not issubclass(reader, MaskDataset):
        readers = registry.load_components(READERS, MaskDataset)  # type: ignore[type-abstract]
        names = ", ".join(key for key, reader_class in readers.items() if reader_class.dates == dates)
        raise ConfigError(f"format {name!r} has no masks; {task} needs one of {names}.")
    if reader.dates != dates:
        raise ConfigError(f"format {name!r} has {reader.dates} date{'s' * (reader.dates > 1)}; {task} needs {dates}.")
    dataset = reader(path, split)
    items = [Item(item.id, item.images, item.mask, index=n) for n, item in enumerate(dataset.items)]
    return LabeledDataset(items, list(dataset.classes), dataset, dataset.dropped)
