"""How the teacher follows the student."""

import math

import torch
from torch import Tensor

from lhrs.cmid.model import CMID


@torch.no_grad()
def update_teacher(module: CMID, momentum: float) -> None:
    """Set teacher = momentum * teacher + (1 - momentum) * student and enqueue keys, after the optimizer's step.

    The teacher keeps its own batch-norm statistics: its images are whole, those of the student are masked.
    """
    teacher_params: list[Tensor] = [p for _, follower in module.ema_pairs() for p in follower.parameters()]
    student_params = [p.detach() for student, _ in module.ema_pairs() for p in student.parameters()]
    if teacher_params:
        torch._foreach_lerp_(teacher_params, student_params, 1 - momentum)
    if module.global_ is not None:
        module.global_.enqueue()


def ema_momentum(step: int, steps: int, base: float = 0.996) -> float:
    """Return the teacher's momentum after a step: from `base` to 1 along a cosine (arXiv:2006.07733)."""
    return 1 - (1 - base) * (1 + math.cos(math.pi * step / steps)) / 2
