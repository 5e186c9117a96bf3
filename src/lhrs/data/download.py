"""Download data once, into a folder that later runs find.

A folder is complete if it exists. Until then its files are in `.NAME.part`, from which a stopped download continues.
huggingface_hub and pooch list the files of a repository or record with their checksums; torchgeo and torchvision
download by themselves.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lhrs.atomic_io import atomic_dir
from lhrs.data.archives import group_pieces, is_archive, unpack
from lhrs.data.fetch import check_space, fetch, verify
from lhrs.errors import DataError, LHRSError, MissingExtraError
from lhrs.progress import Progress, no_progress

_DONE = ".downloaded"
"""Folder inside an unfinished one that has an empty file for every archive that was unpacked."""


_LIBRARY = ".library"
"""Folder inside an unfinished one in which a library downloads."""


class Source(Protocol):
    """A place to download data from."""

    @property
    def folder(self) -> str:
        """Name of the folder; users of the same folder share the download."""

    @property
    def root(self) -> str:
        """The path in it that a reader opens."""

    def get(self, folder: Path, progress: Progress = no_progress) -> None:
        """Download into a folder, which is empty or has what an earlier call left."""


class RemoteFile(NamedTuple):
    """A file to download."""

    name: str
    """Path in the folder."""
    url: str
    size: int | None = None
    """Bytes, if known."""
    checksums: Sequence[str] = ()
    """See `lhrs.data.fetch.fetch`."""


@dataclass(frozen=True)
class HubSource:
    """Files of a dataset on the Hugging Face hub; archives are unpacked."""

    repo: str
    files: tuple[str, ...] = ("*",)
    root: str = ""
    revision: str | None = None
    checksum: str | None = None
    """A checksum that was published elsewhere than on the hub, for a single file."""

    @property
    def folder(self) -> str:
        return self.repo.replace("/", "--")

    def get(self, folder: Path, progress: Progress = no_progress) -> None:
        hub = _extra("huggingface_hub")
        api = hub.HfApi()
        try:
            commit = api.dataset_info(self.repo, revision=self.revision).sha
            listed = api.list_repo_tree(self.repo, recursive=True, revision=commit, repo_type="dataset")
            files = [entry for entry in listed if isinstance(entry, hub.hf_api.RepoFile)]
        except hub.errors.GatedRepoError as error:
            page = f"https://huggingface.co/datasets/{self.repo}"
            raise DataError(f"{self.repo} has terms to accept: do so at {page} and run `hf auth login`.") from error
        wanted = [file for file in files if any(fnmatch(file.path, pattern) for pattern in self.files)]
        for pattern in self.files:
            if not any(fnmatch(file.path, pattern) for file in files):
                raise DataError(f"{self.repo} on the hub has no file {pattern}; it has {len(files):,} others.")
        published = () if self.checksum is None else (self.checksum,)
        remote = [
            RemoteFile(
                file.path,
                hub.hf_hub_url(self.repo, file.path, repo_type="dataset", revision=commit, endpoint=api.endpoint),
                file.size,
                (f"sha256:{file.lfs.sha256}" if file.lfs else f"git-sha1:{file.blob_id}", *published),
            )
            for file in wanted
        ]
        get_files(remote, folder, hub.utils.build_hf_headers(), progress)


@dataclass(frozen=True)
class LibrarySource:
    """A dataset class of torchgeo or torchvision that downloads its data."""

    module: str
    name: str
    root: str
    checks: bool = True
    """Whether its constructor has the argument `checksum`."""

    @property
    def folder(self) -> str:
        return self.name

    def get(self, folder: Path, progress: Progress = no_progress) -> None:
        dataset = getattr(_extra(self.module), self.name)
        with atomic_dir(folder / _LIBRARY) as part:  # these libraries do not continue a stopped download
            dataset(str(part), download=True, **({"checksum": True} if self.checks else {}))
            for path in sorted(part.iterdir()):
                path.replace(folder / path.name)
        (folder / _LIBRARY).rmdir()


@dataclass(frozen=True)
class DoiSource:
    """Files of a record with a DOI, for example on Zenodo; archives are unpacked."""

    doi: str
    root: str = ""
    files: tuple[str, ...] = ("*",)

    @property
    def folder(self) -> str:
        return self.doi.rpartition("/")[2]

    def get(self, folder: Path, progress: Progress = no_progress) -> None:
        pooch = _extra("pooch")
        record = pooch.create(path=folder, base_url=f"doi:{self.doi}/")
        record.load_registry_from_doi()  # with checksums
        repository = pooch.downloaders.doi_to_repository(self.doi)
        names = sorted(name for name in record.registry if any(fnmatch(name, pattern) for pattern in self.files))
        remote = [
            RemoteFile(name, repository.download_url(name), None, (_with_algorithm(record.registry[name]),))
            for name in names
        ]
        get_files(remote, folder, {}, progress)


@dataclass(frozen=True)
class UrlSource:
    """A file at an address; an archive is unpacked."""

    url: str
    checksum: str | None = None
    size: int | None = None
    root: str = ""

    @property
    def folder(self) -> str:
        return self.url.rpartition("/")[2].partition(".")[0]

    def get(self, folder: Path, progress: Progress = no_progress) -> None:
        checksums = () if self.checksum is None else (self.checksum,)
        get_files([RemoteFile(self.url.rpartition("/")[2], self.url, self.size, checksums)], folder, {}, progress)


def get_files(files: Sequence[RemoteFile], folder: Path, headers: Mapping[str, str], progress: Progress) -> None:
    """Download files that are not there yet; unpack archives, once, and remove them.

    Raises:
        DataError: see `lhrs.data.fetch.fetch`; or there is not enough room.
    """
    by_name = {file.name: file for file in files}
    groups = [group for group in group_pieces(by_name) if not (folder / _DONE / _marker(group)).exists()]
    missing = [by_name[n] for group in groups for n in group if not (folder / n).exists()]
    check_space(folder, sum((file.size or 0) * (1 + is_archive(file.name)) for file in missing))
    for group in groups:
        for name in group:
            file, path = by_name[name], folder / name
            first, *others = file.checksums or (None,)
            fetch(file.url, path, size=file.size, checksum=first, headers=headers, progress=progress)
            for checksum in others:
                verify(path, str(checksum), file.url)
        paths = [folder / name for name in group]
        if is_archive(group[0]):
            unpack(paths, paths[0].parent)
            (folder / _DONE).mkdir(exist_ok=True)
            (folder / _DONE / _marker(group)).touch()
            for path in paths:
                path.unlink()


def data_home() -> Path:
    """Return the folder of downloaded data: `LHRS_DATA`, or one in the platform's cache."""
    named = os.environ.get("LHRS_DATA")
    return Path(named) if named else Path(_extra("platformdirs").user_cache_dir("lhrs")) / "data"


def data_dir(source: Source) -> Path:
    """Return the folder of a source's data, whether it exists or not."""
    return data_home() / source.folder


def download_if_missing(source: Source, progress: Progress = no_progress) -> Path:
    """Return the folder of a source's data, downloaded if missing.

    Raises:
        DataError: the download failed; what arrived is kept for the next call.
        MissingExtraError: the extra `bench` is not installed.
    """
    folder = data_dir(source)
    if not folder.exists():
        with resumable_dir(folder) as part, one_line_errors(source.folder, folder, "Or write NAME=PATH."):
            source.get(part, progress)
            clear_marks(part)
    return folder / source.root


@contextmanager
def resumable_dir(folder: Path) -> Iterator[Path]:
    """Yield `.NAME.part`, which becomes `folder` at the end; after an error it is kept, unless nothing is in it."""
    part = folder.with_name(f".{folder.name}.part")
    part.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(folder)
    finally:
        if part.exists() and not any(path.is_file() for path in part.rglob("*")):
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def one_line_errors(name: str, folder: Path, hint: str) -> Iterator[None]:
    """Turn what libraries raise into one line with a hint: no network, no such file, a wrong checksum."""
    try:
        yield
    except LHRSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise DataError(f"{name} could not be downloaded to {folder}: {reason}. {hint}") from error


def clear_marks(folder: Path) -> None:
    """Remove the notes about unpacked archives from a finished folder."""
    shutil.rmtree(folder / _DONE, ignore_errors=True)


def _marker(group: Sequence[str]) -> str:
    return group[0].replace("/", "--")


def _with_algorithm(checksum: str) -> str:
    """Return a checksum of pooch, where none is SHA-256."""
    return checksum if ":" in checksum else f"sha256:{checksum}"


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        what = f"downloading needs {module.partition('.')[0]}: pip install 'lhrs[bench]', or name a folder: NAME=PATH"
        raise MissingExtraError(what) from error
