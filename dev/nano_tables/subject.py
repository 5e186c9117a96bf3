"""The model and the data that tables are made of."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from dev.gold_windows import GOLD, read_rows, read_window
from dev.nano_tables.renderings import Change
from dev.nano_tables.scores import SEED

from lhrs.imagery.geo_image import GeoImage
from lhrs.inference.assistant import BATCH, Assistant
from lhrs.inference.images import ImageInput, open_input
from lhrs.inference.perception import PerceptionRuntime
from lhrs.inference.tasks import Task
from lhrs.perception.evidence import Evidence
from lhrs.schema import Answer

T = TypeVar("T")


def sample(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most `limit` of the items in their order, sampled by the seed."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i] for i in np.sort(np.random.default_rng(SEED).permutation(len(items))[:limit])]


@dataclass
class Scenes:
    """The test images of a scene set."""

    name: str
    files: list[Path]
    labels: list[str]

    @property
    def classes(self) -> list[str]:
        """Labels that occur, sorted."""
        return sorted(set(self.labels))

    def take(self, limit: int | None) -> "Scenes":
        """Return at most `limit` of the images, sampled by the seed."""
        picks = sample(range(len(self.files)), limit)
        return Scenes(self.name, [self.files[i] for i in picks], [self.labels[i] for i in picks])


@dataclass
class Subject:
    """A model with the folders of the data.

    Args:
        assistant: the model.
        data: folder of the data sets.
        prepared: folder of the files that `recipes/lhrs-nano/prepare.py` writes.
        ood: folder of the sets of `dev/ood_sets.py`.
        limit: images per set; None for all.
    """

    assistant: Assistant
    data: Path
    prepared: Path
    ood: Path
    limit: int | None = None
    scenes: list[Scenes] = field(init=False)

    def __post_init__(self) -> None:
        files = sorted((self.data / "eurosat/test").rglob("*.*"))
        rows = [row for row in read_rows(self.data / "ucmerced/index.jsonl") if row["split"] == "val"]
        eurosat = Scenes("eurosat", files, [file.parent.name for file in files])
        ucmerced = Scenes("ucmerced", [self.data / "ucmerced" / r["file"] for r in rows], [r["label"] for r in rows])
        self.scenes = [eurosat.take(self.limit), ucmerced.take(self.limit)]

    @property
    def has_evidence(self) -> bool:
        """Whether the model answers from the evidence of dense heads."""
        return isinstance(self.assistant.runtime, PerceptionRuntime)

    def gold(self, name: str) -> list[dict[str, Any]]:
        """Return rows judged by eye, at most `limit`, sampled by the seed."""
        return sample(read_rows(GOLD / name), self.limit)

    def window(self, row: dict[str, Any]) -> np.ndarray:
        """Return a window judged by eye as uint8 `(H, W, 3)`; whole files have no `window`."""
        if "window" in row:
            return np.asarray(read_window(self.data, row))
        return open_input(self.data / row["set"] / row["file"])[1].pixels

    def ask(
        self,
        images: Sequence[ImageInput],
        tasks: Sequence[Task] | Sequence[Sequence[Task]],
        change: Change | None = None,
    ) -> list[list[Answer]]:
        """Return the answers of each image to tasks, as the methods of `Assistant` give them.

        All tasks of an image are asked in one batch, so that the image is seen once.

        Args:
            images: files or arrays.
            tasks: for all images, or one list for each image.
            change: of the pixels, before the model sees them.
        """
        each = [tasks] * len(images) if tasks and isinstance(tasks[0], Task) else tasks
        result: list[list[Answer]] = []
        for start in range(0, len(images), BATCH):
            part = list(zip(self.open(images[start : start + BATCH], change), each[start : start + BATCH], strict=True))
            asked = [(image, task) for image, own in part for task in own]
            requests = [self.assistant.request([i.pixels], t, n, gsd_m(i)) for n, (i, t) in enumerate(asked)]
            replies = iter(zip(asked, self.assistant.runtime.generate(requests), strict=True))
            for _, own in part:
                answers = []
                for _ in own:
                    (image, task), reply = next(replies)
                    answers.append(self.assistant.answer("", image, task, reply))
                result.append(answers)
        return result

    def evidence(self, images: Sequence[ImageInput], change: Change | None = None) -> Iterator[Evidence]:
        """Yield the evidence of images."""
        runtime = self.assistant.runtime
        assert isinstance(runtime, PerceptionRuntime)
        for start in range(0, len(images), BATCH):
            opened = list(self.open(images[start : start + BATCH], change))
            yield from runtime.evidence([(image.pixels, gsd_m(image)) for image in opened])

    def open(self, images: Sequence[ImageInput], change: Change | None = None) -> Iterator[GeoImage]:
        """Yield images as the commands open them, with a change of their pixels."""
        for source in images:
            image = open_input(source, self.assistant.rendering)[1]
            if change is None:
                yield image
                continue
            pixels = change(image.pixels)
            yield replace(image, pixels=pixels, width=pixels.shape[1], height=pixels.shape[0])


def gsd_m(image: GeoImage) -> float | None:
    """Return the meters per pixel of the rendered pixels; None is unknown."""
    return None if image.gsd_m is None else image.gsd_m * image.width / image.pixels.shape[1]


def read_coco(file: Path, limit: int | None) -> tuple[list[Path], list[np.ndarray]]:
    """Return the images of a COCO file, and their boxes `(N, 4)` xyxy in pixels."""
    coco = json.loads(file.read_text(encoding="utf-8"))
    boxes: dict[int, list[list[float]]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        boxes[annotation["image_id"]].append([x, y, x + w, y + h])
    images = coco["images"][:limit]
    folder = file.parent
    return [folder / i["file_name"] for i in images], [np.array(boxes[i["id"]], float).reshape(-1, 4) for i in images]


def read_samples(file: Path, limit: int | None) -> tuple[list[Path], list[np.ndarray]]:
    """Return the test images of a JSON Lines file of samples, and their boxes `(N, 4)` xyxy in pixels."""
    rows = [row for row in read_rows(file) if row["split"] == "test"][:limit]
    boxes = [np.array([box["xyxy"] for box in row["boxes"]], float).reshape(-1, 4) for row in rows]
    return [file.parent / row["images"][0] for row in rows], boxes
