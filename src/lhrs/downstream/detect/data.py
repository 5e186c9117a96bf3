"""Training data of detectors, and conversion of their output for scoring."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from lhrs.data.augment import D4, resize, sample_d4
from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.downstream.detect.rotated_boxes import min_area_rect, obb_to_hbb, to_le90
from lhrs.downstream.inputs import ImageInput
from lhrs.downstream.labeled_dataset import Item, LabeledDataset
from lhrs.errors import DataError
from lhrs.imagery.band_stack import BandStack, PixelWindow
from lhrs.metrics.detection import Detections, GroundTruth
from lhrs.metrics.iou import oriented_corners


class DetectionDataset(TorchDataset):
    """Normalized images with their boxes, indexed by `(epoch, index)`.

    Difficult objects are training data too.

    Args:
        labeled: polygons are converted to boxes: minimum-area rectangles, or enclosing horizontal boxes.
        image_input: how images are read.
        size: images whose longer side has more pixels are downsampled.
        oriented: `(M, 5)` le90 boxes, else `(M, 4)` xyxy.
        augment: apply one of the eight symmetries of the square, sampled for each epoch and item.
        seed: seed of augmentation.
        tile: largest side of an image in pixels.

    Raises:
        DataError: an image is larger than a tile.
    """

    def __init__(
        self, labeled: LabeledDataset, image_input: ImageInput, size: int, oriented: bool = True, augment: bool = False,
        seed: int = 0, tile: int | None = None,
    ) -> None:  # fmt: skip
        self.items, self.image_input, self.size = labeled.items, image_input, size
        self.augment, self.seed = augment, seed
        self.oriented = oriented
        if tile is not None:
            for item in self.items:
                high, wide = BandStack(item.images[0]).shape
                if max(high, wide) > tile:
                    raise DataError(
                        f"{item.images[0][0]} has {wide} x {high} pixels, more than `tile_size` {tile}: cut the scenes "
                        "with `lhrs data tile`."
                    )
        number = {name: n for n, name in enumerate(labeled.classes)}
        self._labels = [torch.tensor([number[o.label] for o in item.objects], dtype=torch.int64) for item in self.items]
        self._boxes = [torch.from_numpy(_boxes_of(item, oriented)) for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return `pixels` float32 `(C, H, W)`, and their `boxes` and `labels` int64 `(M,)`.

        Raises:
            DataError: the image cannot be read.
        """
        stack = self.image_input.open(self.items[key[1]].images[0])
        pixels, scale = read_window(self.image_input, stack, None, self.size)
        boxes = self._boxes[key[1]] * torch.tensor([scale] * 4 + [1.0] * self.oriented).double()
        if self.augment:
            d4 = sample_d4(sample_rng(self.seed, key))
            boxes = transform_boxes(boxes, (pixels.shape[2], pixels.shape[1]), d4)
            pixels = d4.apply(pixels).contiguous()
        return {"pixels": pixels, "boxes": boxes.float(), "labels": self._labels[key[1]]}


def read_window(image_input: ImageInput, stack: BandStack, box: PixelWindow | None, size: int) -> tuple[Tensor, float]:
    """Return a normalized window `(C, H, W)`, the mean where there is no data, and its scale relative to the file.

    Args:
        image_input: how images are read.
        stack: the image.
        box: the window; None is the whole image.
        size: a window whose longer side has more pixels is downsampled.
    """
    pixels = image_input.standardize(image_input.read(stack, box))
    longer = max(pixels.shape[-2:])
    if longer <= size:
        return pixels, 1.0
    # The window is padded to a square, so that both sides have exactly one scale, which applies to boxes too. Rounding
    # each side separately would shift objects at the far edge by up to a pixel.
    high, wide = pixels.shape[-2:]
    scale = size / longer
    square = resize(F.pad(pixels, (0, longer - wide, 0, longer - high)), size, size, image_input.interpolation)
    return square[:, : math.ceil(high * scale - 1e-6), : math.ceil(wide * scale - 1e-6)], scale


def ground_truth(item: Item, classes: Sequence[str], oriented: bool) -> GroundTruth:
    """Return the objects of an image for scoring, in pixels of the file.

    For oriented boxes, annotated quadrangles are used unchanged, as in the DOTA development kit, and other polygons are
    replaced by their minimum-area rectangles. Otherwise all polygons are replaced by their enclosing horizontal boxes.
    """
    number = {name: n for n, name in enumerate(classes)}
    boxes = _boxes_of(item, oriented)
    corners = oriented_corners(boxes) if oriented else horizontal_corners(boxes)
    polygons = [o.points if oriented and len(o.points) == 4 else c for o, c in zip(item.objects, corners, strict=True)]
    return GroundTruth(
        np.array(polygons, float).reshape(-1, 4, 2), np.array([number[o.label] for o in item.objects], np.int64),
        np.array([o.difficult for o in item.objects], bool),
    )  # fmt: skip


def _boxes_of(item: Item, oriented: bool) -> np.ndarray:
    if oriented:
        return np.array([min_area_rect(o.points) for o in item.objects], float).reshape(-1, 5)
    return np.array([[*o.points.min(0), *o.points.max(0)] for o in item.objects], float).reshape(-1, 4)


def horizontal_corners(boxes: np.ndarray) -> np.ndarray:
    """Return `(N, 4, 2)` corners of `(N, 4)` xyxy boxes."""
    return np.asarray(boxes, float).reshape(-1, 4)[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


def enclosing_corners(corners: np.ndarray) -> np.ndarray:
    """Return `(N, 4, 2)` corners of the horizontal boxes around `(N, 4, 2)` corners."""
    return horizontal_corners(np.concatenate([corners.min(1), corners.max(1)], 1))


def to_detected(detections: dict[str, Tensor]) -> Detections:
    """Return a detector's `boxes` `(K, 5)` or `(K, 4)`, `scores` and `labels` as `Detections` for scoring."""
    boxes = detections["boxes"].double().cpu().numpy()
    corners = oriented_corners(boxes) if boxes.shape[1] == 5 else horizontal_corners(boxes)
    return Detections(corners, detections["scores"].cpu().numpy(), detections["labels"].cpu().numpy())


def transform_boxes(boxes: Tensor, size_wh: tuple[int, int], d4: D4) -> Tensor:
    """Return `(M, 5)` oriented or `(M, 4)` xyxy boxes, transformed by a symmetry of the square.

    Args:
        boxes: in pixels of the image.
        size_wh: width and height of the image before the transformation.
        d4: the symmetry.
    """
    if boxes.shape[1] == 4:
        x1, y1, x2, y2 = boxes.unbind(1)
        as_oriented = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, torch.zeros_like(x1)], 1)
        return obb_to_hbb(_transform(as_oriented, size_wh, d4))
    return to_le90(_transform(boxes, size_wh, d4))


def _transform(boxes: Tensor, size_wh: tuple[int, int], d4: D4) -> Tensor:
    x, y, w, h, angle = boxes.unbind(1)
    width, height = size_wh
    if d4.transpose:
        x, y, angle = y, x, np.pi / 2 - angle
        width, height = height, width
    if d4.flip_x:
        x, angle = width - x, -angle
    if d4.flip_y:
        y, angle = height - y, -angle
    return torch.stack([x, y, w, h, angle], 1)


def detection_collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return `pixels` float32 `(B, C, H, W)`, padded with the mean right and below, and the `target` of each image."""
    height, width = (max(s["pixels"].shape[axis] for s in samples) for axis in (1, 2))
    pixels = [F.pad(s["pixels"], (0, width - s["pixels"].shape[2], 0, height - s["pixels"].shape[1])) for s in samples]
    return {
        "pixels": torch.stack(pixels), "target": [{"boxes": s["boxes"], "labels": s["labels"]} for s in samples],
    }  # fmt: skip
