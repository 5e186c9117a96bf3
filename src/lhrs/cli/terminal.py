"""What every command shares: progress on stderr, one line per error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lhrs.progress import Bar

FAILED = 2
"""Exit code when something the user gave is wrong."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr, gone when done; gives what moves it by one."""
    if not sys.stderr.isatty() or total < 2:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # Where both are one terminal, results pass through the bar, so that they stand above it. Elsewhere they must not:
    # rich would write them to stderr.
    shared = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shared) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


class _AdvancingBar:
    def __init__(self, advance: Callable[[], None]) -> None:
        self._advance = advance

    def update(self, n: int = 1) -> None:
        for _ in range(n):
            self._advance()


@contextmanager
def progress_bar(description: str, total: int | None = None) -> Iterator[Bar]:
    """Show a bar on stderr: the `Progress` of the command line."""
    with progress(description, total or 0) as advance:
        yield _AdvancingBar(advance)


def complain(error: object) -> None:
    """Print an error as one line on stderr."""
    print("lhrs: " + " ".join(str(error).split()), file=sys.stderr)


def note(text: str) -> None:
    """Print a remark on stderr."""
    print(text, file=sys.stderr)
