"""Images without labels for pretraining: windows of files of any size and band count, folders, tar shards.

A file that is larger than the window is a grid of windows; which part of its cell a window shows changes with the
epoch. Only the window is read.
"""

import io
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from lhrs.data.keyed import Key, sample_rng
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES, list_images
from lhrs.imagery.quiet import ignored
from lhrs.imagery.stack import image_shape

SHARD_SUFFIX = ".tar"


@dataclass(frozen=True)
class Place:
    """One cell of the grid of windows."""

    file: Path
    top: int
    left: int
    height: int
    """Rows that the window may move in; at least as many as it has itself, if the image has."""
    width: int
    member: tuple[int, int] | None = None
    """Offset and length in bytes of an image inside a shard."""


class Windows:
    """Windows of images, by `(epoch, index)`.

    Args:
        paths: images, folders of images, and tar files of images (webdataset).
        size: rows and columns of a window in pixels; smaller images are read whole.
        bands: which ones, 1-based; None is all of them.
        seed: of where windows lie.

    Raises:
        DataError: a path does not exist, holds no image, or images differ in their bands.
    """

    def __init__(self, paths: Sequence[str | Path], size: int, bands: Sequence[int] | None = None, seed: int = 0):
        self.size, self.seed = size, seed
        self.bands = None if bands is None else list(bands)
        self.places: list[Place] = []
        for path in map(Path, paths):
            if path.suffix == SHARD_SUFFIX:
                self.places += _members(path)
            elif path.is_dir() and (shards := sorted(path.glob(f"*{SHARD_SUFFIX}"))):
                self.places += [place for shard in shards for place in _members(shard)]
            else:
                self.places += [place for file in list_images([path]) for place in self._grid(file)]
        first = self[0, 0]
        self.in_chans, self.dtype = first.shape[0], first.dtype

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: Key) -> np.ndarray:
        """Return `(bands, rows, columns)` in the file's own numbers.

        Raises:
            DataError: the file cannot be read.
        """
        place, rng = self.places[key[1]], sample_rng(self.seed, key)
        if place.member is not None:
            return self._check(_decode(place), place.file)
        high, wide = min(self.size, place.height), min(self.size, place.width)
        top = place.top + int(rng.integers(place.height - high + 1))
        left = place.left + int(rng.integers(place.width - wide + 1))
        return self._check(self._read(place.file, top, left, high, wide), place.file)

    def _read(self, file: Path, top: int, left: int, height: int, width: int) -> np.ndarray:
        if file.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm"}:
            return _picture(file, file)[:, top : top + height, left : left + width]
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
        from rasterio.windows import Window

        try:
            with ignored(NotGeoreferencedWarning), rasterio.open(file) as dataset:
                return dataset.read(self.bands, window=Window(left, top, width, height))
        except (RasterioError, IndexError) as error:
            raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error

    def _check(self, pixels: np.ndarray, file: Path) -> np.ndarray:
        count = getattr(self, "in_chans", len(pixels))
        if len(pixels) != count:
            raise DataError(f"{file} has {len(pixels)} bands, others have {count}; choose with `bands`.")
        return pixels

    def _grid(self, file: Path) -> list[Place]:
        height, width = image_shape(file)
        rows, columns = (max(n // self.size, 1) for n in (height, width))
        tops, lefts = ([n * i // parts for i in range(parts + 1)] for n, parts in ((height, rows), (width, columns)))
        return [
            Place(file, top, left, bottom - top, right - left)
            for top, bottom in pairwise(tops)
            for left, right in pairwise(lefts)
        ]


def _picture(source: Path | io.BytesIO, file: Path) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(source) as image:
            return np.array(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error


def _members(shard: Path) -> list[Place]:
    """List the images of a tar file. Shards are not compressed, so any of them can be read at once."""
    try:
        with tarfile.open(shard, "r:") as archive:
            found = [
                Place(shard, 0, 0, 0, 0, (member.offset_data, member.size))
                for member in archive
                if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES
            ]
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard} cannot be read as an uncompressed tar file: {error}") from error
    if not found:
        raise DataError(f"{shard} holds no image.")
    return found


def _decode(place: Place) -> np.ndarray:
    assert place.member is not None
    offset, length = place.member
    with place.file.open("rb") as file:
        file.seek(offset)
        content = file.read(length)
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0"):
        from rasterio.io import MemoryFile

        with MemoryFile(content) as memory, memory.open() as dataset:
            return dataset.read()
    return _picture(io.BytesIO(content), place.file)
