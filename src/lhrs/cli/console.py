"""What every command shares: the progress bar on stderr, one line per error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lhrs.progress import Bar, no_progress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EXIT_USER_ERROR = 2
"""Exit code when something the user gave is wrong."""


class _RichBar:
    def __init__(self, progress: "Progress", task: "TaskID") -> None:
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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # If stdout is the same terminal, results are printed above the bar. Otherwise rich would send them to stderr.
    is_shared = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=is_shared) as bar:
        yield _RichBar(bar, bar.add_task(description, total=total))


def print_error(error: object) -> None:
    """Print an error as one line on stderr."""
    print("lhrs: " + " ".join(str(error).split()), file=sys.stderr)


def print_info(text: str) -> None:
    """Print a remark on stderr."""
    print(text, file=sys.stderr)
