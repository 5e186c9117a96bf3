"""Suppress warnings of other libraries that are already handled, in a thread-safe way."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()


@contextmanager
def suppress_warnings(category: type[Warning]) -> Iterator[None]:
    """Ignore one category of warnings in this block. Keep the block short: it holds a lock.

    The list of warning filters is global to the process. Without the lock, threads would restore each other's filters.
    """
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", category)
        yield
