"""A preallocated key-value cache that grows in place."""

import copy
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Number of spare tokens that a layer preallocates."""


class GrowingLayer(DynamicLayer):
    """A cache layer with preallocated capacity. The layer of transformers copies all tokens at every step."""

    _room: tuple[Tensor, ...] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append `(B, heads, T, d)` keys and values; return all, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        held = self.get_seq_length()
        total = held + key_states.shape[-2]
        if self._room is None or self._room[0].shape[-2] < total:
            old = cast(tuple[Tensor, Tensor], (self.keys, self.values))
            self._room = tuple(
                self._enlarge(new, kept, held, total) for new, kept in zip((key_states, value_states), old, strict=True)
            )
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[..., held:total, :] = new
        self.keys, self.values = (room[..., :total, :] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows, as copies."""
        super().batch_select_indices(indices)
        self._room = None

    @staticmethod
    def _enlarge(new: Tensor, old: Tensor, held: int, total: int) -> Tensor:
        room = new.new_empty(*new.shape[:-2], total + _ROOM, new.shape[-1])
        if held:
            room[..., :held, :] = old
        return room


def growing_cache(config: Any) -> DynamicCache:
    """Return an empty cache for a language model; sliding-window layers are those of transformers."""
    cache = DynamicCache(config=config)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def select(cache: DynamicCache, rows: Tensor) -> DynamicCache:
    """Return a copy of some rows of a cache, which may repeat."""
    selected = copy.copy(cache)
    selected.layers = [copy.copy(layer) for layer in cache.layers]
    with torch.inference_mode():
        selected.batch_select_indices(rows)
    return selected
