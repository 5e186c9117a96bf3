"""Chance for images of any band count; every draw comes from the generator that is handed in.

Geometry is drawn once and done to all that belongs together: both dates, the mask.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as T
from torch import Tensor

from lhrs.errors import ConfigError

_TRIES = 10


@contextmanager
def global_draws(rng: np.random.Generator) -> Iterator[None]:
    """Let libraries that draw from global state (timm's) draw from `rng` here, and leave that state as it was."""
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(int(rng.integers(2**62)))
    np.random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


def resize(pixels: Tensor, height: int, width: int, interpolation: str = "bicubic") -> Tensor:
    """Return float32 `(C, height, width)`, antialiased, of any `(C, H, W)`; within the range it had."""
    pixels = pixels.float()
    if pixels.shape[-2:] == (height, width):
        return pixels
    low, high = pixels.amin(), pixels.amax()
    return F.interpolate(pixels[None], (height, width), mode=interpolation, antialias=True)[0].clamp(low, high)


def resize_classes(mask: Tensor, height: int, width: int) -> Tensor:
    """Return uint8 `(height, width)`, nearest, of `(H, W)`."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0, 0].to(mask.dtype)


def centre(pixels: Tensor, share: float, size: int, interpolation: str = "bicubic") -> Tensor:
    """Return the middle as `(C, size, size)`: a square of a share of the shorter side; share 1 takes all, squashed."""
    if share < 1:
        high, wide = pixels.shape[-2:]
        side = max(1, round(min(high, wide) * share))
        top, left = (high - side) // 2, (wide - side) // 2
        pixels = pixels[:, top : top + side, left : left + side]
    return resize(pixels, size, size, interpolation)


def random_resized_crop(
    pixels: Tensor, rng: np.random.Generator, size: int, scale: tuple[float, float], interpolation: str = "bicubic"
) -> Tensor:
    """Return a part of the image, `scale` of its area at an aspect of 3/4 to 4/3, as `(C, size, size)`."""
    high, wide = pixels.shape[-2:]
    for _ in range(_TRIES):
        area = high * wide * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(-math.log(4 / 3), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= wide and 0 < h <= high:
            top, left = int(rng.integers(high - h + 1)), int(rng.integers(wide - w + 1))
            return resize(pixels[:, top : top + h, left : left + w], size, size, interpolation)
    return resize(pixels, size, size, interpolation)


def symmetry(rng: np.random.Generator, all_eight: bool) -> int:
    """Draw one of the square's eight symmetries, or of two: as it is and mirrored left to right (4)."""
    return int(rng.integers(8)) if all_eight else 4 * int(rng.integers(2))


def apply_symmetry(pixels: Tensor, which: int) -> Tensor:
    """Turn by `which` % 4 quarters after mirroring if `which` is 4 or more."""
    if which >= 4:
        pixels = pixels.flip(-1)
    return torch.rot90(pixels, which % 4, (-2, -1)) if which % 4 else pixels


def rand_augment(pixels: Tensor, rng: np.random.Generator, policy: str) -> Tensor:
    """Return uint8-like float `(3, H, W)` of 0-255 after timm's RandAugment, such as `rand-m9-mstd0.5-inc1`.

    Raises:
        ConfigError: there is no such policy, or the image is not of three bands.
    """
    from PIL import Image
    from timm.data.auto_augment import rand_augment_transform

    if pixels.shape[0] != 3:
        raise ConfigError(f"augment.randaugment is for three bands of eight bits, the images have {pixels.shape[0]}.")
    with global_draws(rng):
        try:
            change = rand_augment_transform(policy, {"translate_const": 100, "img_mean": (124, 116, 104)})
        except (AssertionError, ValueError, KeyError) as error:
            raise ConfigError(f"augment.randaugment: timm has no policy {policy!r} ({error!r}).") from None
        changed = change(Image.fromarray(pixels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()))
    return torch.from_numpy(np.array(changed)).permute(2, 0, 1).float()


def change_colour(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Return float `(..., C, H, W)` in [0, 1] of other brightness and contrast, of three bands also saturation and hue.

    Strength 1 is mmsegmentation's photometric distortion: brightness by 32/255, contrast and saturation by a half, hue
    by 18 degrees, each at a chance of one half.
    """
    draw, does = rng.uniform(-1, 1, 4) * strength, rng.random(4) < 0.5
    if does[0]:
        pixels = pixels + draw[0] * 32 / 255
    if does[1]:
        pixels = (pixels - 0.5) * (1 + 0.5 * draw[1]) + 0.5 if pixels.shape[-3] != 3 else pixels * (1 + 0.5 * draw[1])
    if pixels.shape[-3] == 3:
        pixels = pixels.clamp(0, 1)
        if does[2]:
            pixels = T.adjust_saturation(pixels, 1 + 0.5 * float(draw[2]))
        if does[3]:
            pixels = T.adjust_hue(pixels, 0.05 * float(draw[3]))
    return pixels


def erase(pixels: Tensor, rng: np.random.Generator, chance: float) -> Tensor:
    """Return normalised `(C, H, W)` in which, by chance, a rectangle is noise (arXiv:1708.04896)."""
    if rng.random() >= chance:
        return pixels
    high, wide = pixels.shape[-2:]
    for _ in range(_TRIES):
        area = high * wide * rng.uniform(0.02, 1 / 3)
        aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < high and w < wide:
            top, left = int(rng.integers(high - h + 1)), int(rng.integers(wide - w + 1))
            noise = rng.standard_normal((len(pixels), h, w), np.float32)
            pixels = pixels.clone()
            pixels[:, top : top + h, left : left + w] = torch.from_numpy(noise)
            return pixels
    return pixels
