"""Which patches of two views show the same place."""

import torch
from torch import Tensor


def match_patches(one: Tensor, two: Tensor, count: int, max_distance: float) -> tuple[Tensor, Tensor]:
    """Pair patches of one view with the nearest patches of another.

    Args:
        one: `(B, N, 2)` centers in pixels of the image, in any unit.
        two: `(B, M, 2)` of the other views of the same sources.
        count: pairs per image, the closest ones.
        max_distance: pairs that are further apart are left out.

    Returns:
        `(B, count, 2)` long indices into the flattened `(B * N)` and `(B * M)` patches, and float `(B, count)`: 1 where
        a pair is close enough, else 0.
    """
    distance, nearest = torch.cdist(one, two).min(-1)
    distances, patches = distance.topk(min(count, one.shape[1]), dim=1, largest=False)
    rows = torch.arange(len(one), device=one.device)[:, None]
    pairs = torch.stack([rows * one.shape[1] + patches, rows * two.shape[1] + nearest.gather(1, patches)], -1)
    return pairs, (distances <= max_distance).float()
