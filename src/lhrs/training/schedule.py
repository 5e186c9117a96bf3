"""Optimizer and learning rates of the curriculum."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from timm.optim import Adan
from torch import nn

from lhrs.training.run import CurriculumFit
from lhrs.training.trainable import part_of

_STEPS = (2 / 3, 11 / 12)
"""Shares of a run: 8 and 11 of 12 epochs, the usual `1x` of detectors."""


def make_optimizer(module: nn.Module, settings: CurriculumFit) -> torch.optim.Optimizer:
    """Return the optimizer of everything that learns: the encoder at its own rate, decay on matrices only."""
    groups = make_groups(module, settings.weight_decay, (".query",), lambda name: (
        settings.vision_lr if part_of(name) == "vision_tower" else None) or settings.lr)  # fmt: skip
    return make_optimizer_of(groups, settings.optimizer, settings.lr, tuple(settings.betas), settings.eps)


def make_groups(
    module: nn.Module, weight_decay: float, no_decay: tuple[str, ...], lr: Callable[[str], float] | None = None
) -> list[dict[str, Any]]:
    """Group what learns by learning rate and decay; vectors and names that end in `no_decay` have none."""
    groups: dict[tuple[float | None, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim >= 2 and not name.endswith(no_decay) else 0.0
            groups.setdefault((lr(name) if lr else None, decay), []).append(parameter)
    return [
        {"params": p, "weight_decay": decay, **({} if rate is None else {"lr": rate})}
        for (rate, decay), p in groups.items()
    ]


def make_optimizer_of(
    groups: list[dict[str, Any]], name: str, lr: float, betas: tuple[float, ...], eps: float
) -> torch.optim.Optimizer:
    """Return timm's Adan (proximal decay, as its paper) or AdamW."""
    common: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps}
    return Adan(groups, **common) if name == "adan" else torch.optim.AdamW(groups, **common)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: CurriculumFit, num_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """See `make_schedule_of`."""
    return make_schedule_of(optimizer, settings.min_lr, settings.warmup_steps, settings.warmup_start, num_steps)


def make_schedule_of(
    optimizer: torch.optim.Optimizer, min_lr: float, warmup_steps: int, warmup_start: float, num_steps: int,
    shape: Literal["cosine", "linear", "steps"] = "cosine",
) -> torch.optim.lr_scheduler.LambdaLR:  # fmt: skip
    """Return a linear warm-up times a cosine over the whole run; every group ends at `min_lr` or stays below it.

    `linear` falls along a line instead of the cosine; `steps` to a tenth after each of `_STEPS`, and never lower.
    """

    def factor(lr: float) -> Any:
        floor = min(1.0, min_lr / lr)

        def at(step: int) -> float:
            warm = min(1.0, step / max(1, warmup_steps))
            share = min(1.0, step / max(1, num_steps))
            rise = warmup_start + (1 - warmup_start) * warm
            if shape == "steps":
                return rise * 0.1 ** sum(share >= at for at in _STEPS)
            left = 1 - share if shape == "linear" else 0.5 * (1 + math.cos(math.pi * share))
            return rise * (floor + (1 - floor) * left)

        return at

    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor(group["lr"]) for group in optimizer.param_groups])
