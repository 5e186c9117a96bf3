"""Our own schema as JSON lines: one `lhrs.schema.Sample` a line."""

import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lhrs.data.dataset import Dataset, filter_split, parse_json_object, parse_sample
from lhrs.errors import DataError
from lhrs.schema import Sample

_SUFFIXES = (".jsonl", ".jsonl.gz")


class JsonLines(Dataset):
    """Samples from `.jsonl` and `.jsonl.gz` files.

    Format: one `lhrs.schema.Sample` a line. Only the offsets of the lines are held in memory; gzip files are held
    decompressed. Relative image paths begin at the file's folder.
    """

    homepage = "https://jsonlines.org"
    license = "stated by each sample"
    layout = "a .jsonl or .jsonl.gz file with one sample a line, or a folder of them"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        self._files = _list_files(self.root)
        if not self._files:
            raise DataError(f"{self.root} contains no {' or '.join(_SUFFIXES)} file.")
        self._unpacked = {i: _unpack(path) for i, path in enumerate(self._files) if path.suffix == ".gz"}
        places = [(i, *place) for i in range(len(self._files)) for place in self._scan(i)]
        if split is not None:
            splits = [parse_json_object(self._line(place), self._where(place)).get("split") for place in places]
            places = filter_split(places, splits, split, self.root)
        self._places = np.array(places, np.int64).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self._places)

    def load(self, index: int) -> Sample:
        file, number, start, end = self._places[index].tolist()
        place = file, number, start, end
        row = parse_json_object(self._line(place), self._where(place))
        return parse_sample(row, self._files[file].parent, self._where(place))

    def where(self, index: int) -> str:
        file, number, start, end = self._places[index].tolist()
        return self._where((file, number, start, end))

    @classmethod
    def sniff(cls, root: Path) -> bool:
        files = _list_files(root)
        if not files:
            return False
        try:
            with gzip.open(files[0]) if files[0].suffix == ".gz" else files[0].open("rb") as file:
                first = next((line for line in file if line.strip()), b"")
            return {"id", "source", "license"} <= parse_json_object(first, str(files[0])).keys()
        except (OSError, EOFError, DataError):
            return False

    def _scan(self, file: int) -> Iterator[tuple[int, int, int]]:
        """Yield (line number, start, end) in bytes of every line that is not blank."""
        start = 0
        with io.BytesIO(self._unpacked[file]) if file in self._unpacked else self._files[file].open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, start, start + len(line)
                start += len(line)

    def _line(self, place: tuple[int, int, int, int]) -> bytes:
        file, _, start, end = place
        if file in self._unpacked:
            return self._unpacked[file][start:end]
        with self._files[file].open("rb") as opened:
            opened.seek(start)
            return opened.read(end - start)

    def _where(self, place: tuple[int, int, int, int]) -> str:
        return f"{self._files[place[0]]}:{place[1]}"


def _list_files(root: Path) -> list[Path]:
    paths = sorted(root.iterdir()) if root.is_dir() else [root]
    return [path for path in paths if path.name.endswith(_SUFFIXES) and path.is_file()]


def _unpack(path: Path) -> bytes:
    try:
        return gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is not a whole gzip file: {error}.") from error
