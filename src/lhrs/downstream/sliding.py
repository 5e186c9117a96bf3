"""Images of any size through a network that sees windows: scores of neighbouring windows fade into each other."""

from collections.abc import Callable, Iterator

import numpy as np

from lhrs.imagery.stack import Box

Score = Callable[[list[Box]], np.ndarray]
"""Returns float32 scores `(N, K, h, w)` of N windows of one size."""
_BATCH = 4


def window_starts(length: int, size: int, overlap: float) -> list[int]:
    """Return where windows of `size` begin along a side: evenly spread, at least `overlap` of a window shared."""
    if length <= size:
        return [0]
    step = max(1.0, size * (1 - overlap))
    count = int(np.ceil((length - size) / step)) + 1
    return np.linspace(0, length - size, count).round().astype(int).tolist()


def fade(high: int, wide: int) -> np.ndarray:
    """Return float32 `(high, wide)`: how much a window's scores count, falling linearly to its edges, never to 0."""
    down, across = (1 - np.abs(2 * (np.arange(n) + 0.5) / n - 1) + 1 / n for n in (high, wide))
    return np.outer(down, across).astype(np.float32)


def blended_rows(shape: tuple[int, int], size: int, overlap: float, score: Score) -> Iterator[tuple[int, np.ndarray]]:
    """Yield `(top, scores)` from top to bottom, scores float32 `(K, rows, width)`, each row once.

    Scores are means over all windows that see a pixel, weighted by `fade`. Memory holds one row of windows.

    Args:
        shape: rows and columns of the image.
        size: side of a window in pixels; an image that is smaller is one window.
        overlap: least share of a window that neighbours see too.
        score: the network.
    """
    high, wide = min(size, shape[0]), min(size, shape[1])
    tops, lefts = window_starts(shape[0], high, overlap), window_starts(shape[1], wide, overlap)
    weight = fade(high, wide)
    total: np.ndarray | None = None
    share = np.zeros((high, shape[1]), np.float32)
    for n, top in enumerate(tops):
        for at in range(0, len(lefts), _BATCH):
            part = lefts[at : at + _BATCH]
            found = score([(left, top, wide, high) for left in part])
            if total is None:
                total = np.zeros((found.shape[1], high, shape[1]), np.float32)
            for left, one in zip(part, found, strict=True):
                total[:, :, left : left + wide] += one * weight
                share[:, left : left + wide] += weight
        assert total is not None
        done = (tops[n + 1] if n + 1 < len(tops) else top + high) - top
        yield top, total[:, :done] / share[:done]
        total[:, : high - done], share[: high - done] = total[:, done:].copy(), share[done:].copy()
        total[:, high - done :], share[high - done :] = 0, 0
