"""Images without labels for pretraining: windows of files of any size and band count, folders, tar shards.

An image that is larger than the window is a grid of windows; which part of its cell a window shows changes with the
epoch. Of rasters only the window is read. An image in a shard is read as it would be beside it.
"""

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, cast

import numpy as np

from lhrs.data.keyed import Key, sample_rng
from lhrs.errors import DataError
from lhrs.imagery.open import IMAGE_SUFFIXES, list_images
from lhrs.imagery.quiet import ignored
from lhrs.imagery.stack import EIGHT_BITS, PICTURES, image_shape

SHARD_SUFFIX = ".tar"


@dataclass(frozen=True)
class Member:
    """An image inside a shard."""

    shard: Path
    name: str
    offset: int
    """Of its first byte; so the next, in bytes."""
    length: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @property
    def path(self) -> Path:
        """GDAL's name of it."""
        return Path(f"/vsisubfile/{self.offset}_{self.length},{self.shard}")

    def read(self) -> bytes:
        """Return the file that it would be."""
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


@dataclass(frozen=True)
class Place:
    """One cell of the grid of windows."""

    file: Path | Member
    top: int
    left: int
    height: int
    """Rows that the window may move in; at least as many as it has itself, if the image has."""
    width: int


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
        files: Iterator[tuple[Path | Member, tuple[int, int]]]
        for path in map(Path, paths):
            if path.suffix == SHARD_SUFFIX:
                files = _members(path)
            elif path.is_dir() and (shards := sorted(path.glob(f"*{SHARD_SUFFIX}"))):
                files = (member for shard in shards for member in _members(shard))
            else:
                files = ((file, image_shape(file)) for file in list_images([path]))
            self.places += [place for file, shape in files for place in self._grid(file, *shape)]
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
        high, wide = min(self.size, place.height), min(self.size, place.width)
        top = place.top + int(rng.integers(place.height - high + 1))
        left = place.left + int(rng.integers(place.width - wide + 1))
        return self._check(self._read(place.file, top, left, high, wide), place.file)

    def _read(self, file: Path | Member, top: int, left: int, height: int, width: int) -> np.ndarray:
        if file.suffix.lower() in PICTURES and (picture := _picture(file)) is not None:
            return self._chosen(picture, file)[:, top : top + height, left : left + width]
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError
        from rasterio.windows import Window

        try:
            name = file.path if isinstance(file, Member) else file
            with ignored(NotGeoreferencedWarning), rasterio.open(name) as dataset:
                return dataset.read(self.bands, window=Window(left, top, width, height))
        except (RasterioError, IndexError) as error:
            raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error

    def _chosen(self, pixels: np.ndarray, file: Path | Member) -> np.ndarray:
        if self.bands is None:
            return pixels
        if lacking := [band for band in self.bands if not 1 <= band <= len(pixels)]:
            raise DataError(f"{file} has {len(pixels)} bands, there is no band {lacking[0]}.")
        return pixels[[band - 1 for band in self.bands]]

    def _check(self, pixels: np.ndarray, file: Path | Member) -> np.ndarray:
        count = getattr(self, "in_chans", len(pixels))
        if len(pixels) != count:
            raise DataError(f"{file} has {len(pixels)} bands, others have {count}; choose with `bands`.")
        return pixels

    def _grid(self, file: Path | Member, height: int, width: int) -> list[Place]:
        rows, columns = (max(n // self.size, 1) for n in (height, width))
        tops, lefts = ([n * i // parts for i in range(parts + 1)] for n, parts in ((height, rows), (width, columns)))
        return [
            Place(file, top, left, bottom - top, right - left)
            for top, bottom in pairwise(tops)
            for left, right in pairwise(lefts)
        ]


def _picture(file: Path | Member) -> np.ndarray | None:
    """Return uint8 `(3, rows, columns)`; None where Pillow would cut numbers off, as of 16 bits."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file.read()) if isinstance(file, Member) else file) as image:
            return np.array(image.convert("RGB")).transpose(2, 0, 1) if image.mode in EIGHT_BITS else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read: {' '.join(str(error).split())}") from error


def _members(shard: Path) -> Iterator[tuple[Member, tuple[int, int]]]:
    """Yield the images of a tar file with their shapes. Shards are not compressed, so any can be read at once."""
    found = False
    try:
        with tarfile.open(shard, "r:") as archive:
            for info in archive:
                if info.isfile() and Path(info.name).suffix.lower() in IMAGE_SUFFIXES:
                    found = True
                    member = Member(shard, info.name, info.offset_data, info.size)
                    yield member, _shape(archive, info, member)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard} cannot be read as an uncompressed tar file: {error}") from error
    if not found:
        raise DataError(f"{shard} holds no image.")


def _shape(archive: tarfile.TarFile, info: tarfile.TarInfo, member: Member) -> tuple[int, int]:
    from PIL import Image

    try:
        with ignored(Image.DecompressionBombWarning), Image.open(cast(IO[bytes], archive.extractfile(info))) as image:
            return image.height, image.width
    except (OSError, Image.DecompressionBombError):  # Pillow does not know it, GDAL may
        try:
            return image_shape(member.path)
        except DataError as error:
            raise DataError(f"{member} is not an image that can be read.") from error
