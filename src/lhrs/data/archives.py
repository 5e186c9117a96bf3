"""Unpacking of downloaded archives, also of tar files that were published in pieces."""

import io
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from lhrs.errors import DataError

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_PIECE = re.compile(r"(.+\.tar(?:\.gz)?)\.?(?:[a-z]{2}|\d{2,3})")
"""`split`'s names: `test.tar.gzaa`, `test.tar.gzab`."""


def is_archive(name: str) -> bool:
    """Return whether a file can be unpacked, by its name; pieces of a tar file count."""
    return name.lower().endswith(_SUFFIXES) or _PIECE.fullmatch(name) is not None


def group_pieces(names: Iterable[str]) -> list[list[str]]:
    """Group the pieces of the same tar file, in order; other files are alone."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        piece = _PIECE.fullmatch(name)
        groups.setdefault(piece[1] if piece else name, []).append(name)
    return list(groups.values())


def unpack(paths: Sequence[Path], folder: Path) -> None:
    """Unpack an archive, or the pieces of one, without leaving `folder`.

    Raises:
        DataError: it is broken, or of another kind.
    """
    name = paths[0].name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if name.lower().endswith(".zip"):
            with zipfile.ZipFile(paths[0]) as archive:
                archive.extractall(folder)
            return
        with _Joined(paths) as stream, tarfile.open(fileobj=stream, mode="r|*") as packed:
            packed.extractall(folder, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise DataError(f"{paths[0]} cannot be unpacked: {error}.") from error


class _Joined(io.RawIOBase):
    """Several files, read one after the other as one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._rest = list(paths)
        self._file: io.BufferedReader | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        parts: list[bytes] = []
        wanted = size
        while wanted:
            if self._file is None:
                if not self._rest:
                    break
                self._file = self._rest.pop(0).open("rb")
            chunk = self._file.read(wanted)
            if not chunk:
                self._file.close()
                self._file = None
                continue
            parts.append(chunk)
            wanted -= len(chunk) if size > 0 else 0
        return b"".join(parts)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()
