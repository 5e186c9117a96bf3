"""Base classes of the networks of all tasks: a backbone, a head and a loss."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from lhrs.downstream.backbone import Backbone, FeaturePyramid


class TaskNetwork(nn.Module, ABC):
    """A backbone and a head."""

    heads: tuple[str, ...]
    """The first is the default; `linear` is the linear probe."""
    backbone: Backbone | FeaturePyramid

    @property
    def encoder(self) -> Backbone:
        """The backbone, without its feature pyramid."""
        return self.backbone.encoder if isinstance(self.backbone, FeaturePyramid) else self.backbone

    @abstractmethod
    def forward(self, pixels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return `loss` of standardized images; the type of a target depends on the task."""


class LogitNetwork(TaskNetwork):
    """A network that returns the class of an image or of each pixel."""

    @abstractmethod
    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits of standardized images, with classes in dimension 1."""
