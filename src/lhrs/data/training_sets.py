"""Training sets that the public can download: what each has, where its parts are, and which steps a person must do.

The table is `lhrs/resources/training_sets.yaml`. Run files name its sets, see `locate`.
"""

import os
import shutil
from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, model_validator

from lhrs.config import Config
from lhrs.data.archives import is_archive, unpack
from lhrs.data.download import (
    DoiSource,
    HubSource,
    Source,
    UrlSource,
    clear_marks,
    data_home,
    one_line_errors,
    resumable_dir,
)
from lhrs.data.fetch import verify
from lhrs.errors import ConfigError, DataError, MissingExtraError
from lhrs.progress import Progress, no_progress


class ManualStep(Config):
    """A part that no program may download: a person gets it and names it by `lhrs data get NAME --from PATH`."""

    steps: str
    """What to do, in one line."""
    file: str
    """Pattern of the name of what the person gets."""
    checksum: str | None = None
    """See `lhrs.fingerprint.checksum_of_file`."""
    into: str
    """Place in the set's folder: of a file, or of the content of an archive or a folder."""


class Part(Config):
    """A part that is downloaded: one of `hub`, `doi` and `url`."""

    hub: str | None = None
    """Dataset on the Hugging Face hub."""
    revision: str | None = None
    """Commit of that dataset; None is the newest."""
    doi: str | None = None
    url: str | None = None
    files: list[str] = ["*"]
    """Names or patterns, for `hub` and `doi`."""
    checksum: str | None = None
    """Published checksum of a single file, see `lhrs.fingerprint.checksum_of_file`. The hub's and Zenodo's own are
    compared anyway."""
    size: int | None = None
    """Bytes of the file at `url`."""
    into: str = "."
    """Place in the set's folder."""

    @model_validator(mode="after")
    def _is_one(self) -> "Part":
        if sum(place is not None for place in (self.hub, self.doi, self.url)) != 1:
            raise ValueError("a part has one of `hub`, `doi` and `url`")
        return self

    @property
    def source(self) -> Source:
        """What downloads it."""
        patterns = tuple(self.files)
        if self.hub is not None:
            return HubSource(self.hub, patterns, revision=self.revision, checksum=self.checksum)
        return DoiSource(self.doi, files=patterns) if self.doi is not None else self._at_url()

    @property
    def where(self) -> str:
        """Place in words, for the table."""
        if self.hub is not None:
            return f"huggingface.co/datasets/{self.hub}"
        return f"doi.org/{self.doi}" if self.doi is not None else str(self.url).partition("://")[2]

    def _at_url(self) -> Source:
        assert self.url is not None
        return UrlSource(self.url, self.checksum, self.size)


class TrainingSet(Config):
    """A row of the table."""

    name: str
    stages: list[str]
    """Recipes in `recipes/` that train on it."""
    about: str
    license: str
    """Of texts and images, as their sources state it."""
    size_gb: float | None = None
    """Size of the downloads; None is not known."""
    citation: str
    homepage: str
    folder: str | None = None
    """Name of the folder; sets with the same one share its parts. None is `name`."""
    root: str = ""
    """What a reader opens, in the folder."""
    format: str | None = None
    """Reader; None detects it."""
    parts: list[Part] = []
    manual: list[ManualStep] = []
    note: str | None = None

    @property
    def path(self) -> Path:
        """Folder of the set, whether it is downloaded or not."""
        return data_home() / (self.folder or self.name)

    @property
    def is_downloaded(self) -> bool:
        """Whether the set is there, as far as its folder is known without the extra `bench`."""
        try:
            return self.path.is_dir()
        except MissingExtraError:
            return False

    @property
    def checksums(self) -> str:
        """Which checksums are compared, in words."""
        kinds = ["sha256" if part.hub else "md5" for part in self.parts if part.hub or part.doi]
        published = [*(part.checksum for part in self.parts), *(step.checksum for step in self.manual)]
        kinds += [checksum.partition(":")[0] for checksum in published if checksum]
        return ", ".join(dict.fromkeys(kinds)) or "none published"


class _Table(Config):
    sets: list[TrainingSet] = Field(min_length=1)


@cache
def list_sets() -> tuple[TrainingSet, ...]:
    """Return the rows of the table."""
    text = (files("lhrs") / "resources" / "training_sets.yaml").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return tuple(_Table(sets=[TrainingSet(name=name, **row) for name, row in rows.items()]).sets)


def get_set(name: str) -> TrainingSet:
    """Return the set of a name.

    Raises:
        ConfigError: there is none.
    """
    known = {row.name: row for row in list_sets()}
    if name not in known:
        nearest = get_close_matches(name, known, n=1)
        hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
        raise ConfigError(f"there is no training set {name!r}.{hint} `lhrs data list` shows all.")
    return known[name]


def locate(path: str | os.PathLike[str]) -> Path:
    """Return a path that a run file names: as it is, or that of a downloaded set if there is no such file or folder.

    Raises:
        DataError: the set is not downloaded.
    """
    row = None if Path(path).exists() else next((row for row in list_sets() if row.name == os.fspath(path)), None)
    return Path(path) if row is None else locate_sets([row.name])[0]


def locate_sets(names: Sequence[str]) -> list[Path]:
    """Return what readers open of downloaded sets.

    Raises:
        ConfigError: one is unknown.
        DataError: some are not downloaded; one line names all of them.
    """
    rows = [get_set(name) for name in names]
    if missing := [row.name for row in rows if not row.path.is_dir()]:
        noun = "training sets are" if len(missing) > 1 else "training set is"
        raise DataError(f"{len(missing)} {noun} not downloaded: lhrs data get {' '.join(missing)}")
    return [row.path / row.root for row in rows]


def get(name: str, user_paths: Sequence[Path] = (), progress: Progress = no_progress) -> Path:
    """Return what a reader opens of a set, downloaded if missing.

    Args:
        name: of the set.
        user_paths: files and folders that the user got by the manual steps. Archives are unpacked, other files copied,
            folders linked.
        progress: shows the megabytes.

    Raises:
        ConfigError: there is no such set, or a path of the user is not part of it.
        DataError: a download failed, or a manual step is to be done; what arrived is kept.
    """
    row = get_set(name)
    folder = row.path
    if not folder.is_dir():
        _check_user_paths(row, user_paths)
        with resumable_dir(folder) as unfinished, one_line_errors(name, folder, "Repeat the command to continue."):
            for part in row.parts:
                (unfinished / part.into).mkdir(parents=True, exist_ok=True)
                part.source.get(unfinished / part.into, progress)
            _take(row, user_paths, unfinished)
            for part in row.parts:
                clear_marks(unfinished / part.into)
    return folder / row.root


def missing_steps(row: TrainingSet, folder: Path) -> list[ManualStep]:
    """Return the manual steps whose result is not in a folder yet."""
    return [step for step in row.manual if not (folder / step.into).exists()]


def _check_user_paths(row: TrainingSet, user_paths: Sequence[Path]) -> None:
    for path in user_paths:
        if not path.exists():
            raise DataError(f"{path} does not exist.")
        if _step_of(row, path) is None:
            expected = ", ".join(step.file for step in row.manual) or "nothing: all of it is downloaded"
            raise ConfigError(f"{path} is no part of {row.name}, which expects {expected}.")


def _step_of(row: TrainingSet, path: Path) -> ManualStep | None:
    """Return the step that asks for a path: by its name, or the only one there is."""
    matching = [step for step in row.manual if fnmatch(path.name.lower(), step.file.lower())]
    return matching[0] if matching else row.manual[0] if len(row.manual) == 1 else None


def _take(row: TrainingSet, user_paths: Sequence[Path], folder: Path) -> None:
    """Put what a person got into its place.

    Raises:
        DataError: a checksum is wrong, or steps are left.
    """
    for path in user_paths:
        step = _step_of(row, path)
        if step is not None:
            _put(path, folder / step.into, step.checksum)
    if left := missing_steps(row, folder):
        steps = " ".join(f"({n}) {step.steps} Then: --from {step.file}" for n, step in enumerate(left, 1))
        raise DataError(
            f"{row.name} needs {len(left)} manual step{'s' if len(left) > 1 else ''}: {steps}; "
            f"all of them in one call of `lhrs data get {row.name} --from PATH`, or one after the other."
        )


def _put(path: Path, target: Path, checksum: str | None) -> None:
    """Unpack, copy or link something to `target`, which appears only when it is whole."""
    if path.is_file() and checksum is not None:
        verify(path, checksum, str(path), delete=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.part")
    if path.is_dir():
        unfinished.unlink(missing_ok=True)
        unfinished.symlink_to(path.absolute(), target_is_directory=True)
    elif is_archive(path.name):
        unpack([path], unfinished)
    else:
        shutil.copyfile(path, unfinished)
    if target.is_dir() and not target.is_symlink():  # of an earlier call; what the user names now counts
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    unfinished.replace(target)
