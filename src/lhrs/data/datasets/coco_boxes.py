"""Boxes in COCO's JSON format (Lin et al., 2014, arXiv:1405.0312, and https://cocodataset.org/#format-data)."""

import math
import mmap
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.boxes import xywh_to_xyxy
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
from lhrs.data.image_files import ImageFinder, list_files
from lhrs.data.oriented_boxes import outline_box, turn_box
from lhrs.data.rle import rle_bounds
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_SPLIT = re.compile(r"(?<![a-z])(?:train|val|test)(?![a-z])")
_ROBOFLOW = "_annotations.coco.json"


class _Image(NamedTuple):
    id: str
    file_name: str
    finder: ImageFinder
    source: str
    license: str
    split: str | None
    annotations: list[dict[str, Any]]
    names: dict[str, str]
    where: Path


class CocoBoxes(Dataset):
    """One sample per image with its boxes; images without objects are kept. There are no turns.

    Format: COCO's boxes are left, top, width, height; ours are xyxy. Where an annotation has no box, it is the one
    around its polygon or mask. A polygon of four points is an oriented box; CVAT's `attributes.rotation` turns a box
    about its center. Groups (`iscrowd`) are flagged; `score` is the confidence. A Roboflow export is one such file in
    each of train, valid and test.
    Splits: an image's `split` field; without one the name of the file, as in `instances_val2017.json`, or its folder.
    """

    homepage = "https://cocodataset.org/#format-data"
    license = UNKNOWN_LICENSE
    layout = (
        "a COCO json of boxes with the images near it, a folder with one such file in it or in annotations/, or "
        f"{{train,valid,test}}/{_ROBOFLOW}"
    )

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        paths = _find_annotations(self.root, split)
        images = [image for path in paths for image in self._read_file(path, len(paths) > 1)]
        names = {image.where: image.names for image in images}
        self.classes = list(dict.fromkeys(name for of_file in names.values() for name in of_file.values()))
        self._images = filter_split(images, [image.split for image in images], split, self.root)

    def __len__(self) -> int:
        return len(self._images)

    def load(self, index: int) -> Sample:
        image = self._images[index]
        file_name = image.file_name.replace("\\", "/")
        return Sample(
            id=f"{image.source}/{file_name}", images=[str(image.finder.find_or_expected(image.file_name))],
            boxes=[self._box(annotation, image) for annotation in image.annotations], source=image.source.split("/")[0],
            license=image.license, split=image.split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the polygons and rotated boxes; for other boxes and pixel masks the corners of the box."""
        image, polygons = self._images[index], []
        for annotation in image.annotations:
            box, points = self._box(annotation, image), self._points(annotation, image.where)
            if not box.crowd:
                outline = box_corners(box.xyxy) if points is None else points
                is_difficult = parse_flag(annotation.get("difficult"))
                polygons.append(ObjectPolygon(box.label, outline, is_difficult, _num_parts(annotation)))
        return polygons

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return len(_list_annotations(root)) == 1 or bool(_list_roboflow(root))

    def _read_file(self, path: Path, is_part: bool) -> list[_Image]:
        content = read_json(path)
        try:
            names = {_id(category["id"]): category["name"] for category in content["categories"]}
            licenses = {_id(entry["id"]): entry["name"] for entry in content.get("licenses") or []}
            entries = [(_id(image["id"]), image["file_name"], image) for image in content["images"]]
            boxes: dict[str, list[dict[str, Any]]] = defaultdict(list)
            for annotation in content["annotations"]:
                of_image = boxes[_id(annotation["image_id"])]
                if _has_geometry(annotation):
                    of_image.append(annotation)
                else:
                    self.drop("annotations without a box or polygon", f"{path.name}: {annotation.get('id')}")
                if any(annotation.get("keypoints") or ()):
                    self.drop("keypoints of objects", f"{path.name}: {annotation.get('id')}")
            if not all(isinstance(name, str) for _, name, _ in entries):
                raise TypeError("file_name is not text")
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not COCO's format of boxes: {error!r}.") from None
        unknown = sorted(boxes.keys() - {id_ for id_, *_ in entries})
        if unknown:
            raise DataError(f"{path}: annotations of image {unknown[0]}, which is not in the list of images.")
        twice = [id_ for id_, count in Counter(id_ for id_, *_ in entries).items() if count > 1]
        if twice:
            raise DataError(f"{path}: {len(twice)} ids belong to several images, the first is {twice[0]}.")
        finder, split = ImageFinder(*_image_folders(path)), _split_of(path)
        if is_part or len(_list_annotations(path.parent)) == 1:  # else the images of several files may share a folder
            for image in finder.unlisted(name for _, name, _ in entries):
                self.drop("images that are not listed", os.path.relpath(image, path.parent))
        source = path.parent.name if path.parent.name != "annotations" else path.parents[1].name
        source = f"{path.parents[1].name}/{path.parent.name}" if is_part else source
        return [
            _Image(
                id_, name, finder, source, licenses.get(_id(image.get("license")), self.license),
                image.get("split", split), boxes.get(id_, []), names, path,
            )
            for id_, name, image in entries
        ]  # fmt: skip

    def _box(self, annotation: dict[str, Any], image: _Image) -> Box:
        try:
            label = image.names[_id(annotation["category_id"])]
            x1, y1, x2, y2 = self._bounds(annotation, image.where).tolist()
            confidence = _confidence(annotation)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{image.where}: annotation {annotation.get('id')} is broken, {error!r}.") from None
        points, xyxy = self._points(annotation, image.where), (x1, y1, x2, y2)
        outline = box_corners(xyxy) if points is None or _num_parts(annotation) > 1 else points
        return outline_box(label, outline, xyxy, confidence, parse_flag(annotation.get("iscrowd")))

    def _bounds(self, annotation: dict[str, Any], where: Path) -> np.ndarray:
        """Return xyxy of the rotated box, of `bbox`, or, without `bbox`, around the polygon or mask."""
        if annotation.get("bbox") and not _rotation(annotation):
            xyxy = _xyxy(annotation)
        elif isinstance(annotation.get("segmentation"), dict):
            xyxy = rle_bounds(annotation["segmentation"])
        else:
            points = self._points(annotation, where)
            if points is None:  # a rotation, but no box to rotate
                raise KeyError("bbox")
            xyxy = np.concatenate([points.min(0), points.max(0)])
        if not np.isfinite(xyxy).all():
            raise ValueError(f"bbox {annotation.get('bbox')}")
        return xyxy

    def _points(self, annotation: dict[str, Any], where: Path) -> np.ndarray | None:
        """Return the points of the polygon or the corners of the rotated box; None if there is neither."""
        parts = annotation.get("segmentation")
        try:
            if not isinstance(parts, list) or not any(parts):
                degrees = _rotation(annotation)
                return turn_box(_xyxy(annotation), degrees) if degrees else None
            flat = [parts] if isinstance(parts[0], int | float) else parts  # one polygon, not in a list
            points = np.concatenate([np.array(part, np.float64).reshape(-1, 2) for part in flat])
            if not np.isfinite(points).all():
                raise ValueError("a point is not finite")
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{where}: outline of {annotation.get('id')} is broken, {error!r}.") from None
        return points


def _id(value: Any) -> str:
    """Return an id as text: some tools write numbers, others text, and tables turn whole numbers into 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _confidence(annotation: dict[str, Any]) -> float | None:
    """Return the `score` of a detection; the annotations of some tools have one too."""
    score = annotation.get("score")
    if score is not None and not 0 <= float(score) <= 1:
        raise ValueError(f"score {score}")
    return None if score is None else float(score)


def _num_parts(annotation: dict[str, Any]) -> int:
    """Return the number of polygons of an outline; 1 without any."""
    parts = annotation.get("segmentation")
    is_nested = isinstance(parts, list) and parts and isinstance(parts[0], list)
    return max(1, sum(map(bool, parts))) if is_nested and parts else 1


def _has_geometry(annotation: dict[str, Any]) -> bool:
    parts = annotation.get("segmentation")
    return bool(annotation.get("bbox")) or (any(parts) if isinstance(parts, list) else bool(parts))


def _rotation(annotation: dict[str, Any]) -> float:
    attributes = annotation.get("attributes")
    degrees = float((attributes.get("rotation") if isinstance(attributes, dict) else None) or 0)
    if not math.isfinite(degrees):
        raise ValueError(f"rotation {degrees}")
    has_polygon = isinstance(annotation.get("segmentation"), list) and any(annotation["segmentation"])
    return 0.0 if has_polygon else degrees % 360  # a polygon is already rotated


def _xyxy(annotation: dict[str, Any]) -> np.ndarray:
    return xywh_to_xyxy(np.array(annotation["bbox"], np.float64).reshape(1, 4))[0]


def _list_annotations(root: Path) -> list[Path]:
    """Return the JSON files at `root` that contain boxes, by a search for keywords."""
    paths = [root] if root.is_file() else [*list_files(root, ".json"), *list_files(root / "annotations", ".json")]
    return sorted(path for path in paths if path.suffix.lower() == ".json" and _has_boxes(path))


def _list_roboflow(root: Path) -> list[Path]:
    return [path for split in SPLITS if (path := root / split / _ROBOFLOW).is_file()]


def _has_boxes(path: Path) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        encoding = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(text[:2], "utf-8")

        def contains(word: str) -> bool:
            return text.find(f'"{word}"'.encode(encoding)) >= 0

        has_classes = any(map(contains, ("bbox", "segmentation", "categories")))
        return has_classes and all(contains(word) for word in ("annotations", "images"))


def _find_annotations(root: Path, split: str | None) -> list[Path]:
    if root.is_file():
        return [root]
    files = _list_annotations(root)
    if not files and (parts := _list_roboflow(root)):
        return parts
    of_split = [path for path in files if split is not None and _split_of(path) == split]
    chosen = of_split or files
    if len(chosen) != 1:
        names = f": {', '.join(path.name for path in chosen)}. Name one as the path" if chosen else ""
        raise DataError(f"{root} contains {len(chosen)} COCO files of boxes{names}.")
    return chosen


def _split_of(path: Path) -> str | None:
    match = _SPLIT.search(path.stem)
    return match[0] if match else path.parent.name if path.parent.name in SPLITS else None


def _image_folders(annotations: Path) -> list[Path]:
    """Return the folders near the annotations that may hold the images; `images/` next to them comes first."""
    here, above = annotations.parent, annotations.parent.parent
    year = annotations.stem.rpartition("_")[2]  # instances_train2017.json lists the images of train2017/
    return [here / "images", here, above / year, above / "images" / year, above / "images", above]
