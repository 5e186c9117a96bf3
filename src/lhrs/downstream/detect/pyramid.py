"""A backbone's maps as a feature pyramid (Lin et al., 2017, arXiv:1612.03144)."""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

STRIDES = (4, 8, 16, 32, 64)
"""Strides of the five feature maps in pixels."""


class FeaturePyramid(nn.Module):
    """Five feature maps of one width, computed from a backbone's four.

    Args:
        backbone: returns four feature maps at strides 4, 8, 16, 32 of normalized `(B, C, H, W)`; `channels` has their
            widths.
        width: channels of every map.
    """

    def __init__(self, backbone: nn.Module, width: int = 256) -> None:
        super().__init__()
        self.backbone, self.out_channels = backbone, width
        self.fpn = FeaturePyramidNetwork(list(cast(list[int], backbone.channels)), width, LastLevelMaxPool())

    def forward(self, pixels: Tensor) -> "OrderedDict[str, Tensor]":
        """Return the maps by name, finest first: "0" to "3" and "pool", as torchvision's detectors require."""
        maps = self.backbone(pixels)
        with torch.autocast(pixels.device.type, enabled=False):  # boxes are decoded from these: 8 bits are too few
            return self.fpn(OrderedDict((str(n), level.float()) for n, level in enumerate(maps)))
