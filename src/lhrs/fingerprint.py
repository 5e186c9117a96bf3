"""Fingerprints: short hashes that change with files, folders, models or settings."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_SAMPLE_BYTES = 1 << 20
"""Read from each end of a large file of weights by `of_model`."""
_HASHED_BYTES, _HASHED_FILES = 256 << 20, 20_000
"""Largest set of files whose content `of_files` hashes: below a second on one core."""


def of_bytes(*parts: bytes | memoryview) -> str:
    """Return 16 hex digits of SHA-256 over byte strings."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(memoryview(part).nbytes.to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:16]


def of_config(config: Any) -> str:
    """Return the fingerprint of what JSON can hold (paths and other objects by their text); keys in any order."""
    return of_bytes(json.dumps(config, sort_keys=True, ensure_ascii=False, default=str).encode())


def of_file(path: str | os.PathLike[str], content: bool = False) -> str:
    """Return the fingerprint of a file, or of all files in a folder.

    Args:
        path: of the file; a URL or a virtual path of GDAL counts by its text.
        content: hash all bytes, the same on every machine; else size and time of change, at no cost.
    """
    if not os.path.exists(path):
        return of_config(os.fspath(path))
    if os.path.isdir(path):
        files = sorted(file for file in Path(path).rglob("*") if file.is_file())
        return of_config([(os.fspath(file), of_file(file, content)) for file in files])
    if content:
        return sha256_of_file(path)[:16]
    status = os.stat(path)
    return of_config([os.path.abspath(path), status.st_size, status.st_mtime_ns])


def of_files(paths: Iterable[str | os.PathLike[str]], root: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Return `SIZE:TIME:CONTENT` of each file by its path, in sorted order, for `changes`.

    CONTENT is a hash, which recognizes a file that was copied or restored with another time of change. It is empty in
    sets above 256 MiB or 20,000 files, where only size and time count. Folders, URLs and virtual paths of GDAL are as
    in `of_file`.

    Args:
        paths: of the files.
        root: folder from which the paths in the result are relative; it may be moved. None leaves them as they are.
    """
    name_of = os.fspath if root is None else relative_to(root)
    files = {name_of(path): os.fspath(path) for path in paths}
    states = {name: _stat(files[name]) for name in sorted(files)}
    sizes = [state.st_size for state in states.values() if state is not None]
    has_content = len(sizes) <= _HASHED_FILES and sum(sizes) <= _HASHED_BYTES
    return {
        name: of_config(name) if state is None
        else of_file(files[name]) if stat.S_ISDIR(state.st_mode)
        else f"{state.st_size}:{state.st_mtime_ns}:{_content(files[name]) if has_content else ''}"
        for name, state in states.items()
    }  # fmt: skip


def relative_to(root: str | os.PathLike[str]) -> Callable[[str | os.PathLike[str]], str]:
    """Return a function that makes paths relative to a folder; fast for many files of few folders."""
    prefixes: dict[str, str] = {}

    def relative(path: str | os.PathLike[str]) -> str:
        folder, separator, name = os.fspath(path).rpartition(os.sep)
        if folder not in prefixes:
            parent = os.path.relpath(folder + separator or os.curdir, root)
            prefixes[folder] = "" if parent == os.curdir else parent + os.sep
        return prefixes[folder] + name

    return relative


def _content(path: str) -> str:
    try:
        return sha256_of_file(path)[:16]
    except OSError:  # whoever opens the file reports why
        return ""


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):  # also a URL or a virtual path of GDAL
        return None


def of_model(folder: Path, name: str) -> str:
    """Return the fingerprint of a model: its name, and all files of its folder if there is one.

    Of a file above 2 MiB the size, the first and the last MiB count.
    """
    digest = hashlib.sha256(name.encode())
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}:{path.stat().st_size}".encode())
            with path.open("rb") as file:
                digest.update(file.read(_SAMPLE_BYTES))
                if path.stat().st_size > 2 * _SAMPLE_BYTES:
                    file.seek(-_SAMPLE_BYTES, 2)
                    digest.update(file.read())
    return digest.hexdigest()[:16]


def sha256_of_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_of_file(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_of_file(path: str | os.PathLike[str], algorithm: str) -> str:
    """Return `ALGORITHM:HEX` of a file's bytes, as published checksums are written.

    Args:
        path: of the file.
        algorithm: of `hashlib`, or `git-sha1`, by which git and the Hugging Face hub name small files.
    """
    with open(path, "rb") as file:
        if algorithm != "git-sha1":
            return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size)
        while chunk := file.read(_SAMPLE_BYTES):
            digest.update(chunk)
        return f"{algorithm}:{digest.hexdigest()}"


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return in words how two results of `of_files` differ, such as "2 files were removed (a.png, ...)"; "" if not.

    A file with another time of change but the same content, where that was hashed, has not changed.
    """
    removed = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    changed = [name for name in before if name in after and not _is_same(before[name], after[name])]
    words = []
    for names, verb in ((removed, "removed"), (added, "added"), (changed, "changed")):
        if names:
            subject = "file was" if len(names) == 1 else "files were"
            words.append(f"{len(names):,} {subject} {verb} ({Path(names[0]).name}{', ...' if len(names) > 1 else ''})")
    return ", ".join(words)


def _is_same(before: str, after: str) -> bool:
    """Return whether two values of `of_files` are of the same content; fields after the first three count too."""
    if before == after:
        return True
    fields = [value.split(":") for value in (before, after)]
    has_content = all(len(value) >= 3 and value[2] for value in fields)
    return has_content and fields[0][0] == fields[1][0] and fields[0][2:] == fields[1][2:]
