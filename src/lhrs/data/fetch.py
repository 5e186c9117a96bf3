"""Download of one file over HTTP: resumed where it stopped, verified, and visible under its name only when complete."""

import http.client
import math
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from lhrs.errors import DataError
from lhrs.fingerprint import checksum_of_file
from lhrs.progress import Progress, no_progress

PART = ".part"
"""Suffix of an unfinished file."""
_ETAG = ".etag"
"""Suffix of the version that an unfinished file belongs to."""
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60
_TRIES = 5
"""Attempts without a byte of progress before giving up."""
_RANGE_NOT_SATISFIABLE = 416
_PASSING = (408, 429, 500, 502, 503, 504)
"""Status codes of faults that pass."""


def fetch(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    headers: Mapping[str, str] | None = None,
    progress: Progress = no_progress,
    wait_s: float = 1.0,
) -> Path:
    """Download a file; a file that exists is complete and stays as it is.

    What a stopped download has received is kept as `NAME.part` and continued by the next call, if the server still has
    the same version (`If-Range`).

    Args:
        url: http or https.
        path: where the file is to be.
        size: its bytes, if known.
        checksum: `ALGORITHM:HEX`, see `lhrs.fingerprint.checksum_of_file`.
        headers: further headers. `Authorization` is not sent to another host that the server redirects to.
        progress: shows the megabytes.
        wait_s: seconds before the first of the repeated attempts; doubles each time.

    Raises:
        DataError: the server refuses, the disk is full, or the content is not what the checksum says.
    """
    if path.exists():
        return path
    part = path.with_name(path.name + PART)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, size, headers or {}, progress, wait_s)
        if checksum is not None:
            verify(part, checksum, url)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}. What arrived is kept; repeat the command."
        ) from error
    _etag_file(part).unlink(missing_ok=True)
    part.replace(path)
    return path


def verify(path: Path, checksum: str, source: str, delete: bool = True) -> None:
    """Compare the content of a file with its checksum, see `fetch`.

    Args:
        path: of the file.
        checksum: published one.
        source: of the file, for the message.
        delete: delete a wrong file.

    Raises:
        DataError: they differ.
    """
    actual = checksum_of_file(path, checksum.partition(":")[0])
    if actual != checksum.lower():
        if delete:
            path.unlink()
        discarded = "; it was discarded" if delete else ""
        raise DataError(f"{source} has the checksum {actual}, but {checksum} is published{discarded}.")


def check_space(folder: Path, num_bytes: int) -> None:
    """Check that a disk has room.

    Raises:
        DataError: it has not.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if num_bytes > free:
        raise DataError(
            f"{folder} needs {num_bytes / 1e9:,.1f} GB, but the disk has {free / 1e9:,.1f} GB left: "
            "set LHRS_DATA to a folder on another one."
        )


def _download(
    url: str, part: Path, size: int | None, headers: Mapping[str, str], progress: Progress, wait_s: float
) -> None:
    """Write a whole response to `part`, in as many requests as it takes."""
    total_mb = None if size is None else math.ceil(size / 1e6)
    failures, start = 0, _length(part)
    with progress(f"{part.name.removesuffix(PART)}, MB", total_mb) as bar:
        bar.update(int(start / 1e6))
        while size is None or _length(part) != size or not part.exists():
            before = _length(part)
            reason = _request(url, part, headers, bar)
            if reason is None:
                break
            failures = 0 if _length(part) > before else failures + 1
            if failures >= _TRIES:
                raise DataError(f"{url} broke off: {reason}. What arrived is kept; repeat the command.")
            time.sleep(wait_s * 2**failures)
    if size is not None and _length(part) != size:
        num_bytes = _length(part)
        part.unlink()
        raise DataError(f"{url} has {num_bytes:,} bytes, but {size:,} were announced: the download was discarded.")


def _request(url: str, part: Path, headers: Mapping[str, str], bar: Any) -> str | None:
    """Append what one request returns to `part`; return None when the file is complete, else why it broke off.

    Raises:
        DataError: the server refuses.
    """
    start, version = _length(part), _etag_file(part)
    request_headers = {"User-Agent": "lhrs", **headers}
    if start and version.exists():
        request_headers |= {"Range": f"bytes={start}-", "If-Range": version.read_text()}
    try:
        with _opener.open(urllib.request.Request(url, headers=request_headers), timeout=_TIMEOUT_S) as response:
            is_rest = response.status == http.client.PARTIAL_CONTENT
            _note_version(response.headers, version)
            expected = response.headers.get("Content-Length")
            received = 0
            with part.open("ab" if is_rest else "wb") as file:
                before = file.tell()
                while chunk := response.read(_CHUNK_BYTES):
                    file.write(chunk)
                    received += len(chunk)
                    bar.update(int((before + received) / 1e6) - int((before + received - len(chunk)) / 1e6))
            if expected is not None and received != int(expected):
                return f"{received:,} of {int(expected):,} bytes arrived"
            return None
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE:  # the part is longer than the file
            part.unlink()
            return "the file has changed"
        if error.code in _PASSING:
            return f"HTTP {error.code}"
        raise DataError(f"{url} cannot be downloaded: HTTP {error.code} {error.reason}.") from error
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        return " ".join(str(getattr(error, "reason", error)).split()).rstrip(".") or type(error).__name__


def _note_version(headers: Message, file: Path) -> None:
    """Remember the version that is being downloaded; weak tags cannot be asked for a range."""
    tag = headers.get("ETag") or headers.get("Last-Modified") or ""
    if tag and not tag.startswith("W/"):
        file.write_text(tag)
    else:
        file.unlink(missing_ok=True)


def _etag_file(part: Path) -> Path:
    return part.with_name(part.name + _ETAG)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the credentials of one host from another."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            request.remove_header("Authorization")
        return request


_opener = urllib.request.build_opener(_Redirects)
