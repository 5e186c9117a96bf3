"""Which anchor or proposal stands for which object, and which of them a step learns from."""

from collections.abc import Callable

import torch
from torch import Tensor

BACKGROUND, IGNORED = -1, -2
_TOGETHER = 64
"""Objects that are compared with all anchors at once: bounds memory where a tile holds a thousand."""


def match_anchors(
    regions: Tensor,
    objects: Tensor,
    overlap: Callable[[Tensor, Tensor], Tensor],
    positive: float,
    negative: float,
    least: float | None = None,
) -> Tensor:
    """Return int64 `(N,)`: the object that each region stands for, `BACKGROUND`, or `IGNORED`.

    Args:
        regions: N boxes.
        objects: M boxes.
        overlap: gives `(N, M)`.
        positive: overlap from which a region stands for the object it overlaps most.
        negative: overlap under which it is background; in between it is ignored.
        least: the regions that overlap an object most stand for it even below `positive`, from this overlap on
            (Faster R-CNN, Ren et al., 2015, section 3.1.2); None: they do not.
    """
    count = len(regions)
    best = torch.zeros(count, device=regions.device)
    which = torch.full((count,), BACKGROUND, device=regions.device)
    forced = which.clone()
    for start in range(0, len(objects), _TOGETHER):
        found = overlap(regions, objects[start : start + _TOGETHER])
        value, index = found.max(1)
        which = torch.where(value > best, index + start, which)
        best = torch.maximum(best, value)
        if least is not None:
            highest = found.max(0).values
            closest = found * ((found == highest) & (highest >= least))
            value, index = closest.max(1)
            forced = torch.where(value > 0, index + start, forced)
    chosen = torch.where(best < negative, BACKGROUND, torch.where(best >= positive, which, IGNORED))
    return torch.where(forced >= 0, forced, chosen)


def sample_matches(assigned: Tensor, count: int, share: float) -> tuple[Tensor, Tensor]:
    """Return int64 indices of positives and of negatives: at most `count` in all, `share` of it positives.

    Drawn by torch's global CPU generator, so that a seed means the same on any device.
    """
    positives, negatives = (assigned >= 0).nonzero()[:, 0], (assigned == BACKGROUND).nonzero()[:, 0]
    positives = _draw(positives, int(count * share))
    return positives, _draw(negatives, count - len(positives))


def _draw(indices: Tensor, count: int) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices))[:count].to(indices.device)]
