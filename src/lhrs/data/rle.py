"""COCO's run-length encoding of masks (https://github.com/cocodataset/cocoapi)."""

from typing import Any

import numpy as np


def rle_bounds(encoded: dict[str, Any]) -> np.ndarray:
    """Return the box float64 xyxy around the pixels of a mask, `{"size": [height, width], "counts": ...}`.

    Raises:
        ValueError: It is no such mask, or it is empty.
    """
    try:
        (height, width), counts = encoded["size"], encoded["counts"]
        runs = np.array(_decode(counts) if isinstance(counts, str) else counts, np.int64)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"not a run-length encoded mask: {error!r}") from None
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"a mask of {runs.sum()} pixels instead of {height} x {width}")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T  # columns first
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        raise ValueError("an empty mask")
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _decode(text: str) -> list[int]:
    """Return the runs of the compressed form: six bits a character, differences from the last run but one."""
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[position]) - 48
            value |= (bits & 0x1F) << shift
            more, position, shift = bool(bits & 0x20), position + 1, shift + 5
            if not more and bits & 0x10:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
