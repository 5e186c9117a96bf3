"""Semantic segmentation data: the base class of mask readers, and the reading of masks.

A number without a class, or of a class named `unlabeled`, `ignore`, `void` or `nodata`, becomes 255 and is ignored.
`background` is a class of the mask but not an object: it has no boxes.
"""

import os
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhrs.data.dataset import Dataset, ObjectPolygon, PixelWindow, bounding_box, box_corners, filter_split
from lhrs.data.image_files import image_size, is_image
from lhrs.errors import DataError
from lhrs.imagery.reader import open_source
from lhrs.schema import Box, Sample

IGNORE = 255
IGNORED_CLASSES = frozenset(["unlabeled", "unlabelled", "ignore", "ignored", "void", "nodata", "no data", "no_data"])
"""Names of ignored classes, in lower case."""
BACKGROUND_CLASSES = frozenset(["background", "no change", "unchanged"])
"""Names of classes that are not objects, in lower case."""
MASK_STEM = "_mask"
"""End of a mask's name, before the suffix."""
_MIN_SIDE_PX = 4
"""Connected parts of a smaller side get no box."""


@dataclass(frozen=True)
class MaskItem:
    """An image, or one of two dates, with its mask."""

    id: str
    """Unique in the dataset, and the same on every machine."""
    images: tuple[tuple[Path, ...], ...]
    """For each date, one image or one file per band."""
    mask: Path
    split: str | None = None


class MaskDataset(Dataset):
    """Base of the readers of masks. A subclass lists the items and maps the values of a mask file to class numbers.

    The boxes of a sample are around the connected parts of each class.
    """

    has_masks = True

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        if not self.root.is_dir():
            raise DataError(f"{self.root} is no folder. Expected {self.layout}; see {self.homepage}.")
        items = self.list_items()
        if not items:
            raise DataError(f"{self.root} contains no labeled images. Expected {self.layout}; see {self.homepage}.")
        splits = [split if split in Path(item.id).parts[:-1] else item.split for item in items]  # any folder's name too
        self.items = filter_split(items, splits, split, self.root)

    @abstractmethod
    def list_items(self) -> list[MaskItem]:
        """Return the items of all splits in a fixed order; called once."""

    @abstractmethod
    def to_classes(self, values: np.ndarray) -> np.ndarray:
        """Return uint8 `(H, W)` class numbers, 255 for no class, of a mask file's `(bands, H, W)`."""

    def __len__(self) -> int:
        return len(self.items)

    def load(self, index: int) -> Sample:
        item = self.items[index]
        return Sample(
            id=item.id, images=[str(file) for files in item.images for file in files],
            boxes=self._component_boxes(index), source=self.root.name, license=self.license, split=item.split,
        )  # fmt: skip

    def image_files(self, index: int) -> tuple[tuple[Path, ...], ...]:
        return self.items[index].images

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the corners of the boxes around the connected parts of each class."""
        return [ObjectPolygon(box.label, box_corners(box.xyxy)) for box in self._component_boxes(index)]

    def mask(self, index: int, window: PixelWindow | None = None) -> np.ndarray:
        file = self.items[index].mask
        try:
            classes = self.to_classes(read_mask_values(file, window))
        except DataError as error:
            raise DataError(f"{file}: {error}" if str(file) not in str(error) else str(error)) from error
        wrong = classes[(classes >= len(self.classes)) & (classes != IGNORE)]
        if wrong.size:
            raise DataError(f"{file} contains the number {wrong[0]}, but there are {len(self.classes)} classes.")
        return classes

    def _check_size(self, index: int, classes: np.ndarray) -> None:
        item = self.items[index]
        image = item.images[0][0]
        if len(item.images[0]) == 1 and (size := image_size(image)) != classes.shape[::-1]:
            is_of = f"{classes.shape[1]} x {classes.shape[0]} pixels, its image {image.name} {size[0]} x {size[1]}"
            raise DataError(f"{item.mask} has {is_of}: a mask needs the size of its image.")

    def _component_boxes(self, index: int) -> list[Box]:
        from rasterio.features import shapes

        numbers, boxes = self.mask(index), []
        self._check_size(index, numbers)
        objects = [n for n, name in enumerate(self.classes) if name.lower() not in BACKGROUND_CLASSES]
        for position, (outline, number) in enumerate(shapes(numbers.astype(np.int16), mask=np.isin(numbers, objects))):
            x1, y1, x2, y2 = bounding_box(np.array(outline["coordinates"][0]))
            if min(x2 - x1, y2 - y1) >= _MIN_SIDE_PX:
                boxes.append(Box(label=self.classes[int(number)], xyxy=(x1, y1, x2, y2)))
            else:
                self.drop(f"parts of masks under {_MIN_SIDE_PX} pixels", f"{self.items[index].id}#{position}")
        return sorted(boxes, key=lambda box: (box.xyxy[1], box.xyxy[0], box.label))


def pair_masks(root: Path) -> tuple[list[tuple[Path, Path]], list[Path]]:
    """Return the pairs of image and mask in a folder and below, sorted by mask, and the images without a mask.

    A mask is `NAME_mask.*` next to its image, or `masks/NAME.*` for `images/NAME.*`.

    Raises:
        DataError: A mask has no image.
    """
    images: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    masks: list[tuple[Path, tuple[Path, str]]] = []
    for path in sorted(path for path in root.rglob("*") if is_image(path)):
        image = image_of_mask(path)
        if image is None:
            images[path.parent, path.stem].append(path)
        else:
            masks.append((path, image))
    pairs = []
    for mask, key in masks:
        if key not in images:
            raise DataError(f"{mask} has no image {key[1]}.* in {key[0]}.")
        pairs.append((images.pop(key)[0], mask))
    return pairs, sorted(path for paths in images.values() for path in paths)


def image_of_mask(path: Path) -> tuple[Path, str] | None:
    """Return folder and stem of the image that a mask belongs to; None if the path is no mask."""
    if not is_image(path):
        return None
    if path.stem.endswith(MASK_STEM):
        return path.parent, path.stem.removesuffix(MASK_STEM)
    return (path.parent.parent / "images", path.stem) if path.parent.name == "masks" else None


def read_mask_values(file: Path, window: PixelWindow | None = None) -> np.ndarray:
    """Return `(bands, H, W)` of a mask file; the indices of a palette, not its colors.

    Raises:
        DataError: The file cannot be read.
    """
    return open_source(file, raw=True).read(window)[0]


def colors_to_classes(values: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Return uint8 `(H, W)`: the position of each pixel's color in `colors`, 255 for others.

    Raises:
        DataError: The mask has no colors.
    """
    if len(values) < 3:
        raise DataError(f"a mask of {len(values)} band{'s' * (len(values) > 1)}, colors of three are expected.")
    values = values[:3].astype(np.int32)
    packed = (values[0] << 16) + (values[1] << 8) + values[2]
    classes = np.full(packed.shape, IGNORE, np.uint8)
    for number, (red, green, blue) in enumerate(colors):
        classes[packed == (red << 16) + (green << 8) + blue] = number
    return classes
