"""What every task is: a network with its loss inside, built from a card."""

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.downstream.backbone import STRIDES, Encoder, Pyramid
from lhrs.errors import ConfigError

IGNORE = 255
"""A pixel of this class counts nowhere."""


class Task(nn.Module, ABC):
    """An encoder and a head."""

    heads: tuple[str, ...]
    """The first is the default; `linear` is the linear probe."""
    backbone: Encoder | Pyramid

    @property
    def encoder(self) -> Encoder:
        """The backbone, without what makes a pyramid of its maps."""
        return self.backbone.encoder if isinstance(self.backbone, Pyramid) else self.backbone

    @abstractmethod
    def forward(self, pixels: Tensor, target: Any) -> dict[str, Tensor]:
        """Return `loss`; what a target is, the task says."""


class ScoringTask(Task):
    """A task whose answer is a class, of an image or of each pixel."""

    @abstractmethod
    def scores(self, pixels: Tensor) -> Tensor:
        """Return scores before softmax, classes in dimension 1, of normalised pixels."""


def build_task(kind: str, encoder: Encoder, num_classes: int, head: str | None = None, **settings: Any) -> Task:
    """Return a task on an encoder.

    Args:
        kind: `classify`, `segment`, `change` or `detect`.
        encoder: its backbone.
        num_classes: of scenes, of pixels or of objects.
        head: one of the task's; None is its first.
        settings: of the loss, see the task.

    Raises:
        ConfigError: there is no such head.
    """
    task = _tasks()[kind]
    head = head or task.heads[0]
    if head not in task.heads:
        raise ConfigError(f"{kind} has no head {head!r}; it has {', '.join(task.heads)}.")
    return task(encoder, num_classes, head, **settings)  # type: ignore[call-arg, arg-type]


def _tasks() -> dict[str, type[Task]]:
    from lhrs.downstream.change import Change
    from lhrs.downstream.classify import Classify
    from lhrs.downstream.detect.task import Detect
    from lhrs.downstream.segment import Segment

    return {"classify": Classify, "segment": Segment, "change": Change, "detect": Detect}


def conv_norm(channels: int, out: int, size: int = 3) -> nn.Sequential:
    """Return convolution, batch norm and ReLU that keep height and width."""
    return nn.Sequential(
        nn.Conv2d(channels, out, size, padding=size // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


def enlarge(maps: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Return maps at another height and width, bilinearly."""
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def padded(pixels: Tensor) -> Tensor:
    """Return images whose sides are multiples of the coarsest stride, so that maps lie exactly over pixels."""
    unit = STRIDES[-1]
    return F.pad(pixels, (0, -pixels.shape[-1] % unit, 0, -pixels.shape[-2] % unit))


def over_pixels(maps: Tensor, pixels: Tensor) -> Tensor:
    """Return maps of `padded(pixels)` as float32 at the height and width of `pixels`."""
    high, wide = pixels.shape[-2:]
    unit = STRIDES[-1]
    return enlarge(maps.float(), (high + -high % unit, wide + -wide % unit))[..., :high, :wide]


def pixel_loss(scores: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean cross-entropy of `(B, K, H, W)` where the target `(B, H, W)` is not IGNORE."""
    total = F.cross_entropy(scores, target.long(), weight, ignore_index=IGNORE, reduction="sum")
    counted = target[target != IGNORE].long()
    share = weight[counted].sum() if weight is not None else scores.new_tensor(float(counted.numel()))
    return total / share.clamp(min=1e-6)  # a crop without any pixel that counts gives 0, not NaN
