"""Optimizers and learning rate schedules."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.optim import Adan
from torch import nn

from lhrs.training.run_config import OptimConfig

_STEPS = (2 / 3, 11 / 12)
"""Fractions of a run: 8 and 11 of 12 epochs, the usual `1x` schedule of detectors."""


def make_groups(
    module: nn.Module, weight_decay: float, no_decay: tuple[str, ...], lr: Callable[[str], float] | None = None
) -> list[dict[str, Any]]:
    """Group trainable parameters by learning rate and decay; vectors and names that end in `no_decay` have none."""
    groups: dict[tuple[float | None, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim >= 2 and not name.endswith(no_decay) else 0.0
            groups.setdefault((lr(name) if lr else None, decay), []).append(parameter)
    return [
        {"params": p, "weight_decay": decay, **({} if rate is None else {"lr": rate})}
        for (rate, decay), p in groups.items()
    ]


def make_optimizer(
    groups: list[dict[str, Any]], settings: OptimConfig, lr: float, betas: Sequence[float]
) -> torch.optim.Optimizer:
    """Return timm's Adan (proximal decay, as its paper), AdamW or SGD.

    Args:
        groups: see `make_groups`.
        settings: of the run.
        lr: of groups without their own.
        betas: where the settings name none.
    """
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum)
    common: dict[str, Any] = {"lr": lr, "betas": tuple(settings.betas or betas), "eps": settings.eps}
    return Adan(groups, **common) if settings.optimizer == "adan" else torch.optim.AdamW(groups, **common)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: OptimConfig, num_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a linear warm-up times the decay over the whole run; every group ends at `min_lr` or stays below it."""
    warmup = round(settings.warmup_ratio * num_steps) if settings.warmup_steps is None else settings.warmup_steps
    start = settings.warmup_start_factor

    def factor(lr: float) -> Any:
        floor = min(1.0, settings.min_lr / lr)

        def at(step: int) -> float:
            progress = min(1.0, step / max(1, num_steps))
            rise = start + (1 - start) * min(1.0, step / max(1, warmup))
            if settings.schedule == "step":
                return rise * 0.1 ** sum(progress >= at for at in _STEPS)
            decay = 1 - progress if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
            return rise * (floor + (1 - floor) * decay)

        return at

    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor(group["lr"]) for group in optimizer.param_groups])
