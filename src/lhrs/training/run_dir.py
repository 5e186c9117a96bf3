"""The output folder of a run: its settings, the data it is bound to, its checkpoints and its result.

It contains `run.yaml` (every setting), `data.json` (fingerprints of the data), `run.json` (kind, and whether the run
is finished), `checkpoint-*`, `tensorboard/`, and at the end `model/`. Files are written under a temporary name and
renamed.
"""

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lhrs import fingerprint
from lhrs.atomic_io import write_atomic
from lhrs.config import save_config
from lhrs.errors import ConfigError
from lhrs.training.run_config import RunConfig

MAY_CHANGE = {"output_dir", "num_workers", "logging_steps", "save_steps", "num_threads", "max_unreadable"}
"""Settings that may differ when a run resumes: they do not change its result, except for rounding."""
_LOCATIONS = {"path", "paths"}
"""Keys of `data` that may differ as well: data is identified by its fingerprints, and its folder may move."""
_CONFIG, _DATA, _RECORD = "run.yaml", "data.json", "run.json"


class RunRecord(BaseModel):
    """Contents of `run.json`."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    finished: bool = False
    details: dict[str, Any] = {}
    """Information for runs that start from this one."""


def is_main_process() -> bool:
    """Return whether this is the main process, the only one that writes."""
    return int(os.environ.get("RANK", 0)) == 0


def should_run(config: RunConfig, data: dict[str, str]) -> bool:
    """Return False, with a message, if the run is finished. Write nothing.

    Args:
        config: of the run.
        data: fingerprints of its data, see `lhrs.training.data_fingerprint`.

    Raises:
        ConfigError: the folder contains a run with other settings or other data.
    """
    folder = config.output_dir
    if not (folder / _CONFIG).exists():
        return True
    other = "choose another `output_dir`, or remove that folder."
    settings, before = _binding(config.model_dump(mode="json")), _binding(_read(folder / _CONFIG))
    if changed := [key for key in settings if before.get(key) != settings[key]]:
        raise ConfigError(f"{folder} contains a run with another {changed[0]!r}; {other}")
    if changes := fingerprint.changes(_read(folder / _DATA), data):
        raise ConfigError(f"{folder} contains a run with other data: {changes}. Restore the data, or {other}")
    if not read_record(folder).finished:
        return True
    if is_main_process():
        print(f"{folder} is finished already", file=sys.stderr)
    return False


def _binding(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_locations(value) if key == "data" else value
        for key, value in config.items()
        if key not in MAY_CHANGE
    }


def _without_locations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_locations(item) for key, item in value.items() if key not in _LOCATIONS}
    return [_without_locations(item) for item in value] if isinstance(value, list) else value


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: this folder is not of a run that can resume; remove it.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}.") from error
    return values if isinstance(values, dict) else {}


def init_run_dir(config: RunConfig, record: RunRecord, data: dict[str, str]) -> None:
    """Make the run's folder, or resume in it; called when model and data are known to be there."""
    if is_main_process():
        folder = config.output_dir
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / _RECORD, record.model_dump_json(indent=2) + "\n")
        write_atomic(folder / _DATA, json.dumps(data, indent=0, ensure_ascii=False) + "\n")
        save_config(config, folder / _CONFIG)  # last: a folder with settings has all three


def read_record(folder: Path) -> RunRecord:
    """Read `run.json`.

    Raises:
        ConfigError: it is missing or broken.
    """
    path = folder / _RECORD
    if not path.exists():
        raise ConfigError(f"{folder} is no output folder of a run: {path.name} is missing.")
    try:
        return RunRecord.model_validate(_read(path))
    except ValidationError as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}.") from error


def finished_record(folder: Path, kind: str) -> RunRecord:
    """Read the record of a finished run of one kind.

    Raises:
        ConfigError: there is none.
    """
    record = read_record(folder)
    if record.kind != kind:
        raise ConfigError(f"{folder} contains a {record.kind!r} run, a {kind!r} run is needed.")
    if not record.finished:
        raise ConfigError(f"{folder} is not finished; repeat its command until it is.")
    return record


def mark_finished(folder: Path, record: RunRecord) -> None:
    """Mark the run as finished in `run.json` and on stderr, and keep only its last checkpoint."""
    write_atomic(folder / _RECORD, record.model_copy(update={"finished": True}).model_dump_json(indent=2) + "\n")
    for checkpoint in _checkpoints(folder)[1:]:
        shutil.rmtree(checkpoint, ignore_errors=True)
    print(f"finished: {folder}", file=sys.stderr)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint, or None.

    The Trainer writes its state last. A checkpoint whose state reads as JSON is complete, except for what the other
    processes write: the states of their random number generators.
    """
    return next((path for path in _checkpoints(folder) if _is_complete(path)), None)


def _checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoints, the newest first."""
    steps = [(int(p.name.split("-")[1]), p) for p in folder.glob("checkpoint-*") if p.name.split("-")[1].isdecimal()]
    return [path for _, path in sorted(steps, reverse=True)]


def _is_complete(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return all(zipfile.is_zipfile(file) for file in checkpoint.glob("rng_state*.pth"))
