"""Warnings about inputs, for users."""

import logging
from functools import cache


@cache
def warn_once(message: str) -> None:
    """Log a warning the first time it occurs in this process. Without logging set up it is one line on stderr."""
    logging.getLogger("lhrs").warning(message)
