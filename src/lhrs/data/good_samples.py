"""The samples of a dataset that can be read and trained on, for data with a few broken ones (`--skip-bad`)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from lhrs.data.bad_samples import BadSamples, skipping
from lhrs.data.boxes import check_boxes
from lhrs.data.dataset import Dataset, ObjectPolygon, PixelWindow, detect_format, get_reader, open_dataset
from lhrs.data.image_files import image_size
from lhrs.data.turn_texts import find_placeholder_fault
from lhrs.dropped import Dropped
from lhrs.errors import DataError
from lhrs.imagery.locations import exists
from lhrs.schema import Sample


class GoodSamples(Dataset):
    """The samples of a dataset that are not broken, in its order.

    Every sample is read once, and the size of its images where it has boxes, so that the number of samples is known.

    Args:
        dataset: Any.
        bad: Counts the others, as far as its limit allows.

    Raises:
        DataError: There are more broken samples.
    """

    homepage: ClassVar[str] = ""
    license: ClassVar[str] = ""
    layout: ClassVar[str] = ""

    def __init__(self, dataset: Dataset, bad: BadSamples) -> None:
        super().__init__(dataset.root, dataset.split)
        self._dataset, self._bad = dataset, bad
        self.classes, self.has_class_names = dataset.classes, dataset.has_class_names
        self.dates, self.has_masks = dataset.dates, dataset.has_masks  # type: ignore[misc]
        self._indices = [index for index in range(len(dataset)) if self._is_good(index)]

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def polygons(self, index: int) -> list[ObjectPolygon]:
        return self._dataset.polygons(self._indices[index])

    def mask(self, index: int, window: PixelWindow | None = None) -> np.ndarray:
        return self._dataset.mask(self._indices[index], window)

    def image_files(self, index: int) -> tuple[tuple[Path, ...], ...]:
        return self._dataset.image_files(self._indices[index])

    def where(self, index: int) -> str:
        return self._dataset.where(self._indices[index])

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return False

    @property
    def dropped(self) -> Dropped:
        dropped = self._dataset.dropped
        dropped.update(self._bad.dropped)
        return dropped

    def _is_good(self, index: int) -> bool:
        try:
            fault = find_fault(self._dataset[index])
            if fault is not None:
                raise DataError(f"{self._dataset.where(index)}: {fault}")
        except DataError as error:
            self._bad.add(error)
            return False
        return True


def open_samples(
    root: str | os.PathLike[str], format: str | None = None, split: str | None = None, skip_bad: int = 0
) -> Dataset:
    """Open a dataset as `open_dataset` does, without its broken samples if there are at most `skip_bad`.

    Raises:
        ConfigError: See `open_dataset`.
        DataError: See `Dataset`, or there are more broken samples.
    """
    if not skip_bad:
        return open_dataset(root, format, split)
    reader, bad = get_reader(format or detect_format(Path(root))), BadSamples(skip_bad)
    with skipping(bad):
        return GoodSamples(reader(root, split), bad)


def find_fault(sample: Sample) -> str | None:
    """Return why a sample cannot be trained on; None if it can.

    Its images exist, its texts have as many placeholders as it has images, and its boxes are inside its first image.
    """
    missing = next((image for image in sample.images if not exists(image)), None)
    if missing is not None:
        return f"{missing} does not exist."
    fault = find_placeholder_fault(sample.turns, len(sample.images))
    if fault is not None:
        return fault
    boxes: Sequence = [*sample.boxes, *(box for turn in sample.turns for box in turn.boxes)]
    if not boxes:
        return None
    if not sample.images:
        return "has boxes but no image."
    size = image_size(Path(sample.images[0]))
    faults = check_boxes(
        np.array([box.xyxy for box in boxes], np.float64), np.tile(np.array(size, np.float64), (len(boxes), 1))
    )
    wrong = np.flatnonzero(faults.reversed | faults.empty | faults.outside)
    if not len(wrong):
        return None
    place = [round(value, 2) for value in boxes[wrong[0]].xyxy]
    return f"box {place} is reversed, empty, or outside its image of {size[0]} x {size[1]}."
