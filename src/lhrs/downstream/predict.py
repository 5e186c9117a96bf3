"""A finished model, called with images."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lhrs.downstream.augment import centre
from lhrs.downstream.backbone import Encoder
from lhrs.downstream.card import CONFIG, WEIGHTS, Card, read_card
from lhrs.downstream.detect.data import read_window, to_detected
from lhrs.downstream.detect.dota import detect
from lhrs.downstream.detect.task import Detect
from lhrs.downstream.inputs import ImageInput
from lhrs.downstream.sliding import blended_rows, window_starts
from lhrs.downstream.task import IGNORE, ScoringTask, Task, build_task
from lhrs.errors import CheckpointError, ConfigError, DataError
from lhrs.files import new_folder, write_tensors
from lhrs.imagery.stack import Box, Stack
from lhrs.imagery.windows import SceneWindow, cut
from lhrs.metrics.detection import Detected
from lhrs.models.state_dict import load_strict

Image = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, or the files of its bands."""
_BATCH = 64


@dataclass(frozen=True)
class SceneClass:
    """What a scene is."""

    label: str
    confidence: float
    """Probability of the label, 0-1."""
    probabilities: dict[str, float]


@dataclass(frozen=True)
class FoundObject:
    """An object on an image."""

    label: str
    score: float
    """0-1."""
    corners: np.ndarray
    """float64 `(4, 2)`, xy pixels of the image, x right, y down; of a horizontal box, too."""


class Predictor:
    """A task's network with what its input must be; call it with an image, or with two for change.

    Args:
        card: what the model folder says.
        task: the network.
        device: where it runs; None is a GPU if there is one.

    Raises:
        ConfigError: there is no such device.
    """

    def __init__(self, card: Card, task: Task, device: str | None = None) -> None:
        self.card = card
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self.task = task.eval().to(self.device)
        except RuntimeError as error:
            raise ConfigError(
                f"there is no device {self.device!r} here: {' '.join(str(error).split())[:200]}"
            ) from None
        self.image_input = ImageInput(card.normalization, card.interpolation)

    def __call__(self, *images: Image) -> Any:
        """Return a `SceneClass`; a list of `FoundObject`, best first; or uint8 `(H, W)`: the class of each pixel, 255
        where the image has no data.

        Raises:
            DataError: an image cannot be read, has other bands, or the two of a change differ in size.
        """
        stacks = self.stacks(*images)
        if self.card.task == "classify":
            return next(self.classify(images))
        if self.card.task == "detect":
            return list(self.objects(stacks[0]))
        found = np.empty(stacks[0].shape, np.uint8)
        for top, rows in self.masks(stacks):
            found[top : top + len(rows)] = rows
        return found

    def classify(self, images: Sequence[Image]) -> Iterator[SceneClass]:
        """Yield the class of each scene, in order."""
        for at in range(0, len(images), _BATCH):
            whole = (self.image_input.read(self.image_input.open(_files(image))) for image in images[at : at + _BATCH])
            seen = [self.image_input.standardize(self._brought_to_size(x)) for x in whole]
            yield from self._classes(torch.stack(seen))

    def classify_windows(self, stack: Stack, side: int) -> Iterator[tuple[SceneWindow, SceneClass | None]]:
        """Yield the class of each window of a scene, row by row; None where a window has no data at all.

        Args:
            stack: the scene, read window by window.
            side: of a window, in pixels of the scene: about what an image had that the model learned from.
        """
        high, wide = stack.shape
        windows = cut(wide, high, side)
        for at in range(0, len(windows), _BATCH):
            part = windows[at : at + _BATCH]
            known = [stack.known(one.window) for one in part]
            seen = [
                self._brought_to_size(self._normalised(stack, one.window))
                for one, there in zip(part, known, strict=True)
                if there.any()
            ]
            found = self._classes(torch.stack(seen)) if seen else iter(())
            for one, there in zip(part, known, strict=True):
                yield one, next(found) if there.any() else None

    def _brought_to_size(self, pixels: Tensor) -> Tensor:
        return centre(pixels, self.card.center, self.card.size, self.card.interpolation)

    def _classes(self, pixels: Tensor) -> Iterator[SceneClass]:
        for row in self.scores(pixels).softmax(1).tolist():
            best = int(np.argmax(row))
            yield SceneClass(self.card.classes[best], row[best], dict(zip(self.card.classes, row, strict=True)))

    def objects(self, stack: Stack, advance: Callable[[], None] = lambda: None) -> Iterator[FoundObject]:
        """Yield what is on an image, best first; `advance` is called for each tile."""
        for corners, score, label in zip(*self.detect(stack, advance), strict=True):
            yield FoundObject(self.card.classes[label], float(score), corners)

    @torch.inference_mode()
    def detect(self, stack: Stack, advance: Callable[[], None] = lambda: None) -> Detected:
        """Return what is on an image, best first, in its pixels; images larger than a tile are read tile by tile."""
        card, task = self.card, cast(Detect, self.task)

        def read(box: Box) -> tuple[Tensor, float]:
            advance()
            return read_window(self.image_input, stack, box, card.size)

        find = lambda pixels: task.detect(pixels.to(self.device))  # noqa: E731
        return to_detected(detect(find, stack.shape, read, task.columns, card.tile, card.gap))

    def stacks(self, *images: Image) -> tuple[Stack, ...]:
        """Return what is read: one image, or two of one size for change.

        Raises:
            DataError: there are too many or too few, or their sizes differ.
        """
        dates = 2 if self.card.task == "change" else 1
        if len(images) != dates:
            raise DataError(
                f"this model takes {'before and after' if dates == 2 else 'one image'}, not {len(images)} images."
            )
        found = tuple(self.image_input.open(_files(image)) for image in images)
        for other in found[1:]:
            if other.shape != found[0].shape:
                sizes = " and ".join(f"{s.shape[1]} x {s.shape[0]}" for s in found)
                raise DataError(f"{other.files[0]} and {found[0].files[0]} differ in size: {sizes} pixels.")
            here, there = found[0].georeference, other.georeference
            if here and there and here.transform and there.transform:
                ends = np.array([[0, 0], [found[0].shape[1], found[0].shape[0]]])
                gap = np.abs(here.to_lonlat(ends) - there.to_lonlat(ends)).max()
                pixel = np.abs(np.diff(here.to_lonlat(ends), axis=0)[0] / ends[1]).max()
                if gap > pixel:
                    raise DataError(f"{other.files[0]} does not cover the same ground as {found[0].files[0]}.")
        return found

    def masks(self, stacks: tuple[Stack, ...], side: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield `(top, classes)` from top to bottom, uint8 `(rows, W)`; memory holds one row of windows.

        Args:
            stacks: see `stacks`.
            side: of the windows whose class their pixels have, for classes of scenes.
        """
        width = stacks[0].shape[1]
        rows = ((top, scores.argmax(0)) for top, scores in self.rows(stacks)) if side is None else (
            self._class_rows(stacks[0], side)
        )  # fmt: skip
        for top, found in rows:
            box = (0, top, width, len(found))
            known = np.all([stack.known(box) for stack in stacks], axis=0)
            yield top, np.where(known, found, IGNORE).astype(np.uint8)

    def num_strips(self, stacks: tuple[Stack, ...], side: int | None = None) -> int:
        """Return how many pieces `masks` yields."""
        high = stacks[0].shape[0]
        if side is not None:
            return len(cut(1, high, side))
        return len(window_starts(high, min(self.card.size, high), self.card.overlap))

    def _class_rows(self, stack: Stack, side: int) -> Iterator[tuple[int, np.ndarray]]:
        number = {name: n for n, name in enumerate(self.card.classes)}
        for top, row in groupby(self.classify_windows(stack, side), key=lambda found: found[0].core[1]):
            parts = [(one.core, IGNORE if found is None else number[found.label]) for one, found in row]
            yield top, np.concatenate([np.full((core[3], core[2]), value) for core, value in parts], axis=1)

    def rows(self, stacks: tuple[Stack, ...]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield `(top, scores)`, scores before softmax, float32 `(K, rows, W)`; see `lhrs.downstream.sliding`."""

        def score(boxes: list[Box]) -> np.ndarray:
            windows = []
            for box in boxes:
                dates = [self._normalised(stack, box) for stack in stacks]
                windows.append(torch.stack(dates) if len(dates) == 2 else dates[0])
            return self.scores(torch.stack(windows)).numpy()

        yield from blended_rows(stacks[0].shape, self.card.size, self.card.overlap, score)

    def _normalised(self, stack: Stack, box: Box) -> Tensor:
        return self.image_input.standardize(self.image_input.read(stack, box))

    @torch.inference_mode()
    def scores(self, pixels: Tensor) -> Tensor:
        """Return scores on the CPU of normalised pixels."""
        return cast(ScoringTask, self.task).scores(pixels.to(self.device)).float().cpu()


def load(folder: str | os.PathLike[str], device: str | None = None) -> Predictor:
    """See `lhrs.downstream.load_predictor`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    card = read_card(folder)
    try:
        encoder = Encoder(card.encoder.name, card.encoder.in_chans, card.encoder.args, is_folder=False)
        task = build_task(card.task, encoder, len(card.classes), card.head, **card.head_args)
    except (TypeError, ValueError, RuntimeError) as error:  # settings that no model of ours has
        why = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder / CONFIG} does not describe a network that can be built: {why}") from error
    try:
        state = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {' '.join(str(error).split())[:200]}") from error
    load_strict(task, state, str(folder / WEIGHTS))
    return Predictor(card, task, device)


def save(folder: Path, card: Card, task: Task) -> None:
    """Write a model folder; it is there whole or not at all."""
    with new_folder(folder) as part:
        write_tensors(part / WEIGHTS, task.state_dict())
        (part / CONFIG).write_text(json.dumps(card.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def _files(image: Image) -> tuple[Path, ...]:
    return (Path(image),) if isinstance(image, str | os.PathLike) else tuple(map(Path, image))
