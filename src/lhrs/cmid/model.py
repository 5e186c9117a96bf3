"""The CMID model: student, teacher and the three branches."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lhrs.cmid.backbone import MaskedBackbone
from lhrs.cmid.branches import InstanceContrast, MaskedReconstruction, PrototypeMatching
from lhrs.cmid.masking import fill_with_mean, to_pixels
from lhrs.errors import ConfigError
from lhrs.models.state_dict import load_strict


class CMID(nn.Module):
    """Trained on two views of each image; `student.model` is the pretrained backbone.

    Args:
        backbone: name of a timm model.
        in_chans: number of bands.
        size: side of the views in pixels.
        masked: settings of `MaskedReconstruction`; None disables the branch.
        global_: settings of `InstanceContrast`; None disables the branch.
        local: settings of `PrototypeMatching`; None disables the branch. `batch_norm: None` follows the backbone.
        weights: loss weights of the branches by name: masked, global, local.
        backbone_args: further arguments of `timm.create_model`.

    Raises:
        ConfigError: there is no such backbone, or all branches are disabled.
    """

    def __init__(
        self,
        backbone: str,
        in_chans: int = 3,
        size: int = 224,
        masked: dict[str, Any] | None = None,
        global_: dict[str, Any] | None = None,
        local: dict[str, Any] | None = None,
        weights: dict[str, float] | None = None,
        backbone_args: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        arguments = backbone_args or {}
        self.student = MaskedBackbone(backbone, in_chans, size, masked=masked is not None, **arguments)
        width, grid = self.student.width, self.student.grid
        if local is not None and local.get("batch_norm", False) is None:
            norm_class = nn.modules.batchnorm._BatchNorm
            local = {**local, "batch_norm": any(isinstance(part, norm_class) for part in self.student.modules())}
        self.weights = {"masked": 1.0, "global": 1.0, "local": 1.0} | (weights or {})
        self.masked = None if masked is None else MaskedReconstruction(width, in_chans, size // grid, **masked)
        self.global_ = None if global_ is None else InstanceContrast(width, **global_)
        self.local = None if local is None else PrototypeMatching(width, **local)
        if self.masked is None and self.global_ is None and self.local is None:
            raise ConfigError("CMID needs at least one of its branches: masked, global, local.")
        self.teacher: MaskedBackbone | None = None
        if self.global_ is not None or self.local is not None:
            self.teacher = MaskedBackbone(backbone, in_chans, size, masked=False, **arguments)
        for module, follower in self.ema_pairs():
            load_strict(follower, copy.deepcopy(module.state_dict()), "the student")
            follower.requires_grad_(False)

    def ema_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield modules of the student with their moving averages in the teacher."""
        if self.teacher is not None:
            yield self.student.model, self.teacher.model
        for branch in (self.global_, self.local):
            if branch is not None:
                yield from branch.ema_pairs()

    def forward(
        self,
        pixels: Tensor,
        mask: Tensor | None = None,
        pairs: Tensor | None = None,
        close: Tensor | None = None,
        teacher_temperature: float = 0.07,
    ) -> dict[str, Tensor]:
        """Return `loss` and the loss of each branch.

        Args:
            pixels: `(2B, C, S, S)` normalized, first views then second views.
            mask: `(2B, m, m)` bool, patches that are masked for the student.
            pairs: see `PrototypeMatching`.
            close: see `PrototypeMatching`.
            teacher_temperature: see `PrototypeMatching`.
        """
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        teacher_features = None
        if self.teacher is not None:
            with torch.no_grad():  # first: its memory is freed before the student's activations are allocated
                teacher_features = self.teacher(pixels)
        student_input = pixels
        if self.masked is not None and mask is not None:
            student_input = fill_with_mean(pixels, to_pixels(mask, pixels.shape[-2:]))
        features = self.student(student_input, mask if self.masked is not None else None)
        losses: dict[str, Tensor] = {}
        if self.masked is not None and mask is not None:
            losses["masked"] = self.masked(features, pixels, mask)
        if self.global_ is not None and teacher_features is not None:
            losses["global"] = self.global_(features, teacher_features)
        if self.local is not None and teacher_features is not None and pairs is not None and close is not None:
            losses["local"] = self.local(features, teacher_features, pairs, close, teacher_temperature)
        loss = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        return {"loss": loss, **{name: value.detach() for name, value in losses.items()}}
