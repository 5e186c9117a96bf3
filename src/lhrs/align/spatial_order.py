"""Spatial sort order: consecutive items are close on the ground."""

import numpy as np


def sort_tile_recursive_order(x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Return an order in which `size` consecutive points are close: sorted into strips along x, then along y.

    Leutenegger, Lopez and Edgington, "STR: a simple and efficient algorithm for R-tree packing" (1997).
    """
    strips = max(1, round((len(x) / size) ** 0.5))
    by_x = np.argsort(x, kind="stable")
    strip = np.empty(len(x), np.int64)
    strip[by_x] = np.arange(len(x)) * strips // max(1, len(x))
    return np.lexsort((y, strip))
