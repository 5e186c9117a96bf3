"""Progress of long work: one protocol for every package, silent by default, and the bar that commands show."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Bar(Protocol):
    """What counts the work done."""

    def update(self, n: int = 1) -> None:
        """Add `n` items done."""


class Progress(Protocol):
    """Opens a bar: `with progress("tiles", len(tiles)) as bar: bar.update()`. `progress_bar` is the visible one."""

    def __call__(self, description: str, total: int | None = None) -> AbstractContextManager[Bar]:
        """Return a context manager that gives a bar for `total` items; None when their number is unknown."""


class _SilentBar:
    def update(self, n: int = 1) -> None:
        """Do nothing."""


@contextmanager
def no_progress(description: str, total: int | None = None) -> Iterator[Bar]:
    """Report nothing: the default of every function that takes a `Progress`."""
    yield _SilentBar()


class _RichBar:
    def __init__(self, progress: "RichProgress", task: "TaskID") -> None:
        self._progress, self._task = progress, task

    def update(self, n: int = 1) -> None:
        self._progress.advance(self._task, n)


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar on stderr while work runs; nothing is shown for fewer than two items or without a terminal."""
    if not sys.stderr.isatty() or (total is not None and total < 2):
        with no_progress(description, total) as silent:
            yield silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # If stdout is the same terminal, results are printed above the bar. Otherwise rich would send them to stderr.
    is_shared = sys.stdout.isatty()
    with RichProgress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=is_shared) as bar:
        yield _RichBar(bar, bar.add_task(description, total=total))
