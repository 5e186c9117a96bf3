"""What readers of labelled images for one task promise. No torch.

Scenes with a class and images with objects come from `lhrs.data.datasets`; images with a class per pixel, of one or
two dates, from the modules in `lhrs.downstream.datasets`, one a data set.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lhrs import registry
from lhrs.data.dataset import Outline, open_dataset
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.quiet import ignored
from lhrs.imagery.stack import Box, Stack

READERS = "lhrs.downstream.datasets"
"""The package whose modules are the readers, and the entry-point group of readers from elsewhere."""
IGNORE = 255


@dataclass(frozen=True)
class Item:
    """A labelled image, or one of two dates.

    Args:
        id: the same on every machine.
        images: one, or before and after; of each, the files of its bands.
        label: the class of a scene, or the file that holds the class of each pixel; empty for objects.
        objects: what is on the image.
    """

    id: str
    images: tuple[tuple[Path, ...], ...]
    label: str | Path
    objects: tuple[Outline, ...] = ()


class MaskReader(ABC):
    """Images with a class per pixel.

    Args:
        root: see `layout`.
        split: only the items of this split; None for all.

    Raises:
        DataError: something is missing, or there is no such split.
    """

    homepage: ClassVar[str]
    layout: ClassVar[str]
    """What has to be at `root`, in one line."""
    dates: ClassVar[int] = 1
    """2 for change."""
    classes: Sequence[str] = ()
    """Names by number."""

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        self.root = Path(os.path.abspath(root))
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder. Expected {self.layout}; see {self.homepage}.")
        self.items = self.list_items(split)
        if not self.items:
            of = f" of split {split!r}" if split else ""
            raise DataError(f"{self.root} holds no labelled images{of}. Expected {self.layout}; see {self.homepage}.")

    @abstractmethod
    def list_items(self, split: str | None) -> list[Item]:
        """Return the items in a fixed order; called once."""

    @abstractmethod
    def to_classes(self, values: np.ndarray) -> np.ndarray:
        """Return uint8 `(H, W)`, 255 where nothing counts, of a label file's `(bands, H, W)`."""

    @classmethod
    @abstractmethod
    def fits(cls, root: Path) -> bool:
        """Tell whether `root` looks like this format, at the cost of listing a folder."""

    def label(self, item: Item, box: Box | None = None) -> np.ndarray:
        """Return uint8 `(H, W)` of a window; 255 where nothing counts.

        Raises:
            DataError: the file cannot be read, or holds what is no class.
        """
        try:
            found = self.to_classes(read_label(Path(item.label), box))
        except DataError as error:
            raise DataError(f"{item.label}: {error}" if str(item.label) not in str(error) else str(error)) from error
        wrong = found[(found >= len(self.classes)) & (found != IGNORE)]
        if wrong.size:
            raise DataError(f"{item.label} holds the number {wrong[0]}, but there are {len(self.classes)} classes.")
        return found


@dataclass(frozen=True)
class Labelled:
    """Labelled images of one split, whoever read them."""

    items: list[Item]
    classes: list[str]
    reader: MaskReader | None = None
    """None for classes of scenes and for objects."""


def read_label(file: Path, box: Box | None) -> np.ndarray:
    """Return `(bands, H, W)` of a label file; a palette's numbers, not its colours."""
    from PIL import Image

    if file.suffix.lower() in {".tif", ".tiff"}:
        return Stack((file,)).read(box)
    try:
        with ignored(Image.DecompressionBombWarning), Image.open(file) as opened:
            part = None if box is None else (box[0], box[1], box[0] + box[2], box[1] + box[3])
            image = opened.crop(part)
            values = np.array(image.convert("L") if image.mode == "1" else image)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    except Image.DecompressionBombError:
        raise DataError(
            f"{file} is too large for a picture that must be decoded whole: convert it to GeoTIFF."
        ) from None
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def by_colour(values: np.ndarray, colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return uint8 `(H, W)`: the position of each pixel's colour in `colours`, 255 for others.

    Raises:
        DataError: there are no colours.
    """
    if len(values) < 3:
        raise DataError(f"a mask of {len(values)} band{'s' * (len(values) > 1)}, colours of three are expected.")
    values = values[:3].astype(np.int32)
    packed = (values[0] << 16) + (values[1] << 8) + values[2]
    found = np.full(packed.shape, IGNORE, np.uint8)
    for number, (red, green, blue) in enumerate(colours):
        found[packed == (red << 16) + (green << 8) + blue] = number
    return found


def open_labelled(
    task: str, path: Path, reader: str | None = None, split: str | None = None, only: Sequence[str] = ()
) -> Labelled:
    """Read what there is to learn a task from, or to be scored on.

    Args:
        task: `classify`, `segment`, `change` or `detect`.
        path: of the data.
        reader: its name; None is the only one that fits.
        split: of the reader; None is all.
        only: patterns such as `tile1/*`; items whose id matches none of them are left out.

    Raises:
        ConfigError: no reader fits, or several.
        DataError: data is missing or broken.
    """
    if task in ("classify", "detect"):
        found = (_scenes if task == "classify" else _objects)(path, reader, split)
    else:
        found = _masks(task, path, reader, split)
    kept = [item for item in found.items if not only or any(fnmatch(item.id, pattern) for pattern in only)]
    if not kept:
        raise DataError(f"{path} holds no image that matches {', '.join(only)}; one is {found.items[0].id!r}.")
    return Labelled(kept, found.classes, found.reader)


def _scenes(path: Path, reader: str | None, split: str | None) -> Labelled:
    dataset = open_dataset(path, reader, split)
    found: dict[str, Item] = {}
    for sample in dataset:
        if not sample.labels or not sample.images:
            raise DataError(f"{path}: {sample.id} has no class; this reader is not one of scene classification.")
        image = sample.images[0]
        found.setdefault(image, Item(sample.id, ((Path(image),),), sample.labels[0]))  # several captions of one image
    return Labelled(list(found.values()), sorted({str(item.label) for item in found.values()}))


def _objects(path: Path, reader: str | None, split: str | None) -> Labelled:
    dataset = open_dataset(path, reader, split)
    items = []
    for n, sample in enumerate(dataset):
        if not sample.images:
            raise DataError(f"{path}: {sample.id} has no image.")
        items.append(Item(sample.id, ((Path(sample.images[0]),),), "", tuple(dataset.outlines(n))))
    classes = sorted({one.label for item in items for one in item.objects})
    if not classes:
        raise DataError(f"{path} has no objects; this reader is not one of detection, or the split has none.")
    return Labelled(items, classes)


def _masks(task: str, path: Path, reader: str | None, split: str | None) -> Labelled:
    dates = 2 if task == "change" else 1
    if reader is None:
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        known: dict[str, Any] = registry.components(READERS, MaskReader)  # type: ignore[type-abstract]
        fitting = [name for name, of in known.items() if of.dates == dates and of.fits(path)]
        if len(fitting) != 1:
            names = ", ".join(fitting or (name for name, of in known.items() if of.dates == dates))
            many = "several formats" if fitting else "no format that is known"
            raise ConfigError(f"{path} looks like {many}: choose `reader` of {names}.")
        reader = fitting[0]
    cls = registry.find(READERS, reader, MaskReader)  # type: ignore[type-abstract]
    if cls.dates != dates:
        raise ConfigError(f"reader {reader!r} has {cls.dates} date{'s' * (cls.dates > 1)}; {task} needs {dates}.")
    opened = cls(path, split)
    return Labelled(opened.items, list(opened.classes), opened)
