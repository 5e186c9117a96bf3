"""Other libraries' warnings about what we know and handle, held back without changing the process for others."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def suppress_warnings(category: type[Warning]) -> Iterator[None]:
    """Ignore one category of warnings in this block, which should be short: one thread at a time is let in.

    The list of warning filters belongs to the whole process; without the lock, threads would restore each other's.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
