"""Augmentation of images of any band count: geometry, color, noise. Parameters are sampled first, then applied.

All randomness comes from the generator argument. A sample depends only on its seed and index, not on its batch, process
or worker. Geometry is sampled once and applied to both dates and the mask.
"""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as T
from torch import Tensor

from lhrs.errors import ConfigError

_TRIES = 10
COLOR_JITTER_FIELDS = ("brightness", "contrast", "saturation", "hue", "gray", "sigma", "noise", "solarize", "seed")
"""Columns of the result of `sample_color_jitter`."""
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32)
"""Its first row is luma."""
_BLUR_RADIUS = 3
_NOISE_ROWS = 1 << 20


@contextmanager
def seeded_global_rng(rng: np.random.Generator) -> Iterator[None]:
    """Seed the global random state, which timm uses, from `rng`, and restore it afterwards."""
    before, before_numpy = random.getstate(), np.random.get_state()
    random.seed(int(rng.integers(2**62)))
    np.random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(before_numpy)


class D4(NamedTuple):
    """One of the eight symmetries of the square: transposed first, flipped after that."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, pixels: Tensor) -> Tensor:
        """Return transformed `(..., H, W)`."""
        if self.transpose:
            pixels = pixels.transpose(-2, -1)
        axes = [axis for axis, flipped in ((-2, self.flip_y), (-1, self.flip_x)) if flipped]
        return pixels.flip(axes) if axes else pixels


_IDENTITY = D4()


def sample_d4(rng: np.random.Generator, all_eight: bool = True) -> D4:
    """Sample a D4 symmetry if `all_eight` (overhead images have no top), else identity or a horizontal flip."""
    transpose, flip_x, flip_y = (bool(v) for v in rng.integers(2, size=3))
    return D4(transpose and all_eight, flip_x, flip_y and all_eight)


@dataclass(frozen=True)
class Crop:
    """A crop of an image and its symmetry."""

    top: int
    left: int
    height: int
    width: int
    """Rows and columns of the image."""
    d4: D4 = _IDENTITY

    def centers(self, grid: int) -> np.ndarray:
        """Return `(grid, grid, 2)` float32: x and y in pixels of the image of each patch's center."""
        at = (np.arange(grid, dtype=np.float32) + 0.5) / grid
        y, x = np.meshgrid(at[::-1] if self.d4.flip_y else at, at[::-1] if self.d4.flip_x else at, indexing="ij")
        if self.d4.transpose:
            x, y = y, x
        return np.stack([self.left + x * self.width, self.top + y * self.height], -1)

    def apply(self, image: Tensor) -> Tensor:
        """Return the crop of `(..., H, W)`, transformed but not scaled."""
        return self.d4.apply(image[..., self.top : self.top + self.height, self.left : self.left + self.width])


def sample_crop(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    all_eight: bool = True,
) -> Crop:
    """Sample a crop by its fraction of the area and its aspect ratio, as torchvision's RandomResizedCrop.

    Args:
        rng: the source of randomness.
        height: rows of the image.
        width: columns of the image.
        scale: smallest and largest fraction of the area.
        ratio: smallest and largest width / height, sampled on a log scale.
        all_eight: see `sample_d4`.
    """
    box = (0, 0, height, width)
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = float(np.exp(rng.uniform(*np.log(ratio))))
        w, h = max(round((area * aspect) ** 0.5), 1), max(round((area / aspect) ** 0.5), 1)
        if w <= width and h <= height:
            box = (int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w)
            break
    return Crop(*box, d4=sample_d4(rng, all_eight))


def resize(pixels: Tensor, height: int, width: int, interpolation: str = "bicubic") -> Tensor:
    """Resize `(C, H, W)` to float32 `(C, height, width)`, antialiased and clipped to the input's range."""
    pixels = pixels.float()
    if pixels.shape[-2:] == (height, width):
        return pixels
    low, high = pixels.amin(), pixels.amax()
    return F.interpolate(pixels[None], (height, width), mode=interpolation, antialias=True)[0].clamp(low, high)


def resize_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """Return uint8 `(height, width)`, nearest, of `(H, W)`."""
    return F.interpolate(mask[None, None].float(), (height, width), mode="nearest-exact")[0, 0].to(mask.dtype)


def center_crop_resize(pixels: Tensor, fraction: float, size: int, interpolation: str = "bicubic") -> Tensor:
    """Return the center square `(C, size, size)`, a fraction of the shorter side; 1 resizes the whole image."""
    if fraction < 1:
        high, wide = pixels.shape[-2:]
        side = max(1, round(min(high, wide) * fraction))
        top, left = (high - side) // 2, (wide - side) // 2
        pixels = pixels[:, top : top + side, left : left + side]
    return resize(pixels, size, size, interpolation)


def sample_color_jitter(rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Sample the color jitter of one image, float64 in the order of `COLOR_JITTER_FIELDS`.

    Args:
        rng: the source of randomness.
        strength: scales brightness, contrast, saturation and hue, and the probabilities of gray and solarization; 1 is
            CMID's published augmentation (.4, .4, .2, .1; .2, .2). Blur (sigma up to 2) and noise (.6) do not scale:
            without them, features encode how an image was compressed.
    """
    jitter = rng.random() < 0.8
    change = rng.uniform(-1, 1, 4) * np.array([0.4, 0.4, 0.2, 0.1]) * strength * jitter
    return np.array(
        [
            *(1 + change[:3]),
            change[3],
            float(rng.random() < 0.2 * strength),
            rng.uniform(0.1, 2.0),
            (rng.uniform(10, 50) ** 0.5 / 255) * (rng.random() < 0.6),
            float(rng.random() < 0.2 * strength),
            float(rng.integers(2**31)),
        ]
    )


def identity_jitter() -> np.ndarray:
    """Return the identity jitter."""
    return np.array([1, 1, 1, 0, 0, 0, 0, 0, 0], np.float64)


def apply_color_jitter(pixels: Tensor, jitter: Tensor) -> Tensor:
    """Return jittered images in [0, 1], on any device.

    Args:
        pixels: float32 `(B, C, H, W)` in [0, 1]. Saturation, hue and gray apply to three bands only.
        jitter: float64 `(B, len(COLOR_JITTER_FIELDS))`.
    """
    values = {name: jitter[:, n].to(pixels.dtype) for n, name in enumerate(COLOR_JITTER_FIELDS[:-1])}
    if pixels.shape[1] == 3:
        pixels = torch.einsum("bij,bjhw->bihw", _color_matrix(values), pixels)
    else:
        pixels = pixels * values["brightness"].view(-1, 1, 1, 1)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = torch.lerp(mean, pixels, values["contrast"].view(-1, 1, 1, 1)).clamp_(0, 1)
    pixels = _blur(pixels, values["sigma"])
    pixels = pixels.addcmul_(_noise(pixels, jitter[:, -1]), values["noise"].view(-1, 1, 1, 1)).clamp_(0, 1)
    # Solarize: 1 - x above one half, which is the distance from 1/2 subtracted from it.
    return torch.where(values["solarize"].view(-1, 1, 1, 1) > 0, 0.5 - (pixels - 0.5).abs(), pixels)


def _color_matrix(jitter: dict[str, Tensor]) -> Tensor:
    """Return `(B, 3, 3)`: brightness, saturation, hue (a rotation in YIQ) and gray are one linear map."""
    like = jitter["hue"]
    yiq, back, identity = _color_spaces(like.device)
    luma = yiq[:1].expand(3, 3)
    angle = like * (2 * torch.pi)
    turn = torch.zeros(len(like), 3, 3, dtype=like.dtype, device=like.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    keep = torch.where(jitter["gray"] > 0, torch.zeros_like(like), jitter["saturation"]).view(-1, 1, 1)
    saturate = luma + keep * (identity - luma)
    return jitter["brightness"].view(-1, 1, 1) * (saturate @ (back @ turn @ yiq))


@lru_cache(maxsize=4)
def _color_spaces(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return RGB to YIQ, YIQ to RGB, and the identity. They are cached per device, as copying synchronizes."""
    return cast(
        Any, tuple(torch.from_numpy(x).to(device) for x in (_YIQ, np.linalg.inv(_YIQ), np.eye(3, dtype=np.float32)))
    )


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own Gaussian, truncated at three pixels; sigma 0 is the identity."""
    at = torch.arange(_BLUR_RADIUS + 1, dtype=pixels.dtype, device=pixels.device)
    weight = torch.exp(-(at**2) / (2 * sigma.clamp(min=1e-3)[:, None] ** 2))
    weight = weight / (2 * weight.sum(1, keepdim=True) - weight[:, :1])
    for dim in (2, 3):
        radius = min(_BLUR_RADIUS, pixels.shape[dim] - 1)
        pad = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        wide, size = F.pad(pixels, pad, mode="reflect"), pixels.shape[dim]
        out = pixels * weight[:, 0].view(-1, 1, 1, 1)
        for k in range(1, radius + 1):
            both = wide.narrow(dim, radius - k, size) + wide.narrow(dim, radius + k, size)
            out = out.addcmul_(both, weight[:, k].view(-1, 1, 1, 1))
        pixels = out
    return pixels


def _noise(pixels: Tensor, seed: Tensor) -> Tensor:
    """Return normal noise that depends only on each image's seed, its start offset in a fixed table."""
    count = pixels[0].numel()
    rows = _noise_table(count, pixels.device).unfold(0, count, 1)
    return rows[seed.long() % _NOISE_ROWS].view_as(pixels)


@lru_cache(maxsize=4)
def _noise_table(count: int, device: torch.device) -> Tensor:
    table = np.random.default_rng(0).standard_normal(_NOISE_ROWS + count, np.float32)
    return torch.from_numpy(table).to(device)


def photometric_distortion(pixels: Tensor, rng: np.random.Generator, strength: float) -> Tensor:
    """Return float `(..., C, H, W)` in [0, 1] with other brightness and contrast; for RGB, also saturation and hue.

    Strength 1 is mmsegmentation's photometric distortion: brightness by 32/255, contrast and saturation by a half, hue
    by 18 degrees, each with probability one half.
    """
    change, applies = rng.uniform(-1, 1, 4) * strength, rng.random(4) < 0.5
    if applies[0]:
        pixels = pixels + change[0] * 32 / 255
    if applies[1]:
        pixels = (
            (pixels - 0.5) * (1 + 0.5 * change[1]) + 0.5 if pixels.shape[-3] != 3 else pixels * (1 + 0.5 * change[1])
        )
    if pixels.shape[-3] == 3:
        pixels = pixels.clamp(0, 1)
        if applies[2]:
            pixels = T.adjust_saturation(pixels, 1 + 0.5 * float(change[2]))
        if applies[3]:
            pixels = T.adjust_hue(pixels, 0.05 * float(change[3]))
    return pixels


def rand_augment(pixels: Tensor, rng: np.random.Generator, policy: str) -> Tensor:
    """Return uint8-like float `(3, H, W)` of 0-255 after timm's RandAugment, such as `rand-m9-mstd0.5-inc1`.

    Raises:
        ConfigError: there is no such policy, or the image is not of three bands.
    """
    from PIL import Image
    from timm.data.auto_augment import rand_augment_transform

    if pixels.shape[0] != 3:
        raise ConfigError(f"augment.randaugment is for three bands of eight bits, the images have {pixels.shape[0]}.")
    with seeded_global_rng(rng):
        try:
            change = rand_augment_transform(policy, {"translate_const": 100, "img_mean": (124, 116, 104)})
        except (AssertionError, ValueError, KeyError) as error:
            raise ConfigError(f"augment.randaugment: timm has no policy {policy!r} ({error!r}).") from None
        changed = change(Image.fromarray(pixels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()))
    return torch.from_numpy(np.array(changed)).permute(2, 0, 1).float()


def random_erasing(pixels: Tensor, rng: np.random.Generator, probability: float) -> Tensor:
    """Return standardized `(C, H, W)` in which, with a probability, a rectangle is noise (arXiv:1708.04896)."""
    if rng.random() >= probability:
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
