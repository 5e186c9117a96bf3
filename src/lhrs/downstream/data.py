"""Labelled images as tensors, by `(epoch, index)`: what a network sees while it learns, and when it is scored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lhrs.data.keyed import Key, sample_rng
from lhrs.downstream import augment
from lhrs.downstream.inputs import ImageInput
from lhrs.downstream.reader import IGNORE, Item, Labelled
from lhrs.errors import DataError
from lhrs.imagery.stack import Box, Stack, image_shape

_KEPT_BYTES = 1 << 29
"""Decoded images that a process keeps; enough for a few dozen tiles. Those above an eighth are read in windows."""
_TRIES = 10


@dataclass(frozen=True)
class SceneChance:
    """How scenes are changed while learning.

    Args:
        crop: least and largest share of the area that is seen.
        symmetries: turn and mirror in all eight ways; mirror left and right only otherwise.
        randaugment: timm's policy; None is none.
        colour: strength of colour changes.
        erase: chance of a rectangle of noise.
    """

    crop: tuple[float, float] = (0.6, 1.0)
    symmetries: bool = True
    randaugment: str | None = None
    colour: float = 0.0
    erase: float = 0.0


class Scenes:
    """Scenes with their class's number.

    Args:
        labelled: items and classes.
        image_input: how images are read.
        size: side in pixels that the network sees.
        seed: of every draw.
        chance: None shows the middle, for scoring.
        center: see `lhrs.downstream.card.Card`.
    """

    def __init__(
        self, labelled: Labelled, image_input: ImageInput, size: int, seed: int = 0, chance: SceneChance | None = None,
        center: float = 1.0,
    ) -> None:  # fmt: skip
        self.items, self.image_input, self.size, self.seed = labelled.items, image_input, size, seed
        self.chance, self.center = chance, center
        self._number = {name: n for n, name in enumerate(labelled.classes)}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Return `pixels` `(C, size, size)`, `target` and `key`."""
        item, chance = self.items[key[1]], self.chance
        pixels = self.image_input.read(self.image_input.open(item.images[0]))
        target = self._number[str(item.label)]
        if chance is None:
            seen = self.image_input.standardize(
                augment.centre(pixels, self.center, self.size, self.image_input.interpolation)
            )
            return {"pixels": seen, "target": target, "key": key}
        rng = sample_rng(self.seed, key)
        pixels = augment.random_resized_crop(pixels, rng, self.size, chance.crop, self.image_input.interpolation)
        pixels = augment.apply_symmetry(pixels, augment.symmetry(rng, chance.symmetries))
        if chance.randaugment is not None:
            pixels = augment.rand_augment(pixels * 255, rng, chance.randaugment) / 255
        if chance.colour:
            pixels = augment.change_colour(pixels, rng, chance.colour)
        pixels = self.image_input.standardize(pixels)
        return {"pixels": augment.erase(pixels, rng, chance.erase), "target": target, "key": key}


@dataclass(frozen=True)
class Mixing:
    """How images of a batch are mixed with each other, by timm's Mixup.

    Args:
        num_classes: of the shares.
        mixup: alpha of arXiv:1710.09412; 0 is none.
        cutmix: alpha of arXiv:1905.04899; 0 is none.
        smoothing: of the labels.
    """

    num_classes: int
    mixup: float = 0.0
    cutmix: float = 0.0
    smoothing: float = 0.0


def join_scenes(samples: list[dict[str, Any]], mixing: Mixing, seed: int) -> dict[str, Tensor]:
    """Return `pixels` `(B, C, H, W)` and `target`, shares `(B, num_classes)`; draws follow the first sample's key."""
    from timm.data.mixup import Mixup, mixup_target

    pixels = torch.stack([sample["pixels"] for sample in samples])
    target = torch.tensor([sample["target"] for sample in samples])
    if not mixing.mixup and not mixing.cutmix:
        return {"pixels": pixels, "target": mixup_target(target, mixing.num_classes, 1.0, mixing.smoothing)}
    mix = Mixup(mixing.mixup, mixing.cutmix, label_smoothing=mixing.smoothing, num_classes=mixing.num_classes)
    with augment.global_draws(sample_rng(seed + 7, samples[0]["key"])):
        pixels, shares = mix(pixels, target)
    return {"pixels": pixels, "target": shares}


@dataclass(frozen=True)
class PixelChance:
    """How images with masks are changed while learning.

    Args:
        zoom: least and largest factor by which images are enlarged.
        symmetries: turn and mirror in all eight ways; mirror left and right only otherwise.
        colour: strength of colour changes, for each date on its own.
        most: a crop in which one class has a larger share of the counted pixels is drawn again, ten times at most.
        swap: before and after may change places.
    """

    zoom: tuple[float, float] = (0.5, 2.0)
    symmetries: bool = True
    colour: float = 1.0
    most: float = 0.75
    swap: bool = False


class Pixels:
    """Crops of images, of one date or of two, with the class of each pixel.

    An image that is larger than a crop is as many items of an epoch as crops cover it.

    Args:
        labelled: items, classes and their reader.
        image_input: how images are read.
        size: side of a crop in pixels.
        seed: of every draw.
        chance: how crops are changed.

    Raises:
        DataError: a mask has not the size of its image.
    """

    def __init__(self, labelled: Labelled, image_input: ImageInput, size: int, seed: int, chance: PixelChance) -> None:
        self.labelled, self.image_input, self.size, self.seed, self.chance = labelled, image_input, size, seed, chance
        self.shapes = [Stack(item.images[0]).shape for item in labelled.items]
        for item, shape in zip(labelled.items, self.shapes, strict=True):
            _check_size(item, image_shape(Path(item.label)), shape)
        counts = [max(1, round(high * wide / size**2)) for high, wide in self.shapes]
        self._item_of = np.repeat(np.arange(len(counts)), counts)
        self._kept: dict[int, tuple[list[Tensor], np.ndarray]] = {}
        self._kept_bytes = 0

    def __len__(self) -> int:
        return len(self._item_of)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        """Return `pixels` `(C, size, size)`, of two dates `(2, C, size, size)`, and `target` uint8 `(size, size)`."""
        number, chance = int(self._item_of[key[1]]), self.chance
        rng = sample_rng(self.seed, key)
        zoom = float(np.exp(rng.uniform(*np.log(chance.zoom))))
        high, wide = self.shapes[number]
        side_high, side_wide = min(high, round(self.size / zoom)), min(wide, round(self.size / zoom))
        for _ in range(_TRIES):
            box = (
                int(rng.integers(wide - side_wide + 1)),
                int(rng.integers(high - side_high + 1)),
                side_wide,
                side_high,
            )
            mask = self._label(number, box)
            counts = np.bincount(mask[mask != IGNORE], minlength=1)
            if (counts.sum() and counts.max() < chance.most * counts.sum()) or chance.most >= 1:
                break
        images = self._images(number, box)
        size = (min(self.size, round(side_high * zoom)), min(self.size, round(side_wide * zoom)))
        target = augment.resize_classes(torch.from_numpy(np.ascontiguousarray(mask)), *size)
        dates = torch.stack([augment.resize(x, *size, self.image_input.interpolation) for x in images])
        if chance.colour:
            dates = torch.stack([augment.change_colour(x, rng, chance.colour) for x in dates])
        if chance.swap and len(dates) == 2 and rng.random() < 0.5:
            dates = dates.flip(0)
        dates = self.image_input.standardize(dates)
        # What is too small is filled up with the mean, which counts nowhere.
        pad = (0, self.size - size[1], 0, self.size - size[0])
        dates = torch.nn.functional.pad(dates, pad)
        target = torch.nn.functional.pad(target, pad, value=IGNORE)
        which = augment.symmetry(rng, chance.symmetries)
        dates, target = augment.apply_symmetry(dates, which), augment.apply_symmetry(target, which)
        return {"pixels": (dates if len(dates) == 2 else dates[0]).contiguous(), "target": target.contiguous()}

    def _images(self, number: int, box: Box) -> list[Tensor]:
        item = self.labelled.items[number]
        if self._keeps(number):
            left, top, width, height = box
            return [x[:, top : top + height, left : left + width] for x in self._kept[number][0]]
        return [self.image_input.read(self.image_input.open(files), box) for files in item.images]

    def _label(self, number: int, box: Box) -> np.ndarray:
        """Return a window's classes; where any date has no data, nothing counts."""
        if self._keeps(number):
            left, top, width, height = box
            return self._kept[number][1][top : top + height, left : left + width]
        return self._read_label(number, box)

    def _read_label(self, number: int, box: Box | None) -> np.ndarray:
        item = self.labelled.items[number]
        found = read_target(self.labelled, item, self.shapes[number], box)
        known = np.all([self.image_input.open(files).known(box) for files in item.images], axis=0)
        return np.where(known, found, IGNORE).astype(np.uint8)

    def _keeps(self, number: int) -> bool:
        """Decode an image once, as long as there is room."""
        if number not in self._kept:
            item, (high, wide) = self.labelled.items[number], self.shapes[number]
            needed = high * wide * (4 * len(self.image_input.normalization.mean) * len(item.images) + 1)
            if needed > _KEPT_BYTES // 8 or self._kept_bytes + needed > _KEPT_BYTES:
                return False
            images = [self.image_input.read(self.image_input.open(files)) for files in item.images]
            self._kept[number] = images, self._read_label(number, None)
            self._kept_bytes += needed
        return True


def read_target(labelled: Labelled, item: Item, shape: tuple[int, int], box: Box | None) -> np.ndarray:
    """Return uint8 `(H, W)` of a window of an item, 255 where nothing counts.

    Raises:
        DataError: it cannot be read, or has not the image's size.
    """
    mask = labelled.mask(item, box)
    wanted = shape if box is None else (box[3], box[2])
    _check_size(item, mask.shape, wanted)
    return mask


def _check_size(item: Item, mask: tuple[int, ...], image: tuple[int, int]) -> None:
    if mask != image:
        raise DataError(f"{item.label} is {mask[1]} x {mask[0]} pixels, its image {image[1]} x {image[0]}.")


def join_pixels(samples: list[dict[str, Any]]) -> dict[str, Tensor]:
    """Return `pixels` and `target` as batches."""
    return {name: torch.stack([sample[name] for sample in samples]) for name in ("pixels", "target")}
