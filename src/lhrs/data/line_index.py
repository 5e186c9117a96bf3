"""Random access to the lines of a text file: only their positions are held in memory."""

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lhrs.errors import DataError


class LineIndex:
    """The records of a file, one a line, without blank lines.

    Args:
        path: The file; UTF-8 or any encoding in which a line ends with the byte 10.
        quoted: A line inside double quotes goes on, as in CSV.

    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, path: Path, quoted: bool = False) -> None:
        self.path = path
        try:
            places = array("q")  # a tenth of the memory of a list
            for record in _scan(path, quoted):
                places.extend(record)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._places)

    def where(self, index: int) -> str:
        """Return file and line number of a record, for messages."""
        return f"{self.path}:{self._places[index, 0]}"

    def read(self, index: int) -> bytes:
        """Return a record.

        Raises:
            DataError: The file cannot be read.
        """
        _, start, end = self._places[index].tolist()
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return file.read(end - start)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror}.") from error


def _scan(path: Path, quoted: bool) -> Iterator[tuple[int, int, int]]:
    """Yield (line number, start, end) in bytes of every record that is not blank."""
    with path.open("rb") as lines:
        start, position, first, is_open = 0, 0, 1, False
        for number, line in enumerate(lines, 1):
            if not is_open:
                start, first = position, number
            position += len(line)
            if quoted and line.count(b'"') % 2:
                is_open = not is_open
            if not is_open and (line.strip() or first < number):
                yield first, start, position
        if is_open:
            yield first, start, position
