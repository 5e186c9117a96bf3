"""Images with boxes for training and scoring detectors, from any reader of `lhrs.data.datasets`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from lhrs.data.dataset import Dataset
from lhrs.data.keyed import Key, sample_rng
from lhrs.downstream.detect.rotated import around, normalise, smallest_rectangle
from lhrs.errors import DataError
from lhrs.imagery import open_image
from lhrs.metrics.detection import Detected, Objects
from lhrs.metrics.overlap import oriented_corners


class DetectionData(TorchDataset):
    """Normalised images with their boxes, by `(epoch, index)`.

    Big scenes are cut into tiles before (`lhrs.downstream.detect.dota.cut`). Difficult objects are learnt from too.

    Args:
        reader: its outlines become boxes: the smallest rectangles around them, or the horizontal boxes.
        classes: names in the order of labels; None: all that occur, sorted.
        oriented: `(M, 5)` le90 boxes, else `(M, 4)` xyxy.
        mean: of the red, green and blue of 0-1, subtracted.
        std: divided by.
        max_side: larger images are made smaller, pixels of the longer side.
        augment: one of the eight symmetries of the square, drawn for each epoch and sample.
        seed: of what is drawn.

    Raises:
        DataError: an outline is broken, or of a class that is not among the names.
    """

    def __init__(
        self, reader: Dataset, classes: Sequence[str] | None = None, oriented: bool = True,
        mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.25, 0.25, 0.25),
        max_side: int | None = None, augment: bool = False, seed: int = 0,
    ) -> None:  # fmt: skip
        self.reader, self.oriented, self.max_side, self.augment, self.seed = reader, oriented, max_side, augment, seed
        self.mean, self.std = (torch.tensor(v, dtype=torch.float32).view(3, 1, 1) for v in (mean, std))
        outlines = [reader.outlines(n) for n in range(len(reader))]
        self.classes = list(classes) if classes else sorted({o.label for found in outlines for o in found})
        number = {name: n for n, name in enumerate(self.classes)}
        unknown = sorted({o.label for found in outlines for o in found} - number.keys())
        if unknown:
            raise DataError(f"{reader.root} has objects of class {unknown[0]!r}; known: {', '.join(self.classes)}.")
        self._labels = [np.array([number[o.label] for o in found], np.int64) for found in outlines]
        self._difficult = [np.array([o.difficult for o in found], bool) for found in outlines]
        rectangles = [np.array([smallest_rectangle(o.points) for o in found]).reshape(-1, 5) for found in outlines]
        bounds = [np.array([[*o.points.min(0), *o.points.max(0)] for o in found]).reshape(-1, 4) for found in outlines]
        self._boxes = rectangles if oriented else bounds
        # Quadrangles are scored as they were drawn, as DOTA's kit does.
        self._corners = [
            np.array([
                o.points if len(o.points) == 4 else corners
                for o, corners in zip(found, oriented_corners(boxes), strict=True)
            ]).reshape(-1, 4, 2) if oriented else horizontal_corners(low)
            for found, boxes, low in zip(outlines, rectangles, bounds, strict=True)
        ]  # fmt: skip

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Return `pixels` float32 `(3, H, W)`, `boxes`, `labels` int64 `(M,)`, `index`, and `scale`: pixels per pixel
        of the file.

        Raises:
            DataError: the image cannot be read.
        """
        index = key[1]
        opened = open_image(self.reader[index].images[0], self.max_side)
        scale = max(opened.pixels.shape[:2]) / max(opened.width, opened.height)
        pixels = torch.from_numpy(opened.pixels).permute(2, 0, 1)
        boxes = torch.from_numpy(self._boxes[index]) * torch.tensor([scale] * 4 + [1.0] * self.oriented).double()
        if self.augment:
            rng = sample_rng(self.seed, key)
            turns, flip = int(rng.integers(4)), bool(rng.integers(2))
            boxes = move(boxes, (pixels.shape[2], pixels.shape[1]), turns, flip)
            pixels = pixels.rot90(turns, (1, 2))
            pixels = pixels.flip(2) if flip else pixels
        return {
            "pixels": (pixels / 255 - self.mean) / self.std, "boxes": boxes.float(),
            "labels": torch.from_numpy(self._labels[index]), "index": index, "scale": scale,
        }  # fmt: skip

    def truth(self, index: int) -> Objects:
        """Return what is on an image, in pixels of the file."""
        return Objects(self._corners[index], self._labels[index], self._difficult[index])


def horizontal_corners(boxes: np.ndarray) -> np.ndarray:
    """Return `(N, 4, 2)` corners of `(N, 4)` xyxy boxes."""
    return np.asarray(boxes, float).reshape(-1, 4)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def to_detected(detections: dict[str, Tensor], scale: float = 1.0) -> Detected:
    """Return detections as they are scored.

    Args:
        detections: `boxes` `(K, 5)` or `(K, 4)`, `scores` and `labels` of a detector.
        scale: pixels that it saw per pixel of the file.
    """
    boxes = detections["boxes"].double().cpu().numpy()
    corners = oriented_corners(boxes) if boxes.shape[1] == 5 else horizontal_corners(boxes)
    return Detected(corners / scale, detections["scores"].cpu().numpy(), detections["labels"].cpu().numpy())


def move(boxes: Tensor, size_wh: tuple[int, int], turns: int, flip: bool) -> Tensor:
    """Return `(M, 5)` oriented or `(M, 4)` xyxy boxes of an image after `rot90` and then a flip of left and right.

    Args:
        boxes: in pixels of the image.
        size_wh: its width and height before.
        turns: quarter turns to the left.
        flip: mirror it afterwards.
    """
    if boxes.shape[1] == 4:
        x1, y1, x2, y2 = boxes.unbind(1)
        as_oriented = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, torch.zeros_like(x1)], 1)
        return around(_move(as_oriented, size_wh, turns, flip))
    return normalise(_move(boxes, size_wh, turns, flip))


def _move(boxes: Tensor, size_wh: tuple[int, int], turns: int, flip: bool) -> Tensor:
    x, y, w, h, angle = boxes.unbind(1)
    width, height = size_wh
    for _ in range(turns % 4):
        x, y, angle = y, width - x, angle - np.pi / 2
        width, height = height, width
    if flip:
        x, angle = width - x, -angle
    return torch.stack([x, y, w, h, angle], 1)


def collate(samples: Sequence[dict[str, Any]], multiple: int = 32) -> dict[str, Any]:
    """Return `pixels` float32 `(B, 3, H, W)`, padded with 0 right and below, and `targets` as detectors take them.

    Args:
        samples: of `DetectionData`.
        multiple: H and W are the next multiples of this, in pixels.
    """
    height, width = (-(-max(s["pixels"].shape[axis] for s in samples) // multiple) * multiple for axis in (1, 2))
    pixels = [F.pad(s["pixels"], (0, width - s["pixels"].shape[2], 0, height - s["pixels"].shape[1])) for s in samples]
    return {
        "pixels": torch.stack(pixels), "targets": [{"boxes": s["boxes"], "labels": s["labels"]} for s in samples],
        "index": [s["index"] for s in samples], "scale": [s["scale"] for s in samples],
    }  # fmt: skip
