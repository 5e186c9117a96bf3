"""Prediction with a finetuned model."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lhrs.atomic_io import atomic_dir, save_safetensors
from lhrs.data.augment import center_crop_resize
from lhrs.downstream.backbone import Backbone
from lhrs.downstream.detect.data import read_window, to_detected
from lhrs.downstream.detect.object_detector import ObjectDetector
from lhrs.downstream.detect.tiling import detect_tiled
from lhrs.downstream.inputs import ImageInput
from lhrs.downstream.labeled_dataset import IGNORE
from lhrs.downstream.model_config import CONFIG, WEIGHTS, ModelConfig, read_model_config
from lhrs.downstream.network import LogitNetwork, TaskNetwork
from lhrs.downstream.sliding_window import sliding_window_logits, strip_starts
from lhrs.downstream.task import get_task
from lhrs.errors import CheckpointError, ConfigError, DataError
from lhrs.fingerprint import of_config, of_file
from lhrs.imagery.band_stack import BandStack, PixelWindow
from lhrs.imagery.windows import SceneWindow, make_windows, window_starts
from lhrs.metrics.detection import Detections
from lhrs.models.state_dict import load_strict, read_safetensors
from lhrs.progress import Bar

Image = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A file, or the files of its bands."""
_BATCH = 64


@dataclass(frozen=True)
class ClassPrediction:
    """The class of a scene."""

    label: str
    confidence: float
    """Probability of the label, 0-1."""
    probabilities: dict[str, float]


@dataclass(frozen=True)
class DetectedObject:
    """An object that was detected on an image."""

    label: str
    score: float
    """0-1."""
    corners: np.ndarray
    """float64 `(4, 2)`, xy pixels of the image, x right, y down; for horizontal boxes too."""


class Predictor:
    """A finetuned model; call it with an image, or with two for change detection.

    Args:
        config: configuration of the model folder.
        network: the network.
        device: torch device; None is a GPU if there is one.
        folder: the model folder.

    Raises:
        ConfigError: there is no such device.
    """

    def __init__(
        self, config: ModelConfig, network: TaskNetwork, device: str | None = None, folder: Path | None = None
    ) -> None:
        self._folder = folder
        self.config, self.task = config, get_task(config.task)
        self.inference: Any = self.task.inference_config.model_validate(config.inference)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self.network = network.eval().to(self.device)
        except RuntimeError as error:
            raise ConfigError(
                f"there is no device {self.device!r} here: {' '.join(str(error).split())[:200]}"
            ) from None
        self.image_input = ImageInput(config.normalization, config.interpolation)

    def __call__(self, *images: Image) -> Any:
        """Return the task's prediction: a `ClassPrediction`; a list of `DetectedObject`, best first; or a uint8 mask
        `(H, W)`, 255 where the image has no data.

        Raises:
            DataError: an image cannot be read or has other bands, or the sizes of the two dates differ.
        """
        return self.task.predict(self, self.open_inputs(*images))

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the files of the model folder; empty without a folder."""
        if self._folder is None:
            return ""
        return of_config([of_file(self._folder / name, content=True) for name in (CONFIG, WEIGHTS)])

    def classify(self, images: Sequence[Image]) -> Iterator[ClassPrediction]:
        """Yield the class of each scene, in order."""
        for start in range(0, len(images), _BATCH):
            whole = (
                self.image_input.read(self.image_input.open(_files(image))) for image in images[start : start + _BATCH]
            )
            pixels = [self.image_input.standardize(self._resize(x)) for x in whole]
            yield from self._classes(torch.stack(pixels))

    def classify_windows(self, stack: BandStack, size: int) -> Iterator[tuple[SceneWindow, ClassPrediction | None]]:
        """Yield the class of each window of a scene, row by row; None where a window has no data at all.

        Args:
            stack: the scene, read window by window.
            size: side of a window in pixels of the scene; choose about the side of the training images.
        """
        high, wide = stack.shape
        windows = make_windows(wide, high, size)
        for start in range(0, len(windows), _BATCH):
            batch = windows[start : start + _BATCH]
            has_data = [bool(stack.valid_mask(window.window).any()) for window in batch]
            pixels = [
                self._resize(self.read_standardized(stack, window.window))
                for window, is_valid in zip(batch, has_data, strict=True)
                if is_valid
            ]
            predictions = self._classes(torch.stack(pixels)) if pixels else iter(())
            for window, is_valid in zip(batch, has_data, strict=True):
                yield window, next(predictions) if is_valid else None

    def _resize(self, pixels: Tensor) -> Tensor:
        config = self.config
        return center_crop_resize(pixels, self.inference.center_crop, config.image_size, config.interpolation)

    def _classes(self, pixels: Tensor) -> Iterator[ClassPrediction]:
        for row in self.logits(pixels).softmax(1).tolist():
            best = int(np.argmax(row))
            yield ClassPrediction(
                self.config.classes[best], row[best], dict(zip(self.config.classes, row, strict=True))
            )

    def detect_objects(self, stack: BandStack, bar: Bar | None = None) -> Iterator[DetectedObject]:
        """Yield the objects on an image, best first; `bar` counts tiles."""
        for corners, score, label in zip(*self.detect(stack, bar), strict=True):
            yield DetectedObject(self.config.classes[label], float(score), corners)

    @torch.inference_mode()
    def detect(self, stack: BandStack, bar: Bar | None = None) -> Detections:
        """Return the objects on an image, best first, in its pixels; large images are read in tiles."""
        network, inference = cast(ObjectDetector, self.network), self.inference

        def read(box: PixelWindow) -> tuple[Tensor, float]:
            if bar is not None:
                bar.update()
            return read_window(self.image_input, stack, box, self.config.image_size)

        def detect(pixels: Tensor) -> list[dict[str, Tensor]]:
            return network.detect(pixels.to(self.device))

        tiles = (inference.tile_size, inference.tile_overlap)
        return to_detected(detect_tiled(detect, stack.shape, read, network.columns, *tiles))

    def open_inputs(self, *images: Image) -> tuple[BandStack, ...]:
        """Open one image, or two of one size for change detection.

        Raises:
            DataError: the number of images is wrong, or their sizes differ.
        """
        dates = self.task.num_dates
        if len(images) != dates:
            raise DataError(
                f"this model takes {'before and after' if dates == 2 else 'one image'}, not {len(images)} images."
            )
        stacks = tuple(self.image_input.open(_files(image)) for image in images)
        for other in stacks[1:]:
            if other.shape != stacks[0].shape:
                sizes = " and ".join(f"{s.shape[1]} x {s.shape[0]}" for s in stacks)
                raise DataError(f"{other.files[0]} and {stacks[0].files[0]} differ in size: {sizes} pixels.")
            first_reference, other_reference = stacks[0].georeference, other.georeference
            if first_reference and other_reference and first_reference.transform and other_reference.transform:
                diagonal = np.array([[0, 0], [stacks[0].shape[1], stacks[0].shape[0]]])
                gap = np.abs(first_reference.to_lonlat(diagonal) - other_reference.to_lonlat(diagonal)).max()
                pixel = np.abs(np.diff(first_reference.to_lonlat(diagonal), axis=0)[0] / diagonal[1]).max()
                if gap > pixel:
                    raise DataError(f"{other.files[0]} does not cover the same area as {stacks[0].files[0]}.")
        return stacks

    def iter_mask_strips(
        self, stacks: tuple[BandStack, ...], size: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield `(top, classes)` from top to bottom, uint8 `(rows, W)`; memory holds one row of windows.

        Args:
            stacks: result of `open_inputs`.
            size: side of windows in pixels; each pixel has the class of its window. For scene classification.
        """
        width = stacks[0].shape[1]
        strips = ((top, logits.argmax(0)) for top, logits in self.iter_logit_strips(stacks)) if size is None else (
            self._class_strips(stacks[0], size)
        )  # fmt: skip
        for top, classes in strips:
            box = (0, top, width, len(classes))
            valid = np.all([stack.valid_mask(box) for stack in stacks], axis=0)
            yield top, np.where(valid, classes, IGNORE).astype(np.uint8)

    def num_strips(self, stacks: tuple[BandStack, ...], size: int | None = None) -> int:
        """Return how many strips `iter_mask_strips` yields."""
        height = stacks[0].shape[0]
        if size is not None:
            return len(window_starts(height, size))
        return len(strip_starts(height, self.config.image_size, self.inference.overlap))

    def _class_strips(self, stack: BandStack, size: int) -> Iterator[tuple[int, np.ndarray]]:
        index = {name: n for n, name in enumerate(self.config.classes)}
        for top, row in groupby(self.classify_windows(stack, size), key=lambda result: result[0].core[1]):
            parts = [
                (window.core, IGNORE if prediction is None else index[prediction.label]) for window, prediction in row
            ]
            yield top, np.concatenate([np.full((core[3], core[2]), value) for core, value in parts], axis=1)

    def iter_logit_strips(self, stacks: tuple[BandStack, ...]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield `(top, logits)`, float32 `(K, rows, W)`; see `lhrs.downstream.sliding_window`."""

        def logits(boxes: list[PixelWindow]) -> np.ndarray:
            windows = []
            for box in boxes:
                dates = [self.read_standardized(stack, box) for stack in stacks]
                windows.append(torch.stack(dates) if len(dates) == 2 else dates[0])
            return self.logits(torch.stack(windows)).numpy()

        yield from sliding_window_logits(stacks[0].shape, self.config.image_size, self.inference.overlap, logits)

    def read_standardized(self, stack: BandStack, box: PixelWindow) -> Tensor:
        """Return a standardized window of an image, not resized."""
        return self.image_input.standardize(self.image_input.read(stack, box))

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits of standardized images, on the CPU."""
        return cast(LogitNetwork, self.network).logits(pixels.to(self.device)).float().cpu()


def load(folder: str | os.PathLike[str], device: str | None = None) -> Predictor:
    """See `lhrs.downstream.load_predictor`."""
    folder = Path(folder)
    config = read_model_config(folder)
    try:
        encoder = Backbone(**config.encoder.model_dump(), is_folder=False)
        network = get_task(config.task).build_network(encoder, len(config.classes), config.head, **config.head_args)
    except (TypeError, ValueError, RuntimeError) as error:  # settings that the network does not have
        why = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder / CONFIG} does not describe a network that can be built: {why}") from error
    load_strict(network, read_safetensors(folder / WEIGHTS), str(folder / WEIGHTS))
    return Predictor(config, network, device, folder)


def save(folder: Path, config: ModelConfig, network: TaskNetwork) -> None:
    """Write a model folder atomically."""
    with atomic_dir(folder) as part:
        save_safetensors(part / WEIGHTS, network.state_dict())
        (part / CONFIG).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")


def _files(image: Image) -> tuple[Path, ...]:
    return (Path(image),) if isinstance(image, str | os.PathLike) else tuple(map(Path, image))
