"""Apple's CreateML JSON of boxes (https://developer.apple.com/documentation/createml), as Roboflow exports it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, Dataset, filter_split, read_json
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_FILE = "_annotations.createml.json"
_SNIFFED_BYTES = 1 << 12
_IMAGE_KEYS = ("image", "imagefilename", "filename")
_OBJECT_KEYS = ("annotations", "annotation")


class _Row(NamedTuple):
    where: str
    folder: Path
    split: str | None
    values: dict[str, Any]


class Createml(Dataset):
    """One sample per image.

    Format: a list of objects with `image` and `annotations`, each with `label` and `coordinates`: the center `x` and
    `y`, `width` and `height`, in pixels.
    Splits: folders train, valid and test, each with a file and its images.
    """

    homepage = "https://roboflow.com/formats/createml-json"
    license = UNKNOWN_LICENSE
    layout = f"a folder with {_FILE} and the images, or one such folder for each of train, valid, test; or such a file"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if not files:
            raise DataError(f"{self.root} contains no JSON file of CreateML. Expected {self.layout}.")
        rows = [row for name, path in files for row in _read(path, name)]
        self._finders = {path.parent: ImageFinder(path.parent, path.parent / "images") for _, path in files}
        for folder, finder in self._finders.items():
            for image in finder.unlisted(_image_name(row) for row in rows if row.folder == folder):
                self.drop("images that are not listed", os.path.relpath(image, self.root))
        self._rows = filter_split(rows, [row.split for row in rows], split, self.root)
        self._source = (self.root if self.root.is_dir() else self.root.parent).name

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        row = self._rows[index]
        name = _image_name(row)
        return Sample(
            id="/".join(filter(None, (self._source, row.split, name.replace("\\", "/")))),
            images=[str(self._finders[row.folder].find_or_expected(name))], boxes=list(_boxes(row)),
            source=self._source, license=self.license, split=row.split,
        )  # fmt: skip

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_list_files(root))


def _list_files(root: Path) -> list[tuple[str | None, Path]]:
    """Return the files of CreateML with their splits."""
    if root.is_file():
        return [(None, root)] if root.suffix.lower() == ".json" and _is_createml(root) else []
    parts: list[tuple[str | None, Path]] = [
        (name, root / name / _FILE) for name in SPLITS if (root / name / _FILE).is_file()
    ]
    own = root.name if root.name in SPLITS else None
    return parts or [(own, path) for path in list_files(root, ".json") if _is_createml(path)][:1]


def _is_createml(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
    except OSError:
        return False
    return all(key in start for key in (b'"annotation', b'"coordinates"', b'"label"', b'"image'))


def _read(path: Path, split: str | None) -> Iterator[_Row]:
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path} is not CreateML's JSON: expected a list of images.")
    for number, values in enumerate(content):
        row = _Row(f"{path}: image {number}", path.parent, split, values if isinstance(values, dict) else {})
        _image_name(row)
        yield row


def _image_name(row: _Row) -> str:
    name = next((row.values[key] for key in _IMAGE_KEYS if row.values.get(key)), None)
    if not isinstance(name, str):
        raise DataError(f"{row.where} has no name `image`.")
    return name


def _boxes(row: _Row) -> Iterator[Box]:
    items: Any = next((row.values[key] for key in _OBJECT_KEYS if row.values.get(key)), [])
    try:
        for item in items:
            place = item["coordinates"]
            x, y, w, h = (float(place[name]) for name in ("x", "y", "width", "height"))
            if not np.isfinite([x, y, w, h]).all():
                raise ValueError("a number is not finite")
            yield Box(label=str(item["label"]), xyxy=(x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{row.where}: an annotation needs label and coordinates x, y, width, height ({error!r})."
        ) from None
