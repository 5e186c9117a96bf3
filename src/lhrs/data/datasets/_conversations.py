"""What formats of conversations share: roles, images in texts, and boxes in texts."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lhrs.data.box_notations import UNKNOWN_LABEL, has_boxes, last_phrase, read_boxes
from lhrs.data.image_files import ImageFinder, image_size
from lhrs.data.turn_texts import find_placeholder_fault
from lhrs.errors import DataError, ImageError
from lhrs.imagery.locations import is_virtual
from lhrs.schema import Turn

Role = Literal["user", "assistant", "system"]
ROLES: dict[str, Role] = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
"""Roles by the names that formats give them."""


class Message(NamedTuple):
    """A message as annotated."""

    role: Role
    text: str
    phrase: str | None = None
    """Label of the boxes in the next message, where the text marks no phrase."""


def to_role(name: object, where: str) -> Role:
    """Return the role of a name.

    Raises:
        DataError: It is unknown.
    """
    role = ROLES.get(str(name).lower())
    if role is None:
        raise DataError(f"{where}: unknown role {str(name)[:40]!r}; expected one of {', '.join(ROLES)}.")
    return role


def to_turns(messages: Sequence[Message], images: Sequence[str], where: str) -> list[Turn]:
    """Return turns, with the boxes that texts contain in pixels of the first image.

    Args:
        messages: Of one conversation.
        images: Their files.
        where: File and row, for messages.

    Raises:
        DataError: The texts have another number of image placeholders than there are images.
        ImageError: Texts contain boxes, and the image cannot be read.
    """
    check_placeholders(messages, len(images), where)
    if not images or not any(has_boxes(message.text) for message in messages):
        return [Turn(role=message.role, text=message.text) for message in messages]
    size, phrase, turns = read_size(images[0], where), UNKNOWN_LABEL, []
    for message in messages:
        text, boxes = read_boxes(message.text, size, phrase)
        phrase = last_phrase(message.text) or message.phrase or phrase
        turns.append(Turn(role=message.role, text=text, boxes=boxes))
    return turns


def read_size(image: str, where: str) -> tuple[int, int]:
    """Return the width and height of an image.

    Raises:
        ImageError: It cannot be read.
    """
    try:
        return image_size(Path(image))
    except DataError as error:
        raise ImageError(f"{where}: {error}") from None


def check_placeholders(messages: Sequence[Message], num_images: int, where: str) -> None:
    """Raise DataError if texts have another number of image placeholders than there are images, unless none."""
    fault = find_placeholder_fault(messages, num_images)
    if fault is not None:
        raise DataError(f"{where}: {fault}")


def unique_ids(names: Iterable[str]) -> list[str]:
    """Return names as ids: those that repeat are numbered, as several conversations of one image often share its id."""
    seen, ids = Counter[str](), []
    for name in names:
        ids.append(f"{name}#{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return ids


class NearbyImages:
    """Finds the images of a file of annotations: next to it, in `images/`, above, or in the folders next to it.

    Args:
        annotations: The file.
        folders: Where else images may be, the likeliest first.
    """

    def __init__(self, annotations: Path, *folders: Path) -> None:
        here, above = annotations.parent, annotations.parent.parent
        self._finder = ImageFinder(*folders, here, here / "images", above, above / "images")
        self._further = [ImageFinder(folder) for folder in _folders_below(here)]

    def find(self, name: str, where: str) -> str:
        """Return the path of an image, the expected one if it does not exist; URLs without a local file as they are.

        Raises:
            DataError: Several folders contain it, and the name does not say which.
        """
        path = self._finder.find(name)
        if path is not None:
            return str(path)
        paths = dict.fromkeys(path for finder in self._further if (path := finder.find(name)) is not None)
        if len(paths) > 1:
            first, second = list(paths)[:2]
            raise DataError(f"{where}: image {name} may be {first} or {second}.")
        if paths:
            return str(next(iter(paths)))
        return name if is_virtual(name) else str(self._finder.find_or_expected(name))


def _folders_below(folder: Path, depth: int = 2) -> Iterator[Path]:
    """Yield folders inside, sorted: archives of images often unpack into one or two folders of their own."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    for path in (folder / name for name in names):
        if path.name != "images" or depth < 2:
            yield path
        if depth > 1:
            yield from _folders_below(path, depth - 1)
