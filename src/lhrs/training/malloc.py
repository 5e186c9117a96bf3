"""Tuning of glibc's malloc for training on a CPU."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def tune_malloc() -> None:
    """Keep freed memory in this process for the next step; call before torch is imported.

    glibc gives each large tensor back to Linux, which hands it out anew, zeroed page by page: a tenth of a step. Only
    where every step needs the same sizes; a process with changing ones would end with a heap full of holes. Does
    nothing where the C library has no such setting, and leaves what the environment says.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch: tensors on pages of 2 MiB, fewer holes
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
