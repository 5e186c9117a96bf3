"""Faster R-CNN with a feature pyramid, torchvision's, as a detector of horizontal boxes on any backbone."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from lhrs.downstream.detect.pyramid import STRIDES, FeaturePyramid


class HorizontalRCNN(nn.Module):
    """Detector of xyxy boxes with the interface of `OrientedRCNN`.

    Args:
        backbone: returns four feature maps at strides 4, 8, 16, 32 of normalized `(B, C, H, W)`; `channels` has their
            widths.
        num_classes: without background.
        width: channels of the pyramid.
        anchor_scale: side of a square anchor, in patches of its feature map.
        **settings: of `torchvision.models.detection.FasterRCNN`, such as `box_nms_thresh`.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, width: int = 256, anchor_scale: float = 8,
        **settings: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_classes = num_classes
        self.pyramid = FeaturePyramid(backbone, width)
        anchors = AnchorGenerator(tuple((s * anchor_scale,) for s in STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES))
        pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
        detector = FasterRCNN(
            self.pyramid, num_classes + 1, rpn_anchor_generator=anchors, box_roi_pool=pool, **settings
        )  # fmt: skip
        self.rpn, self.heads = detector.rpn, detector.roi_heads  # without its resizing and normalizing

    def forward(
        self, pixels: Tensor, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Return losses by name in training, else the detections of each image; see `OrientedRCNN.forward`.

        Boxes are `(K, 4)` xyxy pixels, in targets and detections.
        """
        maps = self.pyramid(pixels)
        sizes = [(pixels.shape[-2], pixels.shape[-1])] * len(pixels)
        with torch.autocast(pixels.device.type, enabled=False):
            truth = None if not self.training or targets is None else [_with_area(target) for target in targets]
            proposals, first = self.rpn(ImageList(pixels, sizes), maps, truth)
            detections, second = self.heads(maps, proposals, sizes, truth)
        if self.training:
            return {**first, **second}
        return [{**item, "labels": item["labels"] - 1} for item in detections]  # torchvision's 0 is background


def _with_area(target: dict[str, Tensor]) -> dict[str, Tensor]:
    keep = (target["boxes"][:, 2:] - target["boxes"][:, :2]).min(1).values >= 1
    return {"boxes": target["boxes"][keep].float(), "labels": target["labels"][keep] + 1}
