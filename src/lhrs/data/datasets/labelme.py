"""LabelMe's JSON files (https://github.com/wkentaro/labelme), as AnyLabeling and X-AnyLabeling write them too."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.data.dataset import (
    SPLITS,
    UNKNOWN_LICENSE,
    Dataset,
    ObjectPolygon,
    box_corners,
    filter_split,
    parse_flag,
    read_json,
)
from lhrs.data.image_files import ImageFinder, list_files, list_folder_images
from lhrs.data.oriented_boxes import outline_box
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_FOLDERS = ("", "labels", "annotations", "Annotations", "json", "images")
_SNIFFED_FILES = 20
_SNIFFED_BYTES = 1 << 16
_LEFT_OUT = ("point", "points", "line", "linestrip")


class _Object(NamedTuple):
    box: Box
    polygon: ObjectPolygon


class Labelme(Dataset):
    """One sample per JSON file.

    Format: `shapes`, each with `label`, `shape_type` and `points` in pixels. Rectangles are boxes; polygons and
    X-AnyLabeling's `rotation` are outlines, of which four points are an oriented box. Circles and masks are read as
    their boxes; points and lines are left out. Flags of the image that are set are its scene classes; the flag `crowd`
    of a shape marks a group; `score` is the confidence.
    Splits: folders train, val, valid, validation and test.
    """

    homepage = "https://github.com/wkentaro/labelme"
    license = UNKNOWN_LICENSE
    layout = "a folder with NAME.json next to each image (or in labels/ or annotations/), or one for each split"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        rows = list(_list_rows(self.root))
        if not rows:
            raise DataError(f"{self.root} contains no JSON file of LabelMe. Expected {self.layout}.")
        self._rows = filter_split(rows, [row[0] for row in rows], split, self.root)
        self._finders = {
            folder: ImageFinder(folder, folder.parent / "images", folder / "images", folder.parent)
            for folder in {path.parent for _, path in rows}
        }
        annotated = {path.with_suffix("") for _, path in rows}
        for folder in sorted(self._finders):
            for image in list_folder_images(folder):
                if image.with_suffix("") not in annotated:
                    self.drop("images without an annotation", os.path.relpath(image, self.root))

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, index: int) -> Sample:
        split, path = self._rows[index]
        content = _read(path)
        flags = content.get("flags")
        top = self.root if self.root.is_dir() else self.root.parent
        place = Path(os.path.relpath(path.with_suffix(""), top)).as_posix()
        return Sample(
            id=f"{top.name}/{place}", images=[str(self._image(content, path))],
            labels=[str(name) for name, is_set in flags.items() if is_set] if isinstance(flags, dict) else [],
            boxes=[item.box for item in self._objects(content, path)], source=top.name, license=self.license,
            split=split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the points of polygons and oriented boxes, the corners of other boxes."""
        path = self._rows[index][1]
        return [item.polygon for item in self._objects(_read(path), path) if not item.box.crowd]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return any(_is_labelme(path) for _, path in islice(_list_candidates(root), _SNIFFED_FILES))

    def _image(self, content: dict[str, Any], path: Path) -> Path:
        finder, name = self._finders[path.parent], content.get("imagePath")
        named = finder.find(name) if isinstance(name, str) and name else None
        return named or finder.find(path.stem) or finder.find_or_expected(str(name or path.stem))

    def _objects(self, content: dict[str, Any], path: Path) -> Iterator[_Object]:
        for number, shape in enumerate(content["shapes"]):
            name = f"{path.name}#{number}"
            try:
                kind = str(shape.get("shape_type") or "polygon")
                points = np.array(shape["points"], np.float64).reshape(-1, 2)
                if kind in _LEFT_OUT:
                    self.drop("points and lines", name)
                    continue
                if not len(points) or not np.isfinite(points).all():
                    raise ValueError("its points are missing or not finite")
                if str(shape.get("description") or "").strip():
                    self.drop("descriptions of objects", name)
                if kind == "mask":
                    self.drop("pixel masks, read as boxes", name)
                yield _object(shape, kind, points)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}: shape {number} is broken, {error!r}.") from None


def _object(shape: dict[str, Any], kind: str, points: np.ndarray) -> _Object:
    label, score, flags = shape["label"], shape.get("score"), shape.get("flags")
    if not isinstance(label, str):
        raise TypeError(f"label {label!r}")
    if kind == "circle":  # its center, and a point on it
        radius = float(np.hypot(*(points[1] - points[0])))
        points = box_corners([*(points[0] - radius), *(points[0] + radius)])
    elif kind in ("rectangle", "mask"):
        low, high = points.min(0), points.max(0) + (kind == "mask")  # a mask includes its last pixel
        points = box_corners([*low.tolist(), *high.tolist()])
    elif len(points) < 3:
        raise ValueError(f"a {kind} of {len(points)} points")
    is_crowd = isinstance(flags, dict) and bool(flags.get("crowd"))
    box = outline_box(label, points, confidence=None if score is None else float(score), crowd=is_crowd)
    return _Object(box, ObjectPolygon(label, points, parse_flag(shape.get("difficult"))))


def _list_rows(root: Path) -> Iterator[tuple[str | None, Path]]:
    """Yield the files of LabelMe with their splits."""
    return ((split, path) for split, path in _list_candidates(root) if _is_labelme(path))


def _list_candidates(root: Path) -> Iterator[tuple[str | None, Path]]:
    """Yield the JSON files with their splits."""
    if root.is_file():
        yield from [(None, root)] if root.suffix.lower() == ".json" else []
        return
    for split in (None, *SPLITS):
        tops = [root / (split or "")] if split is None else [root / split, root / "labels" / split]
        for top in tops:
            for folder in _FOLDERS:
                yield from ((split, path) for path in list_files(top / folder, ".json"))


def _is_labelme(path: Path) -> bool:
    """Return whether a JSON file begins with the keys of LabelMe's."""
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES)
    except OSError:
        return False
    return b'"shapes"' in start and any(key in start for key in (b'"imagePath"', b'"shape_type"'))


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{path} is not a file of LabelMe: it has no list `shapes`.")
    return content
