"""Object detection: Oriented R-CNN, or Faster R-CNN for horizontal boxes, on the pyramid of any backbone."""

from typing import Any

from torch import Tensor

from lhrs.downstream.backbone import Backbone, FeaturePyramid
from lhrs.downstream.detect.faster_rcnn import HorizontalRCNN
from lhrs.downstream.detect.oriented_rcnn import OrientedRCNN
from lhrs.downstream.layers import pad_to_stride
from lhrs.downstream.network import TaskNetwork

_DETECTIONS = 2000
"""Maximum number of detections per image; torchvision's 100 are too few for dense scenes."""


class ObjectDetector(TaskNetwork):
    """A detector whose loss is the sum of the losses of both stages.

    Args:
        encoder: the backbone.
        num_classes: number of classes, without background.
        head: `oriented` or `horizontal`.
        decoder_channels: channels of the feature pyramid.
        anchor_scale: side of a square anchor, in patches of its feature map; with 8 the smallest has 32 pixels.
        num_proposals: regions per image that the second stage classifies.
    """

    heads = ("oriented", "horizontal")

    def __init__(
        self, encoder: Backbone, num_classes: int, head: str = "oriented", decoder_channels: int = 256,
        anchor_scale: float = 8, num_proposals: int = 2000,
    ) -> None:  # fmt: skip
        super().__init__()
        pyramid = FeaturePyramid(encoder)
        if head == "oriented":
            rpn = {"anchor_scale": anchor_scale, "proposals": num_proposals}
            second = {"detections": _DETECTIONS}
            self.network: Any = OrientedRCNN(pyramid, num_classes, decoder_channels, rpn, second)
        else:
            tops = {f"rpn_{n}_nms_top_n_{mode}": num_proposals for n in ("pre", "post") for mode in ("train", "test")}
            self.network = HorizontalRCNN(
                pyramid, num_classes, decoder_channels, anchor_scale, box_detections_per_img=_DETECTIONS, **tops
            )
        self.columns = 5 if head == "oriented" else 4
        """Number of values per box: 5 if oriented, 4 for xyxy."""

    @property
    def encoder(self) -> Backbone:
        """The backbone, without its pyramids."""
        return self.network.pyramid.backbone.encoder

    def forward(self, pixels: Tensor, target: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return `loss`; `target` has `boxes` and `labels` of each image, see `OrientedRCNN.forward`."""
        losses = self.network(pad_to_stride(pixels), target)
        return {"loss": sum(losses.values(), pixels.new_zeros(()))}

    def detect(self, pixels: Tensor) -> list[dict[str, Tensor]]:
        """Return `boxes` in pixels, `scores` and `labels` of each image of `(B, C, H, W)`; in evaluation mode."""
        return self.network(pad_to_stride(pixels))
