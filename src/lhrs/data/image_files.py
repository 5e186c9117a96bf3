"""Resolution of image names in annotations to local files, whatever tool and system wrote them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.imagery.reader import open_source

_MAX_TRIES = 3
"""Names per folder that are searched for where images are missing."""


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image, upright by its EXIF orientation, without decoding its pixels.

    Raises:
        DataError: It is missing, or no image.
    """
    reader = open_source(path)
    return reader.width, reader.height


def is_image(path: Path) -> bool:
    """Return whether a file's suffix is one of an image, and its name not that of a hidden file."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def list_folder_images(folder: Path) -> list[Path]:
    """Return the images directly in a folder, sorted by path; none if there is no such folder."""
    return sorted(path for path in folder.iterdir() if is_image(path)) if folder.is_dir() else []


def list_files(folder: Path, *suffixes: str, recursive: bool = False) -> list[Path]:
    """Return the files in a folder whose suffix, in any case, is one of these, sorted; none if there is no folder."""
    paths: Iterable[Path] = (folder.rglob("*") if recursive else folder.iterdir()) if folder.is_dir() else []
    return sorted(p for p in paths if p.suffix.lower() in suffixes and not p.name.startswith("."))


class ImageFinder:
    """Finds images by the names in annotations.

    A name may be absolute, of another machine, with backslashes, with leading folders that do not exist here, without a
    suffix, or with a suffix of another kind or case than the file's.

    Args:
        folders: Where images may be, the likeliest first.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self._stems: dict[Path, dict[str, Path]] = {}

    def find(self, name: str) -> Path | None:
        """Return the image's path, or None if there is none."""
        exact = [folder / name for folder in self.folders]  # also an absolute path
        path = next((path for path in exact if path.is_file()), None)
        if path is not None:
            return path
        tails = list(_tails(name))
        for tail in tails:
            for folder in self.folders:
                if (folder / tail).is_file():
                    return folder / tail
        for tail in tails:
            for folder in self.folders:
                path = self._by_stem((folder / tail).parent).get(_stem(tail.name))
                if path is not None:
                    return path
        return None

    def find_or_expected(self, name: str) -> Path:
        """Return the image's path, or its expected path if it does not exist."""
        path = self.find(name)
        return self.folders[0] / next(_tails(name), PurePosixPath(name)) if path is None else path

    def unlisted(self, names: Iterable[str]) -> list[Path]:
        """Return the images that no name refers to, in the folders of those that names refer to, sorted."""
        listed: dict[Path, set[str]] = defaultdict(set)
        folders: dict[PurePosixPath, list[Path | None]] = defaultdict(list)
        for name in names:
            *_, tail = [PurePosixPath(name), *_tails(name)]
            place = PurePosixPath(name.replace("\\", "/")).parent
            tries = folders[place]
            if len(tries) < _MAX_TRIES and not any(tries):
                path = self.find(name)
                tries.append(path and path.parent)
            if any(tries):
                listed[next(filter(None, tries))].add(_stem(tail.name))
        return sorted(
            image for folder, stems in listed.items() for image in list_folder_images(folder) if image.stem not in stems
        )

    def _by_stem(self, folder: Path) -> dict[str, Path]:
        if folder not in self._stems:
            self._stems[folder] = {path.stem: path for path in reversed(list_folder_images(folder))}
        return self._stems[folder]


def _tails(name: str) -> Iterator[PurePosixPath]:
    """Yield a path without its root or drive, and then without its first folder, its first two, and so on."""
    if "://" in name or name.startswith("/data/local-files/?d="):  # a URL; Label Studio's has the path as a query
        place, _, query = name.partition("?")
        name = unquote(query.removeprefix("d=") if query.startswith("d=") else place.partition("#")[0])
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if parts and len(parts[0]) == 2 and parts[0][1] == ":":  # the drive of a Windows path
        parts = parts[1:]
    for n in range(len(parts)):
        yield PurePosixPath(*parts[n:])


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else name
