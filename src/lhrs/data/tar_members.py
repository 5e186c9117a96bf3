"""Files inside uncompressed tar files, read in place."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lhrs.errors import DataError

SHARD_SUFFIX = ".tar"


@dataclass(frozen=True)
class TarMember:
    """A file inside a shard."""

    shard: Path
    name: str
    offset: int
    """Offset of its first byte, in bytes."""
    length: int

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"

    @property
    def path(self) -> Path:
        """GDAL's name of the member."""
        return Path(f"/vsisubfile/{self.offset}_{self.length},{self.shard}")


def iter_members(shard: Path) -> Iterator[TarMember]:
    """Yield the files of a shard, in its order. Shards are not compressed, which allows random access.

    Raises:
        DataError: It cannot be read, is cut off, or is compressed.
    """
    try:
        size = shard.stat().st_size
        with tarfile.open(shard, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                if not info.isfile():
                    continue
                if info.offset_data + info.size > size:
                    raise DataError(f"{shard} is cut off: it ends inside {info.name}.")
                yield TarMember(shard, info.name, info.offset_data, info.size)
            if size < archive.offset + tarfile.BLOCKSIZE:
                raise DataError(f"{shard} is cut off: it has no end-of-archive block.")
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard} cannot be read as an uncompressed tar file: {error}") from error


def read_member(shard: Path, offset: int, length: int) -> bytes:
    """Return the bytes of a file inside a shard.

    Raises:
        DataError: The shard cannot be read.
    """
    try:
        with shard.open("rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as error:
        raise DataError(f"{shard} cannot be read: {error.strerror}.") from error
