"""A limit of samples that may be broken: the others are read on, and what is left out is counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lhrs.dropped import Dropped
from lhrs.errors import DataError

REASON = "broken samples"


class BadSamples:
    """Samples and lines that were left out because they cannot be read.

    Args:
        limit: Of their number.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.dropped = Dropped()

    def add(self, error: DataError) -> None:
        """Count a broken sample.

        Raises:
            DataError: There are more than the limit.
        """
        self.dropped.add(REASON, str(error).rstrip("."))
        if len(self.dropped) > self.limit:
            raise DataError(f"more than {self.limit} {REASON}, which --skip-bad allows; the last: {error}") from None


_current: ContextVar[BadSamples | None] = ContextVar("bad_samples", default=None)


@contextmanager
def skipping(bad: BadSamples) -> Iterator[None]:
    """Leave out the broken lines that `skip` gets inside the block, as far as the limit allows."""
    token = _current.set(bad)
    try:
        yield
    finally:
        _current.reset(token)


def skip(error: DataError) -> None:
    """Count a broken line inside `skipping`; elsewhere raise its error."""
    bad = _current.get()
    if bad is None:
        raise error
    bad.add(error)
