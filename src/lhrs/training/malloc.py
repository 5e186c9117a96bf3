"""Tuning of glibc's malloc for training on a CPU."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def tune_malloc() -> None:
    """Keep freed memory in this process for the next step; call before torch is imported.

    By default, glibc returns each large tensor to Linux, and new pages are zeroed again: a tenth of a step's time. Use
    it only if all steps allocate the same sizes; changing sizes fragment the heap. Without glibc it has no effect.
    Environment variables take precedence.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: tensors on pages of 2 MiB, less fragmentation
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
