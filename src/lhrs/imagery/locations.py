"""Paths (files on disk, subdatasets, archive members, URLs) and format detection by the first bytes."""

import io
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, cast

from lhrs.errors import DataError

IMAGE_SUFFIXES = frozenset(
    [
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".ppm", ".pgm"),
        *(".tif", ".tiff", ".gtiff", ".jp2", ".j2k", ".img", ".vrt", ".ntf", ".nitf"),
    ]
)
"""File suffixes that are searched for in a folder. A file that is named itself may have any suffix."""
_URL = r"(?i)^(https?|s3|gs|az|ftp):/+"
_SUBDATASET = r"^[A-Za-z][A-Za-z0-9_+]+:."
"""At least two letters: one letter is a Windows drive."""
_SUBFILE = r"(?s)^/vsisubfile/(\d+)_(\d+),(.*)$"
_WORLD_FILE_SUFFIXES = (".wld", ".WLD")


def gdal_name(path: str | os.PathLike[str]) -> str | None:
    """Return GDAL's name of a URL, an archive member or a subdataset; None for an ordinary file.

    A `Path` drops the double slashes of such a name; they are restored.
    """
    name = os.fspath(path)
    if name.startswith("/vsi"):
        name = re.sub(_URL_INSIDE, r"\1://", name)
        if match := re.match(_ARCHIVE, name):
            first = match[2].partition("/")[0]
            if not os.path.exists(first) and os.path.exists("/" + first):
                return f"{match[1]}/{match[2]}"
        return name
    if re.match(_URL, name):
        return re.sub(_URL, lambda match: f"{match[1]}://", name)
    if re.match(_SUBDATASET, name) and not os.path.exists(name):
        return re.sub(r'^(HDF5:.*?["\w]):/+(?=[^/])', r"\1://", name) if name.upper().startswith("HDF5:") else name
    return None


_ARCHIVE = r"^(/vsi(?:zip|tar|gzip|7z|rar)/)([^/{].*)$"
_URL_INSIDE = r"(?i)(?<=/)(https?|s3|gs):/+"


def gdal_path(name: str) -> str:
    """Return a name that GDAL opens: web and object store URLs become `/vsi...` paths."""
    if name.startswith(("http://", "https://", "ftp://")):
        return f"/vsicurl/{name}"
    for scheme, prefix in (("s3://", "/vsis3/"), ("gs://", "/vsigs/"), ("az://", "/vsiaz/")):
        if name.startswith(scheme):
            return prefix + name.removeprefix(scheme)
    return name


def is_virtual(name: str) -> bool:
    """Return whether a name is no path of a file: a URL, an archive member, a part of a file or a subdataset."""
    return gdal_name(name) is not None


def is_part_of_file(name: str) -> bool:
    """Return whether a name is `/vsisubfile/OFFSET_LENGTH,FILE`, which `open_binary` opens."""
    return re.match(_SUBFILE, name) is not None


def exists(name: str) -> bool:
    """Return whether a file or folder exists. Of a part of a file, that file is looked up; others exist by their name.

    Other names are those of URLs, archive members and subdatasets, which only GDAL can look up.
    """
    if match := re.match(_SUBFILE, name):
        return os.path.isfile(match[3])
    return is_virtual(name) or os.path.exists(name)


def absolute_name(name: str, folder: str | os.PathLike[str]) -> str:
    """Return the name of an image that annotations in a folder name, independent of the working directory."""
    if match := re.match(_SUBFILE, name):
        return f"/vsisubfile/{match[1]}_{match[2]},{os.path.abspath(os.path.join(folder, match[3]))}"
    return name if is_virtual(name) else os.path.abspath(os.path.join(folder, name))


def relative_name(name: str, folder: str | os.PathLike[str]) -> str:
    """Return the name of an image for annotations in a folder; the opposite of `absolute_name`."""
    if match := re.match(_SUBFILE, name):
        return f"/vsisubfile/{match[1]}_{match[2]},{os.path.relpath(match[3], folder)}"
    return name if is_virtual(name) else os.path.relpath(name, folder)


def read_head(name: str) -> bytes | None:
    """Return the first bytes of a file on disk, or None if only GDAL can read it.

    Raises:
        DataError: the file is missing, unreadable or empty.
    """
    if gdal_name(name) is not None and not re.match(_SUBFILE, name):
        return None
    try:
        with open_binary(name) as file:
            head = file.read(32)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise DataError(f"{name} {reason}.") from error
    if not head:
        raise DataError(f"{name} is empty.")
    return head


def open_binary(name: str) -> BinaryIO:
    """Open a file on disk, or the part of a file that `/vsisubfile/OFFSET_LENGTH,FILE` names, for reading."""
    if match := re.match(_SUBFILE, name):
        return cast(BinaryIO, _Slice(match[3], int(match[1]), int(match[2])))
    return open(name, "rb")


class _Slice(io.RawIOBase):
    """A file object over a byte range of a file."""

    def __init__(self, path: str, offset: int, length: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115
        self._offset, self._length, self._at = offset, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(len(buffer), self._length - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def is_8bit_image(head: bytes) -> bool:
    """Return whether the first bytes are those of an image that Pillow decodes at its full bit depth."""
    if head.startswith(b"\x89PNG"):
        return head[24:25] != b"\x10"  # bit depth; Pillow truncates 16-bit colors to 8 bits
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith((b"\xff\xd8\xff", b"GIF8", b"BM")) or head[4:12] == b"ftypavif"


def world_files(name: str) -> list[str]:
    """Return the candidate paths of the world file of an image: `a.jgw`, `a.jpgw`, `a.jpg.wld`, `a.wld`."""
    stem, suffix = os.path.splitext(name)
    letters = suffix[1:]
    if not letters:
        return [stem + end for end in _WORLD_FILE_SUFFIXES]
    short = f"{letters[0]}{letters[-1]}w"
    return [
        *(f"{stem}.{end}" for end in (short.lower(), short.upper(), f"{letters}w", f"{letters}W")), f"{name}w",
        *(stem + end for end in _WORLD_FILE_SUFFIXES), *(name + end for end in _WORLD_FILE_SUFFIXES),
    ]  # fmt: skip


def has_sidecar(name: str) -> bool:
    """Return whether an image has sidecar files that may hold a georeference, a mask or overviews."""
    sidecars = [name + end for end in (".aux.xml", ".msk", ".ovr")]
    return any(os.path.exists(path) for path in (*sidecars, *world_files(name)))


def projection_file(name: str) -> Path | None:
    """Return the `.prj` file of an image, which names the CRS of its world file."""
    stem, _ = os.path.splitext(name)
    return next((Path(path) for path in (stem + ".prj", stem + ".PRJ", name + ".prj") if os.path.exists(path)), None)


def list_images(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return the files to open. Folders are replaced by the images below them, in natural order of names.

    Subdatasets, archive members and URLs are returned unchanged.

    Raises:
        DataError: a path does not exist, or a folder contains no image.
    """
    images: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [
                Path(folder, name)
                for folder, _, names in os.walk(path)
                for name in names
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
            ]
            if not inside:
                raise DataError(f"{path} contains no image (looked for {', '.join(sorted(IMAGE_SUFFIXES))}).")
            images += sorted(inside, key=_natural)
        elif path.exists() or gdal_name(path) is not None:
            images.append(path)
        else:
            raise DataError(f"{path} does not exist.")
    return images


def _natural(path: Path) -> list[list[tuple[bool, int, str]]]:
    """Return a natural sort key: tile_2 comes before tile_10."""
    return [
        [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.findall(r"\d+|\D+", name)]
        for name in path.parts
    ]
