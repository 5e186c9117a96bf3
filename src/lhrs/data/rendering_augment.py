"""Augmentation by the renderings that files really have: stretches, brightness, haze, gray, compression, scale.

A model that saw one rendering of its training data fails on others: a stretch per band takes a EuroSAT classifier from
0.97 to 0.19. All parameters come from the generator argument.
"""

import io
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

_MIN_RANGE = 8.0
"""Smallest range of values, of 255, that a stretch expands: a flat image stays nearly flat."""


@dataclass(frozen=True)
class RenderingAugment:
    """Probabilities of each change; the defaults are those of lhrs-nano."""

    unchanged: float = 0.2
    """Images without any change."""
    scale: float = 0.3
    """Loss of detail: the image is reduced to 0.22 to 0.9 of its side and enlarged again."""
    compression: float = 0.4
    """JPEG or WebP of quality 25 to 95, low ones more often."""
    stretch_per_band: float = 0.25
    stretch_joint: float = 0.2
    """Stretches between percentiles, 0.3 to 3 on each side."""
    brightness: float = 0.6
    """Factor 0.5 to 1.6."""
    gamma: float = 0.35
    """Exponent 0.6 to 1.6."""
    haze: float = 0.1
    """A bright veil that takes up to 0.4 of the contrast."""
    gray: float = 0.1
    color_cast: float = 0.5
    """Factors per band of 0.9 to 1.1."""
    false_color: float = 0.03
    """Bands in another order."""
    blur: float = 0.15
    border: float = 0.12
    """Black or white margin at up to two sides, as at the edge of a scene."""

    def file_changes(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return uint8 `(h, w, 3)` after the changes that happen in a file, before it is resized for a model."""
        if rng.random() < self.scale:
            height, width = pixels.shape[:2]
            factor = float(np.exp(rng.uniform(np.log(0.22), np.log(0.9))))
            small = max(8, round(width * factor)), max(8, round(height * factor))
            how = Image.Resampling.BILINEAR if rng.random() < 0.5 else Image.Resampling.BICUBIC
            pixels = np.asarray(Image.fromarray(pixels).resize(small, how))
        if rng.random() < self.compression:
            buffer = io.BytesIO()
            form = "JPEG" if rng.random() < 0.6 else "WEBP"
            Image.fromarray(pixels).save(buffer, form, quality=int(np.exp(rng.uniform(np.log(25), np.log(95)))))
            pixels = np.asarray(Image.open(buffer).convert("RGB"))
        return pixels

    def rendering_changes(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Return float32 `(3, H, W)` in [0, 1] after changes of the rendering; the input is 0 to 255."""
        kind = rng.random()
        if kind < self.stretch_per_band + self.stretch_joint:
            dims = (1, 2) if kind < self.stretch_per_band else (0, 1, 2)
            pixels = _stretch(pixels, rng.uniform(0.003, 0.03, 2), dims)
        pixels = (pixels / 255).clamp(0, 1)
        if rng.random() < self.brightness:
            factor = float(np.exp(rng.uniform(np.log(0.5), np.log(1.6))))
            pixels = (pixels * factor + float(rng.uniform(-0.06, 0.06))).clamp(0, 1)
        if rng.random() < self.gamma:
            pixels = pixels ** float(np.exp(rng.uniform(np.log(0.6), np.log(1.6))))
        if rng.random() < self.haze:
            veil = float(rng.uniform(0.1, 0.4))
            pixels = pixels * (1 - veil) + veil * float(rng.uniform(0.6, 1))
        if rng.random() < self.gray:
            weights = torch.tensor([0.299, 0.587, 0.114] if rng.random() < 0.5 else [1 / 3] * 3)
            pixels = (pixels * weights[:, None, None]).sum(0, keepdim=True).expand(3, -1, -1)
        elif rng.random() < self.false_color:
            pixels = pixels[rng.permutation(3).tolist()]
        elif rng.random() < self.color_cast:
            pixels = pixels * torch.from_numpy(rng.uniform(0.9, 1.1, (3, 1, 1)).astype(np.float32))
        if rng.random() < self.blur:
            pixels = F.avg_pool2d(pixels[None], 3, 1, 1, count_include_pad=False)[0]
        return pixels.clamp(0, 1)

    def add_border(self, pixels: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return float32 `(3, H, W)` in [0, 1], perhaps with a margin, and where the margin is, bool `(H, W)`."""
        hidden = torch.zeros(pixels.shape[1:], dtype=torch.bool)
        if rng.random() < self.border:
            value = 0.0 if rng.random() < 0.75 else 1.0
            for turn in rng.permutation(4)[: int(rng.integers(1, 3))].tolist():
                width = int(rng.uniform(0.03, 0.25) * pixels.shape[-1])
                along = hidden if turn % 2 == 0 else hidden.T
                along[slice(width) if turn < 2 else slice(len(along) - width, None)] = True
            pixels = pixels.masked_fill(hidden, value)
        return pixels, hidden


def _stretch(pixels: Tensor, tails: np.ndarray, dims: tuple[int, ...]) -> Tensor:
    """Map the values between two quantiles to 0-255, per band or over all bands."""
    flat = pixels.flatten(1) if dims == (1, 2) else pixels.reshape(1, -1)
    ordered = flat[:, :: max(1, flat.shape[1] // 4096)].sort(1).values
    count = ordered.shape[1] - 1
    low, high = ordered[:, round(tails[0] * count)], ordered[:, round((1 - tails[1]) * count)]
    low, high = low[:, None, None], high[:, None, None]
    return (pixels - low) / (high - low).clamp(min=_MIN_RANGE) * 255
