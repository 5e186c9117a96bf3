"""The files `features_01.json` ... of LHRS-Align, read item by item: parsed whole, one would need gigabytes."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from lhrs.data.dataset import CAPTION_QUESTION, UNKNOWN_LICENSE, Dataset, qa_turns
from lhrs.data.image_files import list_files
from lhrs.errors import DataError
from lhrs.schema import Sample

_CHUNK = 1 << 22
_PREFIX = "features_"
_SPACE = re.compile(r"[\s,]*")
_IMAGES = "OSM_Image"
_TEXTS = "OSMCapAnn"
"""Folder of the files next to that of the images, as the authors' code has it."""


class Row(NamedTuple):
    """A caption."""

    country: str
    city: str
    name: str
    caption: str


class FeatureFiles(Dataset):
    """Captions of LHRS-Align by one of their two keys."""

    homepage = "https://huggingface.co/datasets/PumpkinCat/LHRS_Data"
    license = UNKNOWN_LICENSE
    layout = "a folder with features_*.json, perhaps in OSMCapAnn, and OSM_Image/COUNTRY/CITY/NAME.jpg"
    key: ClassVar[str]
    """Of the caption in an item."""

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        if split is not None:
            raise DataError(f"{self.root} has no split {split!r}; it has no splits.")
        files = feature_files(self.root)
        if not files:
            raise DataError(f"{self.root} has no features_*.json. Expected {self.layout}; see {self.homepage}.")
        self._images = _image_folder(self.root)
        # The images are the user's own download and often only some cities: as in the authors' code, the others wait.
        present = {folder.name for folder in self._images.glob("*") if folder.is_dir()}
        self._rows = [row for path in files for row in self._read(path, present)]

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        return Sample(
            id=f"lhrs-align/{row.name}",
            images=[str(self._images / row.country / row.city / f"{row.name}.jpg")],
            turns=qa_turns(CAPTION_QUESTION, row.caption),
            source="lhrs-align",
            license=self.license,
            task="caption",
        )

    def _read(self, path: Path, countries: set[str]) -> Iterator[Row]:
        listed: dict[str, set[str]] = {}
        for number, item in enumerate(iterate_items(path)):
            where = f"{path}: item {number}"
            try:
                (country, city), name = item["info"]["location"], item["name"]
                caption = item.get(self.key)
            except (KeyError, TypeError, ValueError):
                raise DataError(f"{where}: has no `name`, or no `info.location` of country and city.") from None
            folder = os.path.join(country, city)
            if folder not in listed:
                place = self._images / folder
                listed[folder] = set(os.listdir(place)) if country in countries and place.is_dir() else set()
            if not isinstance(caption, str) or not caption.strip():
                self.drop(f"images without `{self.key}`", name)
            elif f"{name}.jpg" not in listed[folder]:
                self.drop("captions without their image", name)
            else:
                yield Row(country, city, name, caption.strip())


def feature_files(root: Path) -> list[Path]:
    """Return the files of a folder, or else of `OSMCapAnn` in it, sorted."""
    here, inside = (
        [path for path in list_files(folder, ".json") if path.name.startswith(_PREFIX)]
        for folder in (root, root / _TEXTS)
    )
    return here or inside


def _image_folder(root: Path) -> Path:
    """Return the folder of the images, whether it exists or not; the authors' name of it contains `OSM`."""
    places = (root, root.parent) if root.name == _TEXTS else (root,)
    named = sorted(folder for place in places for folder in place.glob("*OSM*_Image") if folder.is_dir())
    return (root / _IMAGES) if not named else named[0]


def iterate_items(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of the list `data` of a JSON file without holding all of them.

    Raises:
        DataError: it is no such file, or broken.
    """
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_CHUNK)
            head, bracket, text = text.partition("[")
            if not bracket or '"data"' not in head:
                raise DataError(f"{path}: expected an object with a list `data`.")
            number, at = 0, 0
            while True:
                at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # matches nothing, too
                if text.startswith("]", at):
                    return
                try:
                    item, at = decoder.raw_decode(text, at)
                except ValueError as error:
                    more = file.read(max(_CHUNK, len(text) - at))
                    if not more:
                        raise DataError(f"{path}: item {number} is broken or cut off ({error}).") from None
                    text, at = text[at:] + more, 0
                    continue
                yield item
                number += 1
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error
