"""Semantic segmentation: a class per pixel."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeFloat, PositiveInt

from lhrs.downstream.dense import DenseConfig, DenseTask
from lhrs.downstream.task import HeadConfig, choose_head

if TYPE_CHECKING:
    from lhrs.downstream.backbone import Backbone
    from lhrs.downstream.network import TaskNetwork


class SegmentationConfig(DenseConfig):
    """Semantic segmentation."""

    head: Literal["upernet"] = "upernet"
    decoder_channels: PositiveInt = 512
    aux_loss_weight: NonNegativeFloat = 0.4
    """Weight of the auxiliary head's loss; 0 is none."""


class SemanticSegmentation(DenseTask):
    """A class per pixel."""

    config = SegmentationConfig
    monitor = "miou"

    def build_network(self, encoder: "Backbone", num_classes: int, head: str | None, **args: Any) -> "TaskNetwork":
        from lhrs.downstream.semantic_segmenter import SemanticSegmenter

        return SemanticSegmenter(encoder, num_classes, choose_head(self.name, SemanticSegmenter.heads, head), **args)

    def head(self, config: Any) -> HeadConfig:
        training = {"class_weights": config.class_weights}
        if config.train_backbone == "linear_probe":
            return HeadConfig("linear", {}, training)
        layers = {"decoder_channels": config.decoder_channels, "aux_loss_weight": config.aux_loss_weight}
        return HeadConfig(config.head, layers, training)
