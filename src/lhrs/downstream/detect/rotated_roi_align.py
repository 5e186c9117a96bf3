"""Rotated RoI align (Ding et al., 2019, arXiv:1812.00155) from one feature map or a pyramid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

_TOGETHER = 512
"""Number of regions that are sampled at once, to bound memory at inference."""
_FINEST = 56.0
"""Largest sqrt(w h) in pixels of a region that uses the finest map; it doubles per level (FPN, equation 1)."""


def rotated_roi_align(
    features: Tensor, boxes: Sequence[Tensor], stride: float, size: int = 7, samples: int = 2
) -> Tensor:
    """Return `(K, C, size, size)` features of the regions of all images, in their order.

    Equal to `torchvision.ops.roi_align(aligned=True, sampling_ratio=samples)` for axis-aligned boxes. The value of a
    patch is located at its center; features more than one patch outside the map are 0. The sampling grid is rotated
    with the box: columns run along its side w.

    Args:
        features: `(B, C, H, W)`.
        boxes: `(K_b, 5)` oriented boxes of each image, in pixels of the image; no gradient flows to them.
        stride: stride of the feature map in pixels.
        size: rows and columns of the result.
        samples: sampling points per side of each output value; they are averaged.
    """
    height, width = features.shape[-2:]
    steps = (torch.arange(size * samples, device=features.device, dtype=torch.float32) + 0.5) / (size * samples) - 0.5
    outputs = [features.new_zeros(0, features.shape[1], size, size)]
    for image, regions in enumerate(boxes):
        for part in regions.detach().float().split(_TOGETHER):
            x, y, w, h, angle = (v[:, None, None] for v in part.unbind(-1))
            across, down = steps[None, None, :] * w, steps[None, :, None] * h
            cos, sin = angle.cos(), angle.sin()
            at_x = (x + across * cos - down * sin) / stride - 0.5  # (K, size * samples, size * samples), in patches
            at_y = (y + across * sin + down * cos) / stride - 0.5
            inside = (at_x >= -1) & (at_x <= width) & (at_y >= -1) & (at_y <= height)
            grid = torch.stack([(at_x + 0.5) * (2 / width) - 1, (at_y + 0.5) * (2 / height) - 1], -1)
            field = features[image : image + 1].float()
            points = F.grid_sample(field, grid.flatten(1, 2)[None], padding_mode="border", align_corners=False)[0]
            points = points * inside.flatten(1)[None]
            cells = points.unflatten(-1, (size, samples, size, samples)).mean((-3, -1))
            outputs.append(cells.transpose(0, 1).to(features.dtype))
    return torch.cat(outputs)


def pyramid_align(
    maps: Sequence[Tensor], boxes: Sequence[Tensor], strides: Sequence[float], size: int = 7, samples: int = 2
) -> Tensor:
    """Return `(K, C, size, size)`: each region from the level of its size; see `rotated_roi_align`."""
    counts = [len(regions) for regions in boxes]
    every = torch.cat(list(boxes))
    level = torch.floor(torch.log2((every[:, 2] * every[:, 3]).clamp(min=0).sqrt() / _FINEST + 1e-6))
    level = level.clamp(0, len(maps) - 1)
    pooled = maps[0].new_zeros(len(every), maps[0].shape[1], size, size)
    for number, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        mine = level == number
        parts = [regions[chosen] for regions, chosen in zip(boxes, mine.split(counts), strict=True)]
        pooled = pooled.index_put((mine.nonzero()[:, 0],), rotated_roi_align(features, parts, stride, size, samples))
    return pooled
