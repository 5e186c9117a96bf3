"""Sliding-window inference: logits of overlapping windows are blended."""

from collections.abc import Callable, Iterator

import numpy as np

from lhrs.imagery.band_stack import PixelWindow
from lhrs.imagery.windows import window_starts

Logits = Callable[[list[PixelWindow]], np.ndarray]
"""Returns float32 logits `(N, K, h, w)` of N windows of one size."""
_BATCH = 4


def blend_weights(height: int, width: int) -> np.ndarray:
    """Return float32 `(height, width)`: the weight of a window's logits, falling linearly to its edges, never to 0."""
    down, across = (1 - np.abs(2 * (np.arange(n) + 0.5) / n - 1) + 1 / n for n in (height, width))
    return np.outer(down, across).astype(np.float32)


def strip_starts(length: int, size: int, overlap: float) -> list[int]:
    """Return the starts of windows along a side, evenly spaced; `overlap` is a fraction of a window."""
    return window_starts(length, min(size, length), min(size, length) * overlap, "even")


def sliding_window_logits(
    shape: tuple[int, int], size: int, overlap: float, logits: Logits
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield `(top, logits)` from top to bottom, logits float32 `(K, rows, width)`, each row once.

    Logits are means over the windows of a pixel, weighted by `blend_weights`. Memory holds one row of windows.

    Args:
        shape: rows and columns of the image.
        size: side of a window in pixels; a smaller image is one window.
        overlap: minimum overlap of neighboring windows, as a fraction of a window.
        logits: the network.
    """
    high, wide = min(size, shape[0]), min(size, shape[1])
    tops, lefts = (strip_starts(length, size, overlap) for length in shape)
    weight = blend_weights(high, wide)
    total: np.ndarray | None = None
    weight_sum = np.zeros((high, shape[1]), np.float32)
    for n, top in enumerate(tops):
        for at in range(0, len(lefts), _BATCH):
            part = lefts[at : at + _BATCH]
            values = logits([(left, top, wide, high) for left in part])
            if total is None:
                total = np.zeros((values.shape[1], high, shape[1]), np.float32)
            for left, window_logits in zip(part, values, strict=True):
                total[:, :, left : left + wide] += window_logits * weight
                weight_sum[:, left : left + wide] += weight
        assert total is not None
        done = (tops[n + 1] if n + 1 < len(tops) else top + high) - top
        yield top, total[:, :done] / weight_sum[:done]
        total[:, : high - done], weight_sum[: high - done] = total[:, done:].copy(), weight_sum[done:].copy()
        total[:, high - done :], weight_sum[high - done :] = 0, 0
