"""Student, teacher and the three branches."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lhrs.cmid.backbone import MaskedBackbone
from lhrs.cmid.branches import InstanceContrast, MaskedReconstruction, PrototypeMatching
from lhrs.cmid.masking import fill_with_mean, to_pixels
from lhrs.errors import ConfigError


class CMID(nn.Module):
    """Learns from two views of each image; `student.model` is what is handed on.

    Args:
        backbone: timm's name.
        in_chans: bands.
        size: side of the views in pixels.
        masked: settings of `MaskedBranch`, or None to do without; so the others.
        global_: of `GlobalBranch`.
        local: of `LocalBranch`; `batch_norm` None is whether the backbone has some.
        weights: of the branches by name: masked, global, local.
        backbone_args: further arguments of `timm.create_model`.

    Raises:
        ConfigError: there is no such backbone, or no branch is left.
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
            kinds = nn.modules.batchnorm._BatchNorm
            local = {**local, "batch_norm": any(isinstance(part, kinds) for part in self.student.modules())}
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
            theirs = copy.deepcopy(module.state_dict())
            follower.load_state_dict(theirs)
            follower.requires_grad_(False)

    def ema_pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        """Yield modules of the student and those of the teacher that follow them."""
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
        """Return `loss` and each branch's own.

        Args:
            pixels: `(2B, C, S, S)` normalized, first views then second views.
            mask: `(2B, m, m)` bool, hidden from the student; for the masked branch.
            pairs: see `LocalBranch`.
            close: see `LocalBranch`.
            teacher_temperature: see `LocalBranch`.
        """
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        taught = None
        if self.teacher is not None:
            with torch.no_grad():  # first, so that its working memory is free when the student's begins to grow
                taught = self.teacher(pixels)
        shown = pixels
        if self.masked is not None and mask is not None:
            shown = fill_with_mean(pixels, to_pixels(mask, pixels.shape[-2:]))
        features = self.student(shown, mask if self.masked is not None else None)
        found: dict[str, Tensor] = {}
        if self.masked is not None and mask is not None:
            found["masked"] = self.masked(features, pixels, mask)
        if self.global_ is not None and taught is not None:
            found["global"] = self.global_(features, taught)
        if self.local is not None and taught is not None and pairs is not None and close is not None:
            found["local"] = self.local(features, taught, pairs, close, teacher_temperature)
        loss = torch.stack([self.weights[name] * value for name, value in found.items()]).sum()
        return {"loss": loss, **{name: value.detach() for name, value in found.items()}}

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """After the optimizer's step: teacher = momentum * teacher + (1 - momentum) * student, keys join the queue.

        Batch-norm statistics stay its own: it sees whole images, the student masked ones.
        """
        theirs: list[Tensor] = [p for _, follower in self.ema_pairs() for p in follower.parameters()]
        ours = [p.detach() for module, _ in self.ema_pairs() for p in module.parameters()]
        if theirs:
            torch._foreach_lerp_(theirs, ours, 1 - momentum)
        if self.global_ is not None:
            self.global_.enqueue()


def ema_momentum(step: int, steps: int, base: float = 0.996) -> float:
    """Return the teacher's momentum after a step: from `base` to 1 along a cosine (arXiv:2006.07733)."""
    return 1 - (1 - base) * (1 + math.cos(math.pi * step / steps)) / 2


@torch.no_grad()
def recompute_bn_stats(model: nn.Module, batches: Iterator[Tensor]) -> None:
    """Estimate batch-norm statistics anew on whole images: in training the student saw masked ones.

    Args:
        model: the backbone, anywhere.
        batches: normalized images `(B, C, S, S)`.
    """
    device = next(model.parameters()).device
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta, was = [m.momentum for m in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    model.train()
    for batch in batches:
        model(batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was)
