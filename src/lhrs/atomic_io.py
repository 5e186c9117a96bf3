"""Atomic writing of files and folders."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lhrs.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

WORK = ".work"
"""Folder inside an unfinished result that contains the finished parts."""


def prepare_output_dir(out: Path) -> Path:
    """Return the work folder of a new or resumed result.

    Raises:
        ConfigError: `out` contains anything else.
    """
    work = out / WORK
    if out.exists() and not (out.is_dir() and (work.exists() or not any(out.iterdir()))):
        raise ConfigError(f"{out} exists already; name another folder, or remove it.")
    return work


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` to a temporary file next to `path` and rename it; text is UTF-8.

    Raises:
        DataError: the file cannot be written; nothing is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path} cannot be written: {error.strerror}.") from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` that is renamed to `path` at the end, or removed after an error."""
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save_safetensors(path: Path, state: "dict[str, Tensor]") -> None:
    """Write tensors of any device to a safetensors file with the default permissions of new files."""
    from safetensors.torch import save_file

    with atomic_write(path) as part:
        part.touch()
        mode = part.stat().st_mode  # default permissions; safetensors makes its files private
        save_file({name: t.detach().cpu().contiguous() for name, t in state.items()}, part, metadata={"format": "pt"})
        part.chmod(mode)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `path` at the end, or is removed after an error."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
