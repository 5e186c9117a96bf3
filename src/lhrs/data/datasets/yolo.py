"""YOLO's text files of boxes, oriented boxes and polygons, as Ultralytics, Roboflow, CVAT and labelImg write them."""

import os
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from lhrs.data.dataset import SPLITS, UNKNOWN_LICENSE, Dataset, ObjectPolygon, filter_split, read_text
from lhrs.data.datasets._yolo_rows import YoloRow, classify_texts, read_rows
from lhrs.data.image_files import image_size, is_image, list_files, list_folder_images
from lhrs.data.oriented_boxes import outline_box
from lhrs.errors import DataError
from lhrs.schema import Sample

_NAME_FILES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt", "_darknet.labels")
_MAX_SNIFFED = 100
_YAML = (".yaml", ".yml")
_DARKNET = ".data"
"""Suffix of Darknet's file of lines `key = value`, which CVAT writes too."""
_SIDE_FILES = frozenset(
    [*_NAME_FILES, "readme.txt", "readme.dataset.txt", "readme.roboflow.txt", "_annotations.txt", "_classes.txt"]
)


class Yolo(Dataset):
    """One sample per image; images without a label file, or with an empty one, have no objects.

    Format: `NAME.txt` for `NAME.jpg`, with a line for each object: `class x y w h` in fractions of the image's sides,
    or a class and the points of a polygon (four for an oriented box). Labels are next to the images, or in `labels/`
    where images are in `images/`. Names are in the YAML file (`names`, a list or a mapping) or in `classes.txt`.
    Splits: `train`, `val` and `test` of the YAML file (folders, text files, or lists of them), else folders.
    """

    homepage = "https://docs.ultralytics.com/datasets/detect/"
    license = UNKNOWN_LICENSE
    layout = (
        "a folder with images/ and labels/ (and train/, val/ in or above them), or NAME.txt next to each image, and "
        "data.yaml or classes.txt; or that YAML file"
    )

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        path = _find_yaml(self.root)
        self._folder = self.root if self.root.is_dir() else self.root.parent
        self._config = _read_yaml(path) if path is not None else {}
        names = _names(self._config, path) or _read_names(self._folder)
        if names is None and path is None and self.root.is_dir():
            for unused in list_files(self.root, *_YAML):
                _read_yaml(unused)  # a broken file of names is an error, unlike a missing one
                if "names" in _try_yaml(unused):
                    raise DataError(f"{self.root} contains several YAML files with `names`. Name one as the path.")
        self.has_class_names = names is not None
        self._names = names or {}
        self.classes = [self._names[n] for n in sorted(self._names)]
        images = list(self._list_split_images())
        if not images:
            left_out = f" ({self.dropped.summary()})" if len(self.dropped) else ""
            raise DataError(f"{self.root} contains no image{left_out}. Expected {self.layout}.")
        rows = [(name, image, _label_file(image)) for name, image in images]
        if not any(label.exists() for *_, label in rows):
            raise DataError(f"{self.root} contains no label file such as {rows[0][2]}. Expected {self.layout}.")
        self._drop_unused_labels({label for *_, label in rows})
        self._rows = filter_split(rows, [row[0] for row in rows], split, self.root)

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        split, image, label = self._rows[index]
        boxes = []
        for row, scale in self._scaled_rows(index):
            x1, y1, x2, y2 = (row.xyxy * np.tile(scale, 2)).tolist()
            name = self._name(row, label)
            boxes.append(outline_box(name, row.points * scale, (x1, y1, x2, y2), row.confidence))
        return Sample(
            id=f"{self._folder.name}/{Path(os.path.relpath(image, self._folder)).as_posix()}", images=[str(image)],
            boxes=boxes, source=self._folder.name, license=self.license, split=split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return polygons and oriented boxes unchanged, and the corners of other boxes."""
        label = self._rows[index][2]
        return [ObjectPolygon(self._name(row, label), row.points * scale) for row, scale in self._scaled_rows(index)]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        if root.is_file():
            return (
                root.suffix.lower() in (*_YAML, _DARKNET)
                and "names" in _try_yaml(root)
                and _has_splits(_try_yaml(root))
            )
        path = _find_yaml(root)
        if path is not None and _has_splits(_try_yaml(path)):
            # Roboflow's "YOLOv5 Oriented Bounding Boxes" has such a file too, and DOTA's labels
            return not any((root / place / "labelTxt").is_dir() for place in ("", *SPLITS))
        places = [root / "labels", *(root / split for split in SPLITS)]
        if "images" in root.parts:
            places.append(_label_file(root / "x").parent)
        texts = (path for place in places for path in place.rglob("*.[tT][xX][tT]"))
        flat = (path for image in list_folder_images(root) if (path := _label_file(image)).exists())
        return classify_texts(list(islice((p for p in chain(texts, flat) if not _is_side_file(p)), _MAX_SNIFFED)))[0]

    def _scaled_rows(self, index: int) -> Iterator[tuple[YoloRow, np.ndarray]]:
        """Yield the rows of an image with its (width, height)."""
        _, image, label = self._rows[index]
        if not label.exists():
            return
        has_keypoints = "kpt_shape" in self._config
        rows = read_rows(label, has_keypoints)
        size = np.array(image_size(image), np.float64) if rows else np.ones(2)
        for n, row in enumerate(rows):
            if has_keypoints:
                self.drop("keypoints of objects", f"{label.name}#{n}")
            yield row, size

    def _name(self, row: YoloRow, label: Path) -> str:
        if not self.has_class_names:
            return f"class {row.number}"
        if row.number not in self._names:
            raise DataError(f"{label}: class {row.number} has no name; there are {len(self._names)} names.")
        return self._names[row.number]

    def _list_split_images(self) -> Iterator[tuple[str | None, Path]]:
        """Yield the images of all splits, each once."""
        seen: set[Path] = set()
        for split, images in self._splits():
            for image in images:
                if image not in seen:
                    seen.add(image)
                    yield split, image

    def _splits(self) -> Iterator[tuple[str | None, list[Path]]]:
        if not _has_splits(self._config):
            for image in _list_images(self._folder):
                places = image.relative_to(self._folder).parts[:-1]
                yield next((part for part in places if part in SPLITS), None), [image]
            return
        for split in SPLITS:
            entries = self._config.get(split) or []
            for entry in [entries] if isinstance(entries, str) else entries:
                path = _resolve(str(entry), self._folder, str(self._config.get("path") or ""))
                if path is None:
                    self.drop("splits that do not exist", f"{split}: {entry}")
                else:
                    yield split, self._listed(path) if path.is_file() else _images_below(path)

    def _listed(self, path: Path) -> list[Path]:
        """Return the images that a text file names, a path a line."""
        images = []
        for line in filter(None, map(str.strip, read_text(path).splitlines())):
            image = _resolve(line, path.parent, str(self._folder))
            if image is None:
                self.drop("images of lists that do not exist", f"{path.name}: {line}")
            else:
                images.append(image)
        return images

    def _drop_unused_labels(self, used: set[Path]) -> None:
        folders = {label.parent for label in used}
        for path in (path for folder in sorted(folders) for path in list_files(folder, ".txt")):
            if path not in used and not _is_side_file(path) and path not in self._lists():
                self.drop("label files without an image", os.path.relpath(path, self._folder))

    def _lists(self) -> set[Path]:
        entries = [self._config.get(split) for split in SPLITS]
        names = [str(e) for entry in entries for e in (entry if isinstance(entry, list) else [entry or ""])]
        return {self._folder / PurePosixPath(name).name for name in names if name.endswith(".txt")}


def _label_file(image: Path) -> Path:
    """Return the label file of an image: in `labels/` for one below `images/`, else next to it."""
    parts, places = image.parts, [image]
    if "images" in parts[:-1]:
        at = len(parts) - 2 - parts[:-1][::-1].index("images")
        places.insert(0, Path(*parts[:at], "labels", *parts[at + 1 :]))
    names = [place.with_suffix(suffix) for place in places for suffix in (".txt", ".TXT")]
    return next((name for name in names if name.exists()), names[0])


def _is_side_file(path: Path) -> bool:
    return path.name.lower() in _SIDE_FILES


def _list_images(root: Path) -> list[Path]:
    """Return the images of a folder without a YAML file: below `images/` or folders of splits, else directly in it."""
    tops = [root / "images", *(root / split for split in SPLITS)]
    return [image for top in tops for image in _images_below(top)] or list_folder_images(root)


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_image(path))


def _find_yaml(root: Path) -> Path | None:
    """Return the YAML file (Darknet's `.data` file) that names the classes; the only one of a folder that does."""
    if root.is_file():
        return root
    if darknet := [path for path in list_files(root, _DARKNET) if _has_splits(_try_yaml(path))]:
        return darknet[0]
    named = [path for path in list_files(root, *_YAML) if "names" in _try_yaml(path)]
    return named[0] if len(named) == 1 else next((p for p in named if p.stem == "data"), None)


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.suffix.lower() == _DARKNET:
        pairs = (line.partition("=") for line in read_text(path).splitlines())
        config: dict[str, Any] = {key.strip(): value.strip() for key, equals, value in pairs if equals}
        names = _resolve(config.pop("names", ""), path.parent, "")
        return config | ({"names": read_text(names).split("\n")} if names is not None and names.is_file() else {})
    try:
        content = yaml.safe_load(read_text(path))
        if isinstance(content, dict) and content.get("names"):  # classes called `no` or `null` are text
            content["names"] = yaml.load(read_text(path), yaml.BaseLoader)["names"]
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not YOLO's YAML file: it has no keys.")
    return content


def _try_yaml(path: Path) -> dict[str, Any]:
    try:
        return _read_yaml(path)
    except DataError:
        return {}


def _has_splits(config: dict[str, Any]) -> bool:
    return any(config.get(split) for split in SPLITS)


def _names(config: dict[str, Any], path: Path | None) -> dict[int, str] | None:
    names = config.get("names")
    if not names:
        return None
    if isinstance(names, list):
        names = dict(enumerate(names))
    try:
        return {int(number): str(name).strip() for number, name in names.items() if str(name).strip()}
    except (AttributeError, ValueError):
        raise DataError(f"{path}: `names` is neither a list nor a mapping of numbers to names.") from None


def _read_names(folder: Path) -> dict[int, str] | None:
    for place in (folder, folder / "labels", folder.parent, *(folder / split for split in SPLITS)):
        for name in _NAME_FILES:
            if (place / name).is_file():
                lines = read_text(place / name).splitlines()
                return {n: line.strip() for n, line in enumerate(lines) if line.strip()}
    return None


def _resolve(entry: str, folder: Path, base: str) -> Path | None:
    """Return the existing path that an entry means, or None.

    Args:
        entry: Absolute, or relative to `base` or `folder`; of another machine the last parts count.
        folder: Of the file that has the entry.
        base: `path` of the YAML file.
    """
    entry = entry.replace("\\", "/")
    bases = [folder / base, Path(base), folder] if base else [folder]
    direct = next((place / entry for place in bases if (place / entry).exists()), None)
    if direct is not None:
        return Path(os.path.abspath(direct))
    parts = [part for part in PurePosixPath(entry).parts if part not in ("/", "..", ".") and not part.endswith(":")]
    tails = (folder.joinpath(*parts[n:]) for n in range(len(parts)))
    return next((tail for tail in tails if tail.exists()), None)
