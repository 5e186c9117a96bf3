"""Images without labels for pretraining: windows of files of any size and band count, folders, tar shards.

An image that is larger than the window is divided into grid cells. The position of a window in its cell changes with
the epoch. Only the window of a raster is read. An image in a shard is read like a file on disk.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.data.tar_members import SHARD_SUFFIX, TarMember, iter_members
from lhrs.errors import DataError
from lhrs.imagery.image import IMAGE_SUFFIXES, list_images
from lhrs.imagery.reader import RasterReader, open_source
from lhrs.imagery.windows import make_windows


@dataclass(frozen=True)
class GridCell:
    """One cell of the grid of windows."""

    file: Path | TarMember
    top: int
    left: int
    height: int
    """Rows of the cell; at least those of the window, if the image is large enough."""
    width: int
    reader: RasterReader = field(repr=False)


class UnlabeledWindows:
    """Windows of images, by `(epoch, index)`.

    Args:
        paths: images, folders of images, and tar files of images (webdataset).
        size: rows and columns of a window in pixels; smaller images are read whole.
        bands: which ones, 1-based; None is all of them.
        seed: of the window positions.

    Raises:
        DataError: a path does not exist, contains no image, or images differ in their bands.
    """

    def __init__(self, paths: Sequence[str | Path], size: int, bands: Sequence[int] | None = None, seed: int = 0):
        self.size, self.seed = size, seed
        self.bands = None if bands is None else list(bands)
        self.places: list[GridCell] = []
        files: Iterator[tuple[Path | TarMember, RasterReader]]
        for path in map(Path, paths):
            if path.suffix == SHARD_SUFFIX:
                files = _members(path)
            elif path.is_dir() and (shards := sorted(path.glob(f"*{SHARD_SUFFIX}"))):
                files = (member for shard in shards for member in _members(shard))
            else:
                files = ((file, open_source(file)) for file in list_images([path]))
            self.places += [place for file, reader in files for place in self._grid(file, reader)]
        first = self[0, 0]
        self.in_chans, self.dtype = first.shape[0], first.dtype

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: SampleKey) -> np.ndarray:
        """Return raw values `(bands, rows, columns)`.

        Raises:
            DataError: the file cannot be read.
        """
        place, rng = self.places[key[1]], sample_rng(self.seed, key)
        high, wide = min(self.size, place.height), min(self.size, place.width)
        top = place.top + int(rng.integers(place.height - high + 1))
        left = place.left + int(rng.integers(place.width - wide + 1))
        reader = replace(place.reader)  # a copy, so that the decoded image is freed
        try:
            pixels, _ = reader.read((left, top, wide, high), bands=self.bands)
        except DataError as error:
            name = str(place.file.path) if isinstance(place.file, TarMember) else str(place.file)
            raise DataError(str(error).replace(name, str(place.file))) from None
        return self._check(pixels, place.file)

    def _check(self, pixels: np.ndarray, file: Path | TarMember) -> np.ndarray:
        count = getattr(self, "in_chans", len(pixels))
        if len(pixels) != count:
            raise DataError(f"{file} has {len(pixels)} bands, others have {count}; choose with `bands`.")
        return pixels

    def _grid(self, file: Path | TarMember, reader: RasterReader) -> list[GridCell]:
        height, width = reader.shape
        parts = (part.window for part in make_windows(width, height, self.size, layout="partition"))
        return [GridCell(file, top, left, rows, columns, reader) for left, top, columns, rows in parts]


def _members(shard: Path) -> Iterator[tuple[TarMember, RasterReader]]:
    """Yield the images of a tar file. Shards are not compressed, which allows random access."""
    has_image = False
    for member in iter_members(shard):
        if Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
            has_image = True
            yield member, _open_member(member)
    if not has_image:
        raise DataError(f"{shard} contains no image.")


def _open_member(member: TarMember) -> RasterReader:
    try:
        return open_source(member.path)
    except DataError as error:
        raise DataError(f"{member} is not an image that can be read ({error}).") from error
