"""Images and boxes in the texts of turns: the places of both, and boxes written there."""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from lhrs.boxes import Size, format_boxes
from lhrs.schema import BOX_PLACEHOLDER, IMAGE_PLACEHOLDER, Box

_BOX_RUN = re.compile(rf"{BOX_PLACEHOLDER}(?:[\s,]*{BOX_PLACEHOLDER})*")

WriteBoxes = Callable[[Sequence[Box], Size, str], str]
"""Text of a run of boxes in pixels of an image of (width, height); the last argument is the text before them."""


class Spoken(Protocol):
    """A turn of a sample, or a message of an annotation."""

    @property
    def role(self) -> str: ...
    @property
    def text(self) -> str: ...


def find_placeholder_fault(turns: Sequence[Spoken], num_images: int) -> str | None:
    """Return why the image placeholders of a conversation do not fit its images; None if they do, or if it has none."""
    elsewhere = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in turns if turn.role != "user")
    if elsewhere:
        return f"{elsewhere} {IMAGE_PLACEHOLDER} outside the user's turns."
    count = sum(turn.text.count(IMAGE_PLACEHOLDER) for turn in turns)
    return f"{count} {IMAGE_PLACEHOLDER} for {num_images} images." if count not in (0, num_images) else None


def insert_boxes(text: str, boxes: Sequence[Box], size_wh: Size, write: WriteBoxes) -> str:
    """Return a text with its boxes at their placeholders; after it if it has not one for each box.

    Args:
        text: Of a turn.
        boxes: Of the turn, in pixels of the image.
        size_wh: Of the image.
        write: Called once for each run of placeholders with only space and commas between them.
    """
    if not boxes:
        return text
    if text.count(BOX_PLACEHOLDER) != len(boxes):
        return " ".join(filter(None, (text, write(boxes, size_wh, text))))
    remaining = iter(boxes)

    def replace(run: re.Match[str]) -> str:
        of_run = [next(remaining) for _ in range(run[0].count(BOX_PLACEHOLDER))]
        return write(of_run, size_wh, text[: run.start()])

    return _BOX_RUN.sub(replace, text)


def box_text(boxes: Sequence[Box], size_wh: Size, style: str) -> str:
    """Return boxes as one of `lhrs.boxes.STYLES`.

    Raises:
        ValueError: A box is reversed or not finite, or the style is unknown.
    """
    return format_boxes(np.array([box.xyxy for box in boxes]), size_wh, style)
