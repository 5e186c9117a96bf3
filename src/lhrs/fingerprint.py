"""Fingerprints: short hashes that tell whether files, folders, models or settings have changed."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_SAMPLE_BYTES = 1 << 20
"""Read from each end of a large file of weights by `of_model`."""


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
        return of_config(of_files((file for file in Path(path).rglob("*") if file.is_file()), content))
    if content:
        return sha256_of_file(path)[:16]
    status = os.stat(path)
    return of_config([os.path.abspath(path), status.st_size, status.st_mtime_ns])


def of_files(paths: Iterable[str | os.PathLike[str]], content: bool = False) -> dict[str, str]:
    """Return the fingerprint of each file by its path, in sorted order; see `of_file` and `changes`."""
    return {path: of_file(path, content) for path in sorted({os.fspath(path) for path in paths})}


def of_relative_files(paths: Iterable[str | os.PathLike[str]], root: str | os.PathLike[str]) -> dict[str, str]:
    """Return the fingerprint of each file's size and time of change by its path from `root`, which may be moved."""
    names = {os.path.relpath(path, root): path for path in paths}
    return {name: of_config(_size_and_time(names[name])) for name in sorted(names)}


def _size_and_time(path: str | os.PathLike[str]) -> list[int] | None:
    if not os.path.exists(path):
        return None
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


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


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Return in words how two results of `of_files` differ, such as "2 files were removed (a.png, ...)"; "" if not."""
    removed = [name for name in before if name not in after]
    added = [name for name in after if name not in before]
    changed = [name for name in before if name in after and before[name] != after[name]]
    words = []
    for names, verb in ((removed, "removed"), (added, "added"), (changed, "changed")):
        if names:
            one = "file was" if len(names) == 1 else "files were"
            words.append(f"{len(names):,} {one} {verb} ({Path(names[0]).name}{', ...' if len(names) > 1 else ''})")
    return ", ".join(words)
