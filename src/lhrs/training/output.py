"""The folder of a run: what is in it, whether it is finished, and how the result gets there.

`run.yaml` (every setting), `run.json` (what the run is, and whether it is finished), `checkpoint-*`, `tensorboard/`,
`samples.jsonl`, and at the end the result. Everything is written under a temporary name and renamed.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from lhrs.config import save
from lhrs.errors import CheckpointError, ConfigError, DataError
from lhrs.files import write_file
from lhrs.training.base import Run
from lhrs.training.run import ExpertsConfig, LoraConfig, ModelConfig

MAY_CHANGE = {"out", "workers", "log_every", "save_every", "threads"}
"""Settings that may differ when a stopped run is resumed: they do not change what is learned, beyond rounding."""


class Record(BaseModel):
    """What `run.json` says."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    finished: bool = False
    system: str | None = None
    stage: int | None = None
    model: ModelConfig | None = None
    """What stage 1 began with; `learned.safetensors` holds what has changed since."""
    learned: list[str] = []
    """Parts in `learned.safetensors`."""
    lora: LoraConfig | None = None
    experts: ExpertsConfig | None = None


def is_main_process() -> bool:
    """Tell whether this process writes; of several processes one does."""
    return int(os.environ.get("RANK", 0)) == 0


def is_to_do(run: Run) -> bool:
    """Return False, and say so, if the run is finished already; write nothing.

    Raises:
        ConfigError: the folder holds another run.
    """
    previous = run.out / "run.yaml"
    if not previous.exists():
        return True
    settings, before = run.model_dump(mode="json"), yaml.safe_load(previous.read_text(encoding="utf-8"))
    changed = [k for k in settings if k not in MAY_CHANGE and before.get(k) != settings[k]]
    if changed:
        raise ConfigError(
            f"{run.out} holds a run with another {changed[0]!r}; choose another `out`, or remove that folder."
        )
    finished = (run.out / "run.json").exists() and read_record(run.out).finished
    if finished and is_main_process():
        print(f"{run.out} is finished already", file=sys.stderr)
    return not finished


def open_run(run: Run, record: Record) -> None:
    """Make the run's folder, or go on in it; called when model and data are known to be there."""
    if is_main_process():
        run.out.mkdir(parents=True, exist_ok=True)
        write_file(run.out / "run.json", record.model_dump_json(indent=2) + "\n")
        save(run, run.out / "run.yaml")


def read_record(folder: Path) -> Record:
    """Read `run.json`.

    Raises:
        ConfigError: there is none, or it is none of ours.
    """
    path = folder / "run.json"
    try:
        return Record.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"{folder} is no folder of a run: {path.name} is missing.") from None
    except (OSError, ValueError, ValidationError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}.") from error


def finished_record(folder: Path, kind: str) -> Record:
    """Read the record of a finished run of one kind.

    Raises:
        ConfigError: there is none.
    """
    record = read_record(folder)
    if record.kind != kind:
        raise ConfigError(f"{folder} holds a {record.kind!r} run, a {kind!r} run is needed.")
    if not record.finished:
        raise ConfigError(f"{folder} is not finished; run its `lhrs train` command again to the end.")
    return record


def mark_finished(folder: Path, record: Record) -> None:
    """Say in `run.json`, and to who waits, that the result is there."""
    write_file(folder / "run.json", record.model_copy(update={"finished": True}).model_dump_json(indent=2) + "\n")
    print(f"finished: {folder}", file=sys.stderr)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        DataError: it is missing or broken.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def put_in(module: nn.Module, path: Path) -> None:
    """Put a safetensors file into a module; `module.state_dict` says what has to be there.

    Raises:
        DataError: the file is missing or broken.
        CheckpointError: it is of another module.
    """
    found, expected = load_tensors(path), module.state_dict()
    if wrong := sorted(expected.keys() ^ found.keys()):
        side = "only in the run" if wrong[0] in expected else "not in the run"
        raise CheckpointError(f"{path} does not fit: {wrong[0]} is {side}.")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, the run needs {tuple(expected[name].shape)}"
            raise CheckpointError(f"{path} does not fit: {name} is {shapes}.")
    module.load_state_dict(found, strict=False)


def absolute(model: ModelConfig) -> ModelConfig:
    """Make local folders absolute, so that a later stage finds them from anywhere."""
    found: dict[str, Any] = {
        name: os.path.abspath(value)
        for name in ("encoder", "language_model", "folder")
        if (value := getattr(model, name)) and Path(value).exists()
    }
    return model.model_copy(update=found)
