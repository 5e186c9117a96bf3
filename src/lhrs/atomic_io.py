"""Files that are written whole or not at all."""

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
"""Folder inside an unfinished result that holds what is done so far."""


def prepare_output_dir(out: Path) -> Path:
    """Return the work folder of a result that is to be made, or to be gone on with.

    Raises:
        ConfigError: `out` holds other things.
    """
    work = out / WORK
    if out.exists() and not (out.is_dir() and (work.exists() or not any(out.iterdir()))):
        raise ConfigError(f"{out} exists already; name another folder, or remove it.")
    return work


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` to a temporary name beside `path` and rename it; text as UTF-8.

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
    """Give a temporary name beside `path` that becomes `path` at the end; after an error it is gone."""
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def save_safetensors(path: Path, state: "dict[str, Tensor]") -> None:
    """Write tensors of any device to a safetensors file that whoever may read its folder's other files can read."""
    from safetensors.torch import save_file

    with atomic_write(path) as part:
        part.touch()
        mode = part.stat().st_mode  # what others may do here; safetensors' own files are closed to them
        save_file({name: t.detach().cpu().contiguous() for name, t in state.items()}, part, metadata={"format": "pt"})
        part.chmod(mode)


@contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` at the end, in place of what was there; after an error it is gone."""
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
