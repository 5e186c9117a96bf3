"""Boxes in COCO's JSON format (Lin et al., 2014, arXiv:1405.0312, and https://cocodataset.org/#format-data)."""

import mmap
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.boxes import xywh_to_xyxy
from lhrs.data.dataset import UNSTATED, Dataset, Outline, keep_split, read_json, rectangle
from lhrs.errors import DataError
from lhrs.schema import Box, Sample

_SPLIT = re.compile(r"(?<![a-z])(?:train|val|test)(?![a-z])")


class CocoBoxes(Dataset):
    """One sample per image with its boxes; images without objects are kept. There are no turns.

    COCO's boxes are left, top, width, height; ours are xyxy. Groups (`iscrowd`) are flagged. An image's `split` field
    says where it belongs; without one, the file name may, as in `instances_val2017.json`.
    """

    homepage = "https://cocodataset.org/#format-data"
    licence = UNSTATED
    layout = "a COCO json of boxes with the images near it, or a folder with one such file in it or in annotations/"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._path = _find_annotations(self.root, split)
        content = read_json(self._path)
        try:
            self._names = {category["id"]: category["name"] for category in content["categories"]}
            self._licences = {entry["id"]: entry["name"] for entry in content.get("licenses") or []}
            images = [(image["id"], image["file_name"], image) for image in content["images"]]
            splits = [image.get("split", _split_of(self._path)) for *_, image in images]
            self._boxes = defaultdict(list)
            for annotation in content["annotations"]:
                self._boxes[annotation["image_id"]].append(annotation)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self._path} is not COCO's format of boxes: {error!r}.") from None
        unknown = sorted(self._boxes.keys() - {id_ for id_, *_ in images})
        if unknown:
            raise DataError(f"{self._path}: annotations of image {unknown[0]}, which is not in the list of images.")
        self._images = keep_split(list(zip(images, splits, strict=True)), splits, split, self._path)
        self._folder = _find_images(self._path, self._images[0][0][1]) if self._images else self._path.parent

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Sample:
        (id_, file_name, image), split = self._images[index]
        source = self._path.parent.name if self._path.parent.name != "annotations" else self._path.parents[1].name
        return Sample(
            id=f"{source}/{file_name}",
            images=[str(self._folder / file_name)],
            boxes=[self._box(annotation) for annotation in self._boxes.get(id_, [])],
            source=source,
            licence=self._licences.get(image.get("license"), self.licence),
            split=split,
        )

    def outlines(self, index: int) -> list[Outline]:
        """Return the polygons; the corners of boxes where there is none, or a mask of pixels."""
        found = []
        for annotation in self._boxes.get(self._images[index][0][0], []):
            box, parts = self._box(annotation), annotation.get("segmentation")
            try:
                polygon = isinstance(parts, list) and any(parts)
                points = np.concatenate([np.array(p, np.float64).reshape(-1, 2) for p in parts]) if polygon else None
                if points is not None and not np.isfinite(points).all():
                    raise ValueError("a point is not finite")
            except (TypeError, ValueError) as error:
                raise DataError(f"{self._path}: outline of {annotation.get('id')} is broken, {error!r}.") from None
            if not box.crowd:
                found.append(Outline(box.label, rectangle(box.xyxy) if points is None else points))
        return found

    @classmethod
    def fits(cls, root: Path) -> bool:
        return len(_list_annotations(root)) == 1

    def _box(self, annotation: dict[str, Any]) -> Box:
        try:
            xyxy = xywh_to_xyxy(np.array(annotation["bbox"], np.float64).reshape(1, 4))[0]
            if not np.isfinite(xyxy).all():
                raise ValueError(f"bbox {annotation['bbox']}")
            label = self._names[annotation["category_id"]]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self._path}: annotation {annotation.get('id')} is broken, {error!r}.") from None
        return Box(label=label, xyxy=tuple(xyxy.tolist()), crowd=bool(annotation.get("iscrowd")))


def _list_annotations(root: Path) -> list[Path]:
    """Return the JSON files at `root` that hold boxes, as far as a search for the two words can tell."""
    paths = [root] if root.is_file() else [*root.glob("*.json"), *root.glob("annotations/*.json")]
    return sorted(path for path in paths if path.suffix == ".json" and _mentions(path, b'"annotations"', b'"bbox"'))


def _mentions(path: Path, *words: bytes) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(word) >= 0 for word in words)


def _find_annotations(root: Path, split: str | None) -> Path:
    if root.is_file():
        return root
    found = _list_annotations(root)
    of_split = [path for path in found if split is not None and _split_of(path) == split]
    chosen = of_split or found
    if len(chosen) != 1:
        names = f": {', '.join(path.name for path in chosen)}. Name one as the path" if chosen else ""
        raise DataError(f"{root} holds {len(chosen)} COCO files of boxes{names}.")
    return chosen[0]


def _split_of(path: Path) -> str | None:
    match = _SPLIT.search(path.stem)
    return match[0] if match else None


def _find_images(annotations: Path, first: str) -> Path:
    """Return the folder near the annotations that holds the first image; `images/` beside them if none does."""
    beside, above = annotations.parent, annotations.parent.parent
    year = annotations.stem.rpartition("_")[2]  # instances_train2017.json lists the images of train2017/
    near = [beside / "images", beside, above / year, above / "images" / year, above / "images", above]
    return next((folder for folder in near if (folder / first).exists()), near[0])
