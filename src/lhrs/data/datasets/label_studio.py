"""Exports of Label Studio in JSON and JSON-MIN (https://labelstud.io/guide/export)."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lhrs.data.dataset import (
    CAPTION_QUESTION,
    UNKNOWN_LICENSE,
    Dataset,
    ObjectPolygon,
    filter_split,
    grounding_turns,
    qa_turns,
    read_json,
)
from lhrs.data.datasets._label_studio_regions import Region, parse_regions
from lhrs.data.image_files import ImageFinder, image_size, list_files
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.schema import Sample, Turn

_IMAGE_KEYS = ("image", "img", "image_url", "imageUrl", "url", "path", "file", "filename")
_SNIFFED_BYTES = 1 << 16
_TASKS = re.compile(rb'"(?:annotations|completions|predictions)"\s*:\s*\[')
_MIN = re.compile(rb'"(?:rectanglelabels|polygonlabels|ellipselabels|brushlabels|original_width)"\s*:')
_UPLOAD = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


class _Task(NamedTuple):
    where: str
    image: str
    split: str | None
    regions: list[dict[str, Any]]


class LabelStudio(Dataset):
    """One sample per task.

    Format: a list of tasks with `data` and `annotations` (JSON), or with one key for each tag of the labeling interface
    (JSON-MIN). Rectangles are in percent of the image's sides, turned clockwise about their first corner; ellipses are
    read as their boxes; a polygon of four points is an oriented box. Choices are scene classes. Text about the image
    is a caption, text about a region its referring expression. Of several annotations of a task the first that was not
    cancelled counts. Predictions, key points and brush masks are left out.
    Splits: `split` in the data of a task.
    """

    homepage = "https://labelstud.io/guide/export"
    license = UNKNOWN_LICENSE
    layout = "a .json export of Label Studio (JSON or JSON-MIN), or a folder with one, and the images near it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        files = _list_files(self.root)
        if len(files) != 1:
            names = f": {', '.join(path.name for path in files)}. Name one as the path" if files else ""
            raise DataError(
                f"{self.root} contains {len(files)} exports of Label Studio{names}. Expected {self.layout}."
            )
        self._path = files[0]
        tasks = list(self._read())
        self._tasks = filter_split(tasks, [task.split for task in tasks], split, self.root)
        folder = self._path.parent
        self._finder = ImageFinder(folder, folder / "images", folder.parent, folder.parent / "images")

    def __len__(self) -> int:
        return len(self._tasks)

    def load(self, index: int) -> Sample:
        task = self._tasks[index]
        image, regions = self._regions(task)
        turns, labels, has_expressions = list[Turn](), list[str](), False
        for region in regions:
            labels += region.choices
            for text in region.texts:
                has_expressions |= region.box is not None
                turns += grounding_turns(text, region.box) if region.box else qa_turns(CAPTION_QUESTION, text)
        source = self._path.parent.name
        return Sample(
            id=f"{source}/{Path(os.path.relpath(image, self._path.parent)).as_posix()}", images=[str(image)],
            turns=turns, labels=labels, boxes=[region.box for region in regions if region.box], source=source,
            license=self.license, split=task.split, task="caption" if turns and not has_expressions else None,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the points of polygons, the corners of rectangles and ellipses."""
        _, regions = self._regions(self._tasks[index])
        return [r.polygon for r in regions if r.polygon is not None and r.box is not None and not r.box.crowd]

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return len(_list_files(root)) == 1

    def _read(self) -> Iterator[_Task]:
        content = read_json(self._path)
        if not isinstance(content, list):
            raise DataError(f"{self._path} is not an export of Label Studio: expected a list of tasks.")
        for number, row in enumerate(content):
            where = f"{self._path}: task {number}"
            if not isinstance(row, dict):
                raise DataError(f"{where} is no object.")
            data = row.get("data")
            regions = self._choose_annotation(row, where) if isinstance(data, dict) else _to_regions(row)
            data = data if isinstance(data, dict) else row
            split = data.get("split")
            yield _Task(where, _image_name(data, where), str(split) if split else None, regions)

    def _choose_annotation(self, row: dict[str, Any], where: str) -> list[dict[str, Any]]:
        """Return the results of the annotation that counts."""
        annotations = row.get("annotations") or row.get("completions") or []
        if not isinstance(annotations, list) or not all(isinstance(item, dict) for item in annotations):
            raise DataError(f"{where}: `annotations` is no list of objects.")
        for number in range(len(row.get("predictions") or [])):
            self.drop("predictions of models", f"{where}.{number}")
        valid = [item for item in annotations if not item.get("was_cancelled")]
        for number in range(len(annotations) - len(valid)):
            self.drop("cancelled annotations", f"{where}.{number}")
        for number in range(1, len(valid)):
            self.drop("annotations of a task after the first", f"{where}.{number}")
        regions = valid[0].get("result", []) if valid else []
        if not isinstance(regions, list) or not all(isinstance(region, dict) for region in regions):
            raise DataError(f"{where}: `result` is no list of objects.")
        return regions

    def _regions(self, task: _Task) -> tuple[Path, list[Region]]:
        name = task.image
        image = self._finder.find(name) or self._finder.find(_UPLOAD.sub("", Path(name).name))
        path = image or self._finder.find_or_expected(name)
        return path, parse_regions(task.regions, lambda: image_size(path), task.where, self.drop)


def _to_regions(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the regions of a row of JSON-MIN in the form of the full JSON."""
    regions: list[dict[str, Any]] = []
    for name, value in row.items():
        items = value if isinstance(value, list) else [value]
        for item in items:
            if isinstance(item, dict) and item.keys() & {"x", "points"}:
                kind = next((key for key in item if key.endswith("labels")), "rectangle")
                regions.append({"type": kind, "value": item, "from_name": name, **item})
            elif isinstance(item, dict) and "choices" in item:
                regions.append({"type": "choices", "value": item})
            elif name == "choice" and isinstance(item, str):
                regions.append({"type": "choices", "value": {"choices": [item]}})
    return regions


def _image_name(data: dict[str, Any], where: str) -> str:
    """Return the name of the image: of the usual key, or of the only value that names an image."""
    usual = [data[key] for key in _IMAGE_KEYS if isinstance(data.get(key), str)]
    others = [
        v for v in data.values() if isinstance(v, str) and Path(v.partition("?")[0]).suffix.lower() in IMAGE_SUFFIXES
    ]
    if usual or len(others) == 1:
        return (usual or others)[0]
    raise DataError(f"{where} names no image: none of {', '.join(_IMAGE_KEYS)}.")


def _list_files(root: Path) -> list[Path]:
    paths = [root] if root.is_file() else list_files(root, ".json")
    return [path for path in paths if path.suffix.lower() == ".json" and _is_export(path)]


def _is_export(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED_BYTES).lstrip(b"\xef\xbb\xbf \r\n\t")
    except OSError:
        return False
    is_full = b'"data"' in start and _TASKS.search(start) is not None
    return start.startswith(b"[") and (is_full or _MIN.search(start) is not None)
