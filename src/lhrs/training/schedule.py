"""Optimizer and learning rates of the curriculum."""

import math
from typing import Any

import torch
from timm.optim import Adan
from torch import nn

from lhrs.training.run import CurriculumFit
from lhrs.training.trainable import part_of


def make_optimizer(module: nn.Module, settings: CurriculumFit) -> torch.optim.Optimizer:
    """Return the optimizer of everything that learns: the encoder at its own rate, decay on matrices only."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            own = settings.vision_lr if part_of(name) == "vision_tower" else None
            decay = settings.weight_decay if parameter.ndim >= 2 and not name.endswith(".query") else 0.0
            groups.setdefault((own or settings.lr, decay), []).append(parameter)
    listed = [{"params": p, "lr": lr, "weight_decay": decay} for (lr, decay), p in groups.items()]
    common: dict[str, Any] = {"lr": settings.lr, "betas": tuple(settings.betas), "eps": settings.eps}
    return Adan(listed, **common) if settings.optimizer == "adan" else torch.optim.AdamW(listed, **common)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: CurriculumFit, num_steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a linear warm-up times a cosine over the whole run; every group ends at `min_lr` or stays below it."""

    def factor(lr: float) -> Any:
        floor = min(1.0, settings.min_lr / lr)

        def at(step: int) -> float:
            warm = min(1.0, step / max(1, settings.warmup_steps))
            cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, num_steps))))
            return (settings.warmup_start + (1 - settings.warmup_start) * warm) * (floor + (1 - floor) * cosine)

        return at

    return torch.optim.lr_scheduler.LambdaLR(optimizer, [factor(group["lr"]) for group in optimizer.param_groups])
