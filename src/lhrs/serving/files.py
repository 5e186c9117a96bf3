"""Uploaded files: a private folder with expiry, and access limited to the key that uploaded the file."""

import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lhrs.serving.errors import APIError
from lhrs.serving.settings import Settings

FORM = 2**16
"""Maximum size in bytes of the form data around a file."""


@dataclass(frozen=True)
class StoredFile:
    """A file and its record in OpenAI's API."""

    id: str
    owner: str
    path: Path
    size: int
    filename: str
    purpose: str
    created: int
    expires: int

    @property
    def public(self) -> dict[str, Any]:
        """The file's record."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created,
            "expires_at": self.expires,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class FileStore:
    """Stores files in a new folder that only this user can access, and removes it at the end.

    Methods except `write` are called on the event loop.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="lhrs-serve-"))
        self._files: dict[str, StoredFile] = {}
        self._reserved = 0

    def __len__(self) -> int:
        return len(self._files)

    @property
    def used(self) -> int:
        """Bytes stored or reserved."""
        return self._reserved + sum(file.size for file in self._files.values())

    @contextmanager
    def reserved(self, size: int) -> Iterator[None]:
        """Reserve space in bytes for the duration of an upload.

        Raises:
            APIError: it is too large, or there is no room.
        """
        self.expire()
        self._check(size, FORM)
        self._reserved += size
        try:
            yield
        finally:
            self._reserved -= size

    def write(self, source: BinaryIO) -> tuple[str, Path, int]:
        """Copy an upload into the folder; return a new id, its path and its size in bytes."""
        identity = f"file-{secrets.token_hex(16)}"
        folder = self._folder / identity  # one folder per file: drivers may read sidecar files
        folder.mkdir(mode=0o700)
        path = folder / "image"
        with path.open("xb") as out:
            shutil.copyfileobj(source, out, 2**20)
            return identity, path, out.tell()

    def add(self, identity: str, path: Path, size: int, owner: str, filename: str, purpose: str) -> StoredFile:
        """Register a file that was written.

        Raises:
            APIError: the file exceeds its declared size or a limit, or there is no space. It is removed.
        """
        try:
            self._check(size)
        except APIError:
            self.discard(identity)
            raise
        now = int(time.time())
        file = StoredFile(
            identity, owner, path, size, filename, purpose, now, now + int(self._settings.file_ttl_s)
        )  # fmt: skip
        self._files[identity] = file
        return file

    def _check(self, size: int, around: int = 0) -> None:
        limit = self._settings.max_file
        if size > limit + around:
            raise APIError(413, f"the file has more than {limit} bytes", "file", "file_too_large")
        if self.used + size > self._settings.quota or len(self._files) >= self._settings.max_files:
            raise APIError(
                429, "there is no room for more files: delete some, or try later", "file", "insufficient_quota", 60
            )

    def get(self, identity: str, owner: str) -> StoredFile:
        """Return a file.

        Raises:
            APIError: this owner has no file of that id.
        """
        self.expire()
        file = self._files.get(identity)
        if file is None or file.owner != owner:
            raise APIError(404, "there is no file of that id", "file_id", "file_not_found")
        return file

    def list(self, owner: str) -> list[StoredFile]:
        """Return an owner's files, oldest first."""
        self.expire()
        return [file for file in self._files.values() if file.owner == owner]

    def delete(self, identity: str, owner: str) -> None:
        """Remove a file.

        Raises:
            APIError: see `get`.
        """
        self.discard(self.get(identity, owner).id)

    def discard(self, identity: str) -> None:
        """Remove a file, or the remains of one that was not registered."""
        self._files.pop(identity, None)
        shutil.rmtree(self._folder / identity, ignore_errors=True)

    def expire(self) -> None:
        """Remove expired files."""
        now = time.time()
        for file in [file for file in self._files.values() if file.expires <= now]:
            self.discard(file.id)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
