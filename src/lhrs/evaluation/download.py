"""Download the data of benchmarks from their authors, once, into a folder that later runs find.

torchgeo, torchvision, huggingface_hub and pooch download and verify the files. A folder is complete if it exists.
"""

import os
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from lhrs.atomic_io import atomic_dir
from lhrs.errors import DataError, LHRSError, MissingExtraError


class Source(Protocol):
    """A place to download data from."""

    @property
    def folder(self) -> str:
        """Name of the folder; benchmarks with the same folder share the download."""

    @property
    def root(self) -> str:
        """The path in it that a benchmark opens."""

    def get(self, folder: Path) -> None:
        """Download into an empty folder."""


@dataclass(frozen=True)
class HubSource:
    """Files of a dataset on the Hugging Face hub; archives are unpacked."""

    repo: str
    files: tuple[str, ...] = ("*",)
    root: str = ""

    @property
    def folder(self) -> str:
        return self.repo.replace("/", "--")

    def get(self, folder: Path) -> None:
        hub = _extra("huggingface_hub")
        snapshot = Path(hub.snapshot_download(self.repo, repo_type="dataset", allow_patterns=list(self.files)))
        for path in sorted(p for p in snapshot.rglob("*") if p.is_file()):
            name = path.relative_to(snapshot)
            if not any(fnmatch(name.as_posix(), pattern) for pattern in self.files):
                continue  # from an earlier download of other files
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".zip":
                _unpack(path, target.parent)
            else:
                _link(path.resolve(), target)


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

    def get(self, folder: Path) -> None:
        dataset = getattr(_extra(self.module), self.name)
        dataset(str(folder), download=True, **({"checksum": True} if self.checks else {}))


@dataclass(frozen=True)
class DoiSource:
    """Files of a record with a DOI, for example on Zenodo; archives are unpacked."""

    doi: str
    root: str = ""

    @property
    def folder(self) -> str:
        return self.doi.rpartition("/")[2]

    def get(self, folder: Path) -> None:
        record = _extra("pooch").create(path=folder, base_url=f"doi:{self.doi}/")
        record.load_registry_from_doi()  # with checksums
        for name in sorted(record.registry):
            path = Path(record.fetch(name))
            if path.suffix in (".zip", ".tar"):
                _unpack(path, folder)
                path.unlink()


def data_home() -> Path:
    """Return the folder of downloaded data: `LHRS_DATA`, or one in the platform's cache."""
    named = os.environ.get("LHRS_DATA")
    return Path(named) if named else Path(_extra("platformdirs").user_cache_dir("lhrs")) / "data"


def data_dir(source: Source) -> Path:
    """Return the folder of a source's data, whether it exists or not."""
    return data_home() / source.folder


def download_if_missing(source: Source) -> Path:
    """Return the folder of a source's data, downloaded if missing.

    Raises:
        DataError: the download failed; no partial data are left.
        MissingExtraError: the extra `bench` is not installed.
    """
    folder = data_dir(source)
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with atomic_dir(folder) as part:
                source.get(part)
        except LHRSError:
            raise
        except Exception as error:  # each library raises its own errors: no network, no such file, a wrong checksum
            reason = " ".join(str(error).split())[:300].rstrip(".")
            raise DataError(
                f"{source.folder} could not be downloaded to {folder}: {reason}. Or write NAME=PATH."
            ) from error
    return folder / source.root


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        what = f"downloading needs {module.partition('.')[0]}: pip install 'lhrs[bench]', or name a folder: NAME=PATH"
        raise MissingExtraError(what) from error


def _unpack(path: Path, folder: Path) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    else:
        with tarfile.open(path) as packed:
            packed.extractall(folder, filter="data")


def _link(path: Path, target: Path) -> None:
    """Link or copy a file; a hard link needs no second copy on the disk."""
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)
