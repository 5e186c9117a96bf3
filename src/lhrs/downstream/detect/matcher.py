"""Matching of anchors or proposals to objects, and sampling of matches for training."""

from collections.abc import Callable

import torch
from torch import Tensor

BACKGROUND, IGNORED = -1, -2
_TOGETHER = 64
"""Number of objects that are compared with all anchors at once, to bound memory."""


def match_anchors(
    regions: Tensor,
    objects: Tensor,
    overlap: Callable[[Tensor, Tensor], Tensor],
    positive: float,
    negative: float,
    least: float | None = None,
) -> Tensor:
    """Return int64 `(N,)`: the matched object of each region, `BACKGROUND`, or `IGNORED`.

    Args:
        regions: N boxes.
        objects: M boxes.
        overlap: returns the overlap `(N, M)`.
        positive: smallest overlap at which a region is matched to the object that it overlaps most.
        negative: overlap below which a region is background; regions in between are ignored.
        least: smallest overlap at which the regions that overlap an object most are matched to it, even below
            `positive` (Faster R-CNN, Ren et al., 2015, section 3.1.2); None disables this.
    """
    count = len(regions)
    best = torch.zeros(count, device=regions.device)
    which = torch.full((count,), BACKGROUND, device=regions.device)
    forced = which.clone()
    for start in range(0, len(objects), _TOGETHER):
        ious = overlap(regions, objects[start : start + _TOGETHER])
        value, index = ious.max(1)
        which = torch.where(value > best, index + start, which)
        best = torch.maximum(best, value)
        if least is not None:
            highest = ious.max(0).values
            closest = ious * ((ious == highest) & (highest >= least))
            value, index = closest.max(1)
            forced = torch.where(value > 0, index + start, forced)
    chosen = torch.where(best < negative, BACKGROUND, torch.where(best >= positive, which, IGNORED))
    return torch.where(forced >= 0, forced, chosen)


def sample_matches(assigned: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Return int64 indices of sampled positives and negatives: at most `count` in all.

    At most a fraction `positive_fraction` of `count` are positives. Samples come from torch's global CPU generator, so
    a seed has the same result on any device.
    """
    positives, negatives = (assigned >= 0).nonzero()[:, 0], (assigned == BACKGROUND).nonzero()[:, 0]
    positives = _draw(positives, int(count * positive_fraction))
    return positives, _draw(negatives, count - len(positives))


def _draw(indices: Tensor, count: int) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices))[:count].to(indices.device)]
