"""Labeled images as tensors, indexed by `(epoch, index)`, with augmentation for training and without for evaluation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lhrs.data import augment
from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.downstream.inputs import ImageInput
from lhrs.downstream.labeled_dataset import IGNORE, Item, LabeledDataset
from lhrs.errors import DataError
from lhrs.imagery.band_stack import BandStack, PixelWindow, image_shape

_KEPT_BYTES = 1 << 29
"""Size of a process's cache of decoded images, a few dozen tiles. Images above an eighth of it are read in windows."""
_TRIES = 10


@dataclass(frozen=True)
class ClassificationAugment:
    """Augmentation of scenes.

    Args:
        crop_scale: smallest and largest fraction of the area that is cropped.
        d4: rotate and flip in all eight ways; otherwise flip horizontally only.
        randaugment: timm's policy; None is none.
        color_jitter: strength of `photometric_distortion`.
        random_erasing: probability of a rectangle of noise.
    """

    crop_scale: tuple[float, float] = (0.6, 1.0)
    d4: bool = True
    randaugment: str | None = None
    color_jitter: float = 0.0
    random_erasing: float = 0.0


class ClassificationDataset:
    """Scenes with the index of their class.

    Args:
        labeled: items and classes.
        image_input: how images are read.
        size: side in pixels of the network's input.
        seed: seed of augmentation.
        augment: None crops the center, for evaluation.
        center_crop: side of that crop as a fraction of the shorter side.
    """

    def __init__(
        self, labeled: LabeledDataset, image_input: ImageInput, size: int, seed: int = 0,
        augment: ClassificationAugment | None = None, center_crop: float = 1.0,
    ) -> None:  # fmt: skip
        self.items, self.image_input, self.size, self.seed = labeled.items, image_input, size, seed
        self.augment, self.center_crop = augment, center_crop
        self._index = {name: n for n, name in enumerate(labeled.classes)}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return `pixels` `(C, size, size)`, `target` and `key`."""
        item, settings = self.items[key[1]], self.augment
        pixels = self.image_input.read(self.image_input.open(item.images[0]))
        target, interpolation = self._index[str(item.label)], self.image_input.interpolation
        if settings is None:
            pixels = augment.center_crop_resize(pixels, self.center_crop, self.size, interpolation)
            return {"pixels": self.image_input.standardize(pixels), "target": target, "key": key}
        rng = sample_rng(self.seed, key)
        crop = augment.sample_crop(rng, pixels.shape[1], pixels.shape[2], settings.crop_scale, all_eight=settings.d4)
        pixels = augment.resize(crop.apply(pixels), self.size, self.size, interpolation)
        if settings.randaugment is not None:
            pixels = augment.rand_augment(pixels * 255, rng, settings.randaugment) / 255
        if settings.color_jitter:
            pixels = augment.photometric_distortion(pixels, rng, settings.color_jitter)
        pixels = augment.random_erasing(self.image_input.standardize(pixels), rng, settings.random_erasing)
        return {"pixels": pixels, "target": target, "key": key}


@dataclass(frozen=True)
class MixupConfig:
    """Mixup and CutMix of a batch, by timm's Mixup.

    Args:
        num_classes: length of targets.
        mixup: alpha of arXiv:1710.09412; 0 disables it.
        cutmix: alpha of arXiv:1905.04899; 0 disables it.
        label_smoothing: label smoothing of the targets.
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0


def classification_collate(samples: list[dict[str, Any]], mixing: MixupConfig, seed: int) -> dict[str, Tensor]:
    """Return `pixels` `(B, C, H, W)` and `target`, class fractions `(B, num_classes)`.

    The first sample's key seeds the mixing.
    """
    from timm.data.mixup import Mixup, mixup_target

    pixels = torch.stack([sample["pixels"] for sample in samples])
    target = torch.tensor([sample["target"] for sample in samples])
    if not mixing.mixup and not mixing.cutmix:
        return {"pixels": pixels, "target": mixup_target(target, mixing.num_classes, 1.0, mixing.label_smoothing)}
    mix = Mixup(mixing.mixup, mixing.cutmix, label_smoothing=mixing.label_smoothing, num_classes=mixing.num_classes)
    with augment.seeded_global_rng(sample_rng(seed + 7, samples[0]["key"])):
        pixels, target = mix(pixels, target)
    return {"pixels": pixels, "target": target}


@dataclass(frozen=True)
class SegmentationAugment:
    """Augmentation of images with masks.

    Args:
        scale_range: smallest and largest factor by which images are resized.
        d4: rotate and flip in all eight ways; otherwise flip horizontally only.
        color_jitter: strength of `photometric_distortion`, for each date on its own.
        cat_max_ratio: a crop in which one class covers a larger fraction of the labeled pixels is sampled again, ten
            times at most.
        swap_dates: exchange before and after at random.
    """

    scale_range: tuple[float, float] = (0.5, 2.0)
    d4: bool = True
    color_jitter: float = 1.0
    cat_max_ratio: float = 0.75
    swap_dates: bool = False


class SegmentationDataset:
    """Crops of images, of one date or of two, with the class of each pixel.

    An image that is larger than a crop is sampled several times an epoch: its area divided by that of a crop.

    Args:
        labeled: items, classes and their reader.
        image_input: how images are read.
        size: side of a crop in pixels.
        seed: seed of augmentation.
        augment: augmentation of crops.

    Raises:
        DataError: the sizes of a mask and its image differ.
    """

    def __init__(
        self, labeled: LabeledDataset, image_input: ImageInput, size: int, seed: int, augment: SegmentationAugment
    ) -> None:
        self.labeled, self.image_input, self.size, self.seed, self.augment = labeled, image_input, size, seed, augment
        self.shapes = [BandStack(item.images[0]).shape for item in labeled.items]
        for item, shape in zip(labeled.items, self.shapes, strict=True):
            _check_size(item, image_shape(Path(item.label)), shape)
        counts = [max(1, round(high * wide / size**2)) for high, wide in self.shapes]
        self._item_of = np.repeat(np.arange(len(counts)), counts)
        self._kept: dict[int, tuple[list[Tensor], np.ndarray]] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self._item_of)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return `pixels` `(C, size, size)`, with two dates `(2, C, size, size)`; `target` uint8 `(size, size)`."""
        number, settings = int(self._item_of[key[1]]), self.augment
        rng = sample_rng(self.seed, key)
        scale = float(np.exp(rng.uniform(*np.log(settings.scale_range))))
        height, width = self.shapes[number]
        crop_height, crop_width = min(height, round(self.size / scale)), min(width, round(self.size / scale))
        for _ in range(_TRIES):
            box = (
                int(rng.integers(width - crop_width + 1)),
                int(rng.integers(height - crop_height + 1)),
                crop_width,
                crop_height,
            )
            mask = self._label(number, box)
            counts = np.bincount(mask[mask != IGNORE], minlength=1)
            if (counts.sum() and counts.max() < settings.cat_max_ratio * counts.sum()) or settings.cat_max_ratio >= 1:
                break
        images = self._images(number, box)
        size = (min(self.size, round(crop_height * scale)), min(self.size, round(crop_width * scale)))
        target = augment.resize_mask(torch.from_numpy(np.ascontiguousarray(mask)), *size)
        dates = torch.stack([augment.resize(x, *size, self.image_input.interpolation) for x in images])
        if settings.color_jitter:
            dates = torch.stack([augment.photometric_distortion(x, rng, settings.color_jitter) for x in dates])
        if settings.swap_dates and len(dates) == 2 and rng.random() < 0.5:
            dates = dates.flip(0)
        dates = self.image_input.standardize(dates)
        # Smaller crops are padded with the mean; these pixels are ignored in the loss.
        pad = (0, self.size - size[1], 0, self.size - size[0])
        dates = torch.nn.functional.pad(dates, pad)
        target = torch.nn.functional.pad(target, pad, value=IGNORE)
        d4 = augment.sample_d4(rng, settings.d4)
        dates, target = d4.apply(dates), d4.apply(target)
        return {"pixels": (dates if len(dates) == 2 else dates[0]).contiguous(), "target": target.contiguous()}

    def _images(self, number: int, box: PixelWindow) -> list[Tensor]:
        item = self.labeled.items[number]
        if self._keeps(number):
            left, top, width, height = box
            return [x[:, top : top + height, left : left + width] for x in self._kept[number][0]]
        return [self.image_input.read(self.image_input.open(files), box) for files in item.images]

    def _label(self, number: int, box: PixelWindow) -> np.ndarray:
        """Return a window's classes, 255 where any date has no data."""
        if self._keeps(number):
            left, top, width, height = box
            return self._kept[number][1][top : top + height, left : left + width]
        return self._read_label(number, box)

    def _read_label(self, number: int, box: PixelWindow | None) -> np.ndarray:
        item = self.labeled.items[number]
        mask = read_mask(self.labeled, item, self.shapes[number], box)
        valid = np.all([self.image_input.open(files).valid_mask(box) for files in item.images], axis=0)
        return np.where(valid, mask, IGNORE).astype(np.uint8)

    def _keeps(self, number: int) -> bool:
        """Return whether an image is in the cache; decode it if the cache has room."""
        if number not in self._kept:
            item, (high, wide) = self.labeled.items[number], self.shapes[number]
            needed = high * wide * (4 * len(self.image_input.normalization.mean) * len(item.images) + 1)
            if needed > _KEPT_BYTES // 8 or self._kept_bytes + needed > _KEPT_BYTES:
                return False
            images = [self.image_input.read(self.image_input.open(files)) for files in item.images]
            self._kept[number] = images, self._read_label(number, None)
            self._kept_bytes += needed
        return True


def read_mask(labeled: LabeledDataset, item: Item, shape: tuple[int, int], box: PixelWindow | None) -> np.ndarray:
    """Return the mask of a window of an item, uint8 `(H, W)`, 255 for ignored pixels.

    Raises:
        DataError: the mask cannot be read, or its size differs from the image's.
    """
    mask = labeled.mask(item, box)
    expected = shape if box is None else (box[3], box[2])
    _check_size(item, mask.shape, expected)
    return mask


def _check_size(item: Item, mask: tuple[int, ...], image: tuple[int, int]) -> None:
    if mask != image:
        raise DataError(f"{item.label} is {mask[1]} x {mask[0]} pixels, its image {image[1]} x {image[0]}.")


def segmentation_collate(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Return `pixels` and `target` as batches."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in ("pixels", "target")}
