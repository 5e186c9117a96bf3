"""Base of the exporters of conversations: texts with the places of images, and boxes in the notation of a model."""

import json
import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

from lhrs.atomic_io import write_atomic
from lhrs.boxes import Size
from lhrs.data.dataset import Dataset
from lhrs.data.export import Exporter
from lhrs.data.image_files import image_size
from lhrs.data.turn_texts import find_placeholder_fault, insert_boxes
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.imagery import locations
from lhrs.imagery.image import open_image
from lhrs.imagery.orientation import UPRIGHT
from lhrs.progress import Progress
from lhrs.schema import IMAGE_PLACEHOLDER, Box, Sample, Turn

SOURCES = "sources.json"
"""File that states where the samples are from, with their licenses."""
_IMAGES = "images"
"""Folder of rendered images."""


@dataclass(frozen=True)
class Conversation:
    """A sample as trainers read it."""

    id: str
    images: tuple[str, ...]
    """Absolute paths; those of rendered images begin at the folder of the export."""
    turns: tuple[tuple[str, str], ...]
    """(role, text) of user and assistant in turn, the user first; texts have the places of images and the boxes."""
    system: str | None
    split: str | None
    sizes: tuple[Size, ...]
    """(width, height) of each image; empty if the exporter does not need them."""
    boxes: tuple[Box, ...] = ()
    """All boxes in the order of the texts."""


class ChatExporter(Exporter):
    """Writes one conversation per sample.

    Images stay where they are: rows have their absolute paths. Rasters, and photos that EXIF turns, are rendered to
    `images/`, because trainers open files with Pillow alone.
    """

    file: ClassVar[str] = "data.json"
    """A .json list, or .jsonl."""
    needs_sizes: ClassVar[bool] = False
    """Rows contain the sizes of images."""
    has_labels: ClassVar[bool] = True
    """The notation contains the labels of boxes."""

    @abstractmethod
    def write_boxes(self, boxes: Sequence[Box], size_wh: Size, before: str) -> str:
        """Return the text of a run of boxes.

        Args:
            boxes: In pixels of the image.
            size_wh: Of the image.
            before: The text before them.
        """

    @abstractmethod
    def to_row(self, conversation: Conversation) -> dict[str, Any]:
        """Return a row of the file."""

    def write_extra(self, folder: Path, num_rows: int) -> None:
        """Write files in addition to that of the rows; none by default."""

    def write(self, dataset: Dataset, folder: Path, dropped: Dropped, progress: Progress) -> int:
        sources, num_rows = Counter[tuple[str, str, str | None]](), 0
        rendered: dict[str, str] = {}
        is_list = self.file.endswith(".json")
        with (folder / self.file).open("w", encoding="utf-8") as file, progress("writing", len(dataset)) as bar:
            for index in range(len(dataset)):
                sample = dataset[index]
                conversation = self._convert(sample, dropped, lambda image: _place(image, folder, rendered))
                if conversation is not None:
                    row = json.dumps(self.to_row(conversation), ensure_ascii=False)
                    file.write(
                        (("[\n" if not num_rows else ",\n") if is_list else "") + row + ("" if is_list else "\n")
                    )
                    sources[sample.source, sample.license, sample.attribution] += 1
                    num_rows += 1
                bar.update()
            file.write("\n]\n" if is_list else "")
        if not num_rows:
            raise ConfigError(
                f"{dataset.root} has no conversations; `lhrs instruct build` makes some. {dropped.summary()}"
            )
        write_atomic(folder / SOURCES, json.dumps(_describe(sources), indent=1, ensure_ascii=False) + "\n")
        self.write_extra(folder, num_rows)
        return num_rows

    def _convert(self, sample: Sample, dropped: Dropped, place: Callable[[str], str]) -> Conversation | None:
        """Return a sample as a conversation; None, and counted, if it is none that a model can learn."""
        system = "\n".join(turn.text for turn in sample.turns if turn.role == "system")
        turns = [turn for turn in sample.turns if turn.role != "system"]
        roles = [turn.role for turn in turns]
        if "assistant" not in roles:
            dropped.add("samples without an answer", sample.id)
            return None
        if roles != ["user", "assistant"] * (len(roles) // 2):
            dropped.add("conversations that are not questions and answers in turn", sample.id)
            return None
        _count_lost(sample, turns, self.has_labels, dropped)
        boxes = tuple(box for turn in turns for box in turn.boxes)
        sizes = tuple(image_size(Path(image)) for image in sample.images) if self.needs_sizes or boxes else ()
        if boxes and not sizes:
            raise DataError(f"sample {sample.id!r} of {sample.source} has boxes but no image.")
        texts = self.render(place_images(sample, turns), turns, sizes[0] if sizes else (1, 1), sample)
        return Conversation(
            sample.id, tuple(map(place, sample.images)), tuple(zip(roles, texts, strict=True)), system or None,
            sample.split, sizes, boxes,
        )  # fmt: skip

    def render(self, texts: Sequence[str], turns: Sequence[Turn], size_wh: Size, sample: Sample) -> list[str]:
        """Return texts with their boxes, at their placeholders or after the text.

        Raises:
            DataError: A box is reversed or not finite.
        """
        try:
            return [insert_boxes(text, turn.boxes, size_wh, self.write_boxes)
                    for text, turn in zip(texts, turns, strict=True)]  # fmt: skip
        except ValueError as error:
            raise DataError(f"sample {sample.id!r} of {sample.source}: {error}.") from None


def place_images(sample: Sample, turns: Sequence[Turn]) -> list[str]:
    """Return the texts of turns with one placeholder per image; those of no text come before the first question.

    Raises:
        DataError: The placeholders are not as many as the images, or in an answer.
    """
    fault = find_placeholder_fault(turns, len(sample.images))
    if fault is not None:
        raise DataError(f"sample {sample.id!r} of {sample.source}: {fault}")
    texts = [turn.text for turn in turns]
    if any(IMAGE_PLACEHOLDER in text for text in texts):
        return texts
    return [f"{IMAGE_PLACEHOLDER}\n" * len(sample.images) + texts[0], *texts[1:]]


def by_label(boxes: Sequence[Box]) -> Iterator[tuple[str, list[Box]]]:
    """Yield consecutive boxes of the same label."""
    for label, group in groupby(boxes, lambda box: box.label):
        yield label, list(group)


def conversations(conversation: Conversation) -> list[dict[str, str]]:
    """Return the turns in LLaVA's keys."""
    names = {"user": "human", "assistant": "gpt"}
    return [{"from": names[role], "value": text} for role, text in conversation.turns]


def further_keys(conversation: Conversation) -> dict[str, Any]:
    """Return the system text and the split, if there are any."""
    return {key: value for key in ("system", "split") if (value := getattr(conversation, key)) is not None}


def _place(image: str, folder: Path, rendered: dict[str, str]) -> str:
    """Return the path of an image as rows have it, which is rendered if other programs would show it differently.

    Raises:
        DataError: It cannot be read.
    """
    from PIL import Image

    from lhrs.imagery.pillow_reader import exif_orientation

    head = locations.read_head(image) if os.path.isfile(image) else None
    if head and locations.is_8bit_image(head) and exif_orientation(image) == UPRIGHT:
        return image
    if image not in rendered:
        rendered[image] = f"{_IMAGES}/{len(rendered):06d}-{Path(image).stem}.png"
        pixels = open_image(image, None).pixels
        (folder / _IMAGES).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / rendered[image])
    return rendered[image]


def _count_lost(sample: Sample, turns: Sequence[Turn], has_labels: bool, dropped: Dropped) -> None:
    dropped.add("boxes of images that no turn mentions", sample.id, len(sample.boxes))
    dropped.add("scene classes of images", sample.id, len(sample.labels))
    words = " ".join(turn.text for turn in turns).casefold()
    for box in (box for turn in turns for box in turn.boxes):
        for key in sorted(box.model_dump(exclude_defaults=True).keys() - {"label", "xyxy"}):
            dropped.add(f"`{key}` of boxes", sample.id)
        if not has_labels and box.label.casefold() not in words:
            dropped.add("labels of boxes that no turn mentions", sample.id)


def _describe(sources: Counter[tuple[str, str, str | None]]) -> list[dict[str, Any]]:
    return [
        {"source": source, "license": license, "attribution": attribution, "samples": count}
        for (source, license, attribution), count in sorted(sources.items(), key=str)
    ]
