"""Matching of the patches of two views by location."""

import torch
from torch import Tensor


def match_patches(first: Tensor, second: Tensor, count: int, max_distance: float) -> tuple[Tensor, Tensor]:
    """Pair patches of one view with the nearest patches of another.

    Args:
        first: `(B, N, 2)` centers of the patches of one view, in any unit.
        second: `(B, M, 2)` centers of the patches of another view of the same sources, in the same unit.
        count: number of pairs per image; the closest pairs are returned.
        max_distance: largest distance of a valid pair.

    Returns:
        `(B, count, 2)` long indices into the flattened `(B * N)` and `(B * M)` patches, and float `(B, count)`: 1 where
        a pair is close enough, else 0.
    """
    distance, nearest = torch.cdist(first, second).min(-1)
    distances, patches = distance.topk(min(count, first.shape[1]), dim=1, largest=False)
    rows = torch.arange(len(first), device=first.device)[:, None]
    pairs = torch.stack([rows * first.shape[1] + patches, rows * second.shape[1] + nearest.gather(1, patches)], -1)
    return pairs, (distances <= max_distance).float()
