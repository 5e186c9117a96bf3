"""Colour, blur and noise for whole batches, each image with its own draw.

Chance comes from a few numbers per image (`draw_colour`), made where the image is read; applying them is arithmetic
on tensors, on any device, and needs no chance of its own: noise is read from a fixed table
at a place of the image's own. So a view does
not depend on its batch, nor on processes or workers. Strengths are those of the published second view.
"""

from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

COLOUR_FIELDS = ("brightness", "contrast", "saturation", "hue", "grey", "sigma", "noise", "solarize", "seed")
"""Columns of what `draw_colour` returns."""
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]], np.float32)
"""Its first row is luma."""
_BLUR_RADIUS = 3
_NOISE_ROWS = 1 << 20


def draw_colour(rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Draw how one image is changed, float64 in the order of `COLOUR_FIELDS`.

    Args:
        rng: where chance comes from.
        strength: scales brightness, contrast, saturation and hue, and how often grey and solarizing come; 1 is as
            published (.4, .4, .2, .1; .2, .2). Blur (sigma to 2) and noise (.6) stay: without them features learn
            to tell how an image was compressed, and fail on images that were compressed otherwise.
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


def no_colour() -> np.ndarray:
    """Return the draw that changes nothing."""
    return np.array([1, 1, 1, 0, 0, 0, 0, 0, 0], np.float64)


def change_colour(pixels: Tensor, draws: Tensor) -> Tensor:
    """Return changed images in [0, 1].

    Args:
        pixels: float32 `(B, C, H, W)` in [0, 1]. Saturation, hue and grey are for three bands; others have none.
        draws: float64 `(B, len(COLOUR_FIELDS))`.
    """
    draw = {name: draws[:, n].to(pixels.dtype) for n, name in enumerate(COLOUR_FIELDS[:-1])}
    if pixels.shape[1] == 3:
        pixels = torch.einsum("bij,bjhw->bihw", _colour_matrix(draw), pixels)
    else:
        pixels = pixels * draw["brightness"].view(-1, 1, 1, 1)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = torch.lerp(mean, pixels, draw["contrast"].view(-1, 1, 1, 1)).clamp_(0, 1)
    pixels = _blur(pixels, draw["sigma"])
    pixels = pixels.addcmul_(_noise(pixels, draws[:, -1]), draw["noise"].view(-1, 1, 1, 1)).clamp_(0, 1)
    # Solarize: 1 - x above one half, which is the distance from 1/2 subtracted from it.
    return torch.where(draw["solarize"].view(-1, 1, 1, 1) > 0, 0.5 - (pixels - 0.5).abs(), pixels)


def _colour_matrix(draw: dict[str, Tensor]) -> Tensor:
    """Return `(B, 3, 3)`: brightness, saturation, hue (a turn in YIQ) and grey are linear, so one product does all."""
    like = draw["hue"]
    yiq, back, one = _colour_spaces(like.device)
    luma = yiq[:1].expand(3, 3)
    angle = like * (2 * torch.pi)
    turn = torch.zeros(len(like), 3, 3, dtype=like.dtype, device=like.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    keep = torch.where(draw["grey"] > 0, torch.zeros_like(like), draw["saturation"]).view(-1, 1, 1)
    saturate = luma + keep * (one - luma)
    return draw["brightness"].view(-1, 1, 1) * (saturate @ (back @ turn @ yiq))


@lru_cache(maxsize=4)
def _colour_spaces(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return RGB to YIQ, YIQ to RGB, and the identity; copied to a device once, as copying waits for it."""
    return cast(
        Any, tuple(torch.from_numpy(x).to(device) for x in (_YIQ, np.linalg.inv(_YIQ), np.eye(3, dtype=np.float32)))
    )


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image with its own Gaussian, cut at three pixels; sigma 0 leaves it."""
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
    """Return normal noise that depends on each image's seed alone: it begins there in a fixed table."""
    count = pixels[0].numel()
    rows = _noise_table(count, pixels.device).unfold(0, count, 1)
    return rows[seed.long() % _NOISE_ROWS].view_as(pixels)


@lru_cache(maxsize=4)
def _noise_table(count: int, device: torch.device) -> Tensor:
    table = np.random.default_rng(0).standard_normal(_NOISE_ROWS + count, np.float32)
    return torch.from_numpy(table).to(device)


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn `pixels` into `(pixels - mean) / std` for bands in dimension 1, in place."""
    return pixels.sub_(mean.view(1, -1, 1, 1)).div_(std.view(1, -1, 1, 1))
