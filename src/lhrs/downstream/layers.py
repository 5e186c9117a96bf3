"""Layers and losses of the heads of several tasks."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.downstream.backbone import STRIDES
from lhrs.downstream.labeled_dataset import IGNORE


def conv_norm(channels: int, out: int, size: int = 3) -> nn.Sequential:
    """Return convolution, batch norm and ReLU that keep height and width."""
    return nn.Sequential(
        nn.Conv2d(channels, out, size, padding=size // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


def upsample(features: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Return feature maps resized bilinearly to another height and width."""
    return F.interpolate(features, tuple(size), mode="bilinear", align_corners=False)


def pad_to_stride(pixels: Tensor) -> Tensor:
    """Return images padded to multiples of the coarsest stride, so that patches align with pixels."""
    unit = STRIDES[-1]
    return F.pad(pixels, (0, -pixels.shape[-1] % unit, 0, -pixels.shape[-2] % unit))


def upsample_and_crop(features: Tensor, pixels: Tensor) -> Tensor:
    """Return feature maps of `pad_to_stride(pixels)` as float32 at the height and width of `pixels`."""
    height, width = pixels.shape[-2:]
    unit = STRIDES[-1]
    return upsample(features.float(), (height + -height % unit, width + -width % unit))[..., :height, :width]


def masked_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean cross-entropy of `(B, K, H, W)` where the target `(B, H, W)` is not IGNORE."""
    total = F.cross_entropy(logits, target.long(), weight, ignore_index=IGNORE, reduction="sum")
    counted = target[target != IGNORE].long()
    count = weight[counted].sum() if weight is not None else logits.new_tensor(float(counted.numel()))
    return total / count.clamp(min=1e-6)  # a crop without any pixel that counts gives 0, not NaN
