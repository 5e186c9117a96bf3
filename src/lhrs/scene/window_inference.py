"""Inference on blocks of windows; the rows do not depend on the engine."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from lhrs.errors import ConfigError
from lhrs.imagery.geo_image import GeoImage, Rendering
from lhrs.imagery.scene import Scene
from lhrs.imagery.windows import SceneWindow
from lhrs.inference import tasks
from lhrs.inference.assistant import BATCH, Assistant
from lhrs.inference.load import load
from lhrs.inference.options import ModelOptions
from lhrs.inference.tasks import Task

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["classify", "caption", "ground", "count", "vqa", "change"]
KINDS: tuple[Kind, ...] = ("classify", "caption", "ground", "count", "vqa", "change")
_READERS = 2
_AHEAD = 2
"""Number of batches that are read ahead of the model."""
_EDGE = 1 / 64
"""Distance from a window's edge, as a fraction of its side, within which a box touches it."""


@dataclass(frozen=True)
class SceneQuery:
    """The question about every window, and the model."""

    kind: Kind
    labels: tuple[str, ...] | None = None
    """Allowed answers of `classify`, `vqa` and `change`."""
    target: str = ""
    """The question of `vqa` and `change`, the referring expression of `ground`, the target of `count`."""
    model: str | None = None
    device: str | None = None
    options: ModelOptions = ModelOptions()  # noqa: RUF009 (frozen)

    def task(self, assistant: Assistant) -> Task:
        """Return the task with the model's prompt.

        Raises:
            ConfigError: the model does not distinguish two labels, or the question is empty.
        """
        family = assistant.runtime.family
        if self.kind == "caption":
            return tasks.caption_task(family)
        if self.kind == "ground":
            return tasks.ground_task(family, self.target)
        if self.kind == "count":
            return tasks.count_task(family, self.target or "buildings")
        if self.kind == "vqa" or (self.kind == "change" and self.target):
            return tasks.ask_task(family, self.target, self.labels)
        return tasks.classify_task(family, self.labels)


@dataclass(frozen=True)
class Block:
    """Windows that one worker processes as a unit."""

    composites: tuple[Scene, ...]
    """Renderings of one scene; boxes are in pixels of the first."""
    after: tuple[Scene, ...]
    """The same renderings of the scene after, for `change`; else empty."""
    windows: tuple[SceneWindow, ...]
    size: tuple[int, int]
    """Maximum width and height of a rendered window in pixels."""
    min_valid: float
    """Minimum fraction of valid pixels; other windows are skipped."""
    query: SceneQuery


def answer_block(block: Block) -> "pa.Table":
    """Return a row for each window of a block.

    Raises:
        DataError: a file cannot be read.
        ConfigError: the model does not support this question.
    """
    import pyarrow as pa

    assistant = cached_model(block.query)
    task = block.query.task(assistant)
    rows = []
    for batch in _batches(block):
        usable = [(w, images, valid) for w, images, valid in batch if valid >= block.min_valid]
        times = 2 if block.after else 1
        groups = [images[n * len(images) // times : (n + 1) * len(images) // times] for _, images, _ in usable
                  for n in range(times)]  # fmt: skip
        numbers = [w.number * times + n for w, _, _ in usable for n in range(times)]
        meters = block.composites[0].gsd_m
        sizes_m = [meters * w.window[2] / images[0].shape[1] for w, images, _ in usable for _ in range(times)]
        replies = assistant.runtime.generate(
            [
                assistant.request(group, task, number, gsd_m)
                for group, number, gsd_m in zip(groups, numbers, sizes_m, strict=True)
            ]
        )
        answers = iter(
            assistant.answer("", _image(group[0]), task, reply) for group, reply in zip(groups, replies, strict=True)
        )
        answered = {w.number for w, _, _ in usable}
        for window, images, valid in batch:
            row = {"number": window.number, "window": window.window, "core": window.core, "valid_fraction": valid}
            if window.number in answered:
                before = next(answers) if block.after else None
                answer = next(answers)
                boxes, edges = _placed([box.xyxy for box in answer.boxes], images[0], window)
                row |= {
                    "answer": answer.answer, "confidence": answer.confidence,
                    "out_of_distribution": answer.out_of_distribution,
                    "answer_before": None if before is None else before.answer, "boxes": boxes, "touches_edge": edges,
                    "box_confidence": [box.confidence or 0.0 for box in answer.boxes],
                }  # fmt: skip
                if before is not None and None not in (before.confidence, answer.confidence):
                    row["confidence"] = before.confidence * answer.confidence  # type: ignore[operator]
            rows.append(row)
    return pa.Table.from_pylist(rows, _schema())


def cached_model(query: SceneQuery) -> Assistant:
    """Return the model of a query, loaded once in this process."""
    return _loaded(query.model, query.device, query.options)


@cache
def _loaded(model: str | None, device: str | None, options: ModelOptions) -> Assistant:
    return load(model, device, options)


def _batches(block: Block) -> Iterator[list[tuple[SceneWindow, list[np.ndarray], float]]]:
    """Yield windows with their pixels, which are read in the background."""
    waiting = iter(block.windows)
    with ThreadPoolExecutor(_READERS) as pool:
        pending = [pool.submit(_read, block, w) for w in islice(waiting, (1 + _AHEAD) * BATCH)]
        while pending:
            ready = [future.result() for future in pending[:BATCH]]
            pending = pending[BATCH:] + [pool.submit(_read, block, w) for w in islice(waiting, BATCH)]
            yield ready


def _read(block: Block, window: SceneWindow) -> tuple[SceneWindow, list[np.ndarray], float]:
    left, top, width, height = window.window
    scale = min(block.size[0] / width, block.size[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    read = [composite.read((left, top, width, height), size) for composite in block.composites]
    first = block.composites[0]
    for composite in block.after:
        read.append(composite.read(_same_ground(first, composite, window.window), size))
    return window, [pixels for pixels, _ in read], min(valid for _, valid in read)


def _same_ground(scene: Scene, other: Scene, rect: tuple[int, int, int, int]) -> tuple[float, float, float, float]:
    """Return a window of one scene in pixels of another with the same CRS and axes."""
    from affine import Affine

    shift = ~Affine(*other.transform) * Affine(*scene.transform)
    x1, y1 = shift * (rect[0], rect[1])
    x2, y2 = shift * (rect[0] + rect[2], rect[1] + rect[3])
    return min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)


def _image(pixels: np.ndarray) -> GeoImage:
    height, width = pixels.shape[:2]
    return GeoImage(pixels, 1.0, width, height, Rendering([1, 2, 3], "", ""))


def _placed(
    boxes: Sequence[Sequence[float]], pixels: np.ndarray, window: SceneWindow
) -> tuple[list[list[float]], list[list[bool]]]:
    """Return boxes in pixels of the scene, and which inner edges of the window they touch."""
    height, width = pixels.shape[:2]
    left, top, across, down = window.window
    scale = np.array([across / width, down / height] * 2)
    xyxy = np.asarray(boxes, float).reshape(-1, 4)
    slack = np.array([width, height]) * _EDGE
    edges = np.concatenate([xyxy[:, :2] <= slack, xyxy[:, 2:] >= np.array([width, height]) - slack], 1)
    return (xyxy * scale + np.array([left, top] * 2)).tolist(), (edges & np.array(window.has_neighbor)).tolist()


def _schema() -> "pa.Schema":
    import pyarrow as pa

    box = pa.list_(pa.float64())
    return pa.schema(
        [
            ("number", pa.int64()), ("window", pa.list_(pa.int64())), ("core", pa.list_(pa.int64())),
            ("valid_fraction", pa.float64()), ("answer", pa.string()), ("answer_before", pa.string()),
            ("confidence", pa.float64()), ("out_of_distribution", pa.bool_()), ("boxes", pa.list_(box)),
            ("box_confidence", pa.list_(pa.float64())), ("touches_edge", pa.list_(pa.list_(pa.bool_()))),
        ]
    )  # fmt: skip


def validate_query(query: SceneQuery) -> None:
    """Raise ConfigError for options that contradict each other; nothing is read before."""
    if query.kind == "vqa" and not query.target.strip():
        raise ConfigError("--task vqa needs --question, such as 'Is there a harbor?'")
    if query.kind == "ground" and not query.target.strip():
        raise ConfigError("--task ground needs --target, such as 'the ships'.")
    if query.labels is not None and query.kind not in ("classify", "vqa", "change"):
        raise ConfigError(f"--labels belong to classify, vqa and change, not to {query.kind}.")
