"""What every command shares: remarks, and one line per error, on stderr."""

import sys

EXIT_USER_ERROR = 2
"""Exit code of user errors."""


def print_error(error: object) -> None:
    """Print an error as one line on stderr."""
    print("lhrs: " + " ".join(str(error).split()), file=sys.stderr)


def print_info(text: str) -> None:
    """Print a remark on stderr."""
    print(text, file=sys.stderr)
