"""How long work reports what is done: one protocol for every package, silent by default."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """What counts the work done."""

    def update(self, n: int = 1) -> None:
        """Add `n` items done."""


class Progress(Protocol):
    """Opens a bar: `with progress("tiles", len(tiles)) as bar: bar.update()`. `lhrs.cli` has the visible one."""

    def __call__(self, description: str, total: int | None = None) -> AbstractContextManager[Bar]:
        """Return a context manager that gives a bar for `total` items; None when their number is unknown."""


class _SilentBar:
    def update(self, n: int = 1) -> None:
        """Do nothing."""


@contextmanager
def no_progress(description: str, total: int | None = None) -> Iterator[Bar]:
    """Report nothing: the default of every function that takes a `Progress`."""
    yield _SilentBar()
