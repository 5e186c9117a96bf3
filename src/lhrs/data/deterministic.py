"""Data order and randomness as pure functions of (seed, position), so that resuming is exact.

Nothing here keeps state. The permutation of an epoch depends on (seed, epoch), and the random numbers of a sample on
(seed, epoch, index). The number of workers and processes and the history have no effect.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

SampleKey = tuple[int, int]
_BATCHES_TOGETHER = 50


class DeterministicSampler(Sampler[SampleKey]):
    """Yield `(epoch, index)` keys: a new permutation each epoch, the same on every process.

    With `groups` `(size,)`, every batch has the same proportions of them. accelerate calls `set_epoch`. The epoch is
    part of the key because dataset state does not reach persistent workers.
    """

    def __init__(self, size: int, seed: int, groups: np.ndarray | None = None) -> None:
        self.size, self.seed, self.epoch, self.groups = size, seed, 0, groups

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[SampleKey]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.size)
        if self.groups is not None:
            order = spread_groups(order, self.groups)
        return ((self.epoch, int(i)) for i in order)


def group_by_length(order: np.ndarray, lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Return an order whose batches hold samples of similar length.

    Each chunk of `_BATCHES_TOGETHER` batches is sorted by length and split into batches, which are then shuffled.
    """
    out = []
    for start in range(0, len(order), _BATCHES_TOGETHER * batch_size):
        part = order[start : start + _BATCHES_TOGETHER * batch_size]
        part = part[np.argsort(-lengths[part], kind="stable")]
        whole = len(part) // batch_size * batch_size
        batches = rng.permutation(part[:whole].reshape(-1, batch_size))
        out += [batches.ravel(), part[whole:]]
    return np.concatenate(out)


def spread_groups(order: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return an order in which every part holds the groups in the proportions of the whole, up to one sample.

    Batches then have the same shapes, which memory allocators reward.
    """
    members = groups[order]
    position = np.empty(len(order))
    for group in np.unique(members):
        at = np.flatnonzero(members == group)
        position[at] = (np.arange(len(at)) + 0.5) / len(at)
    return order[np.argsort(position, kind="stable")]


def sample_rng(seed: int, key: SampleKey) -> np.random.Generator:
    """Return the random generator of one sample in one epoch."""
    return np.random.default_rng([seed, *key])


def seed_step(seed: int, step: int) -> None:
    """Seed torch's global generator for one optimizer step (dropout, router noise)."""
    torch.manual_seed(int(np.random.default_rng([seed, step]).integers(2**62)))
