"""One resumable job: an output directory that is bound to settings and inputs, with parts and a manifest."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from lhrs import fingerprint
from lhrs.atomic_io import prepare_output_dir, write_atomic
from lhrs.block_executor import BlockT, Engine, map_blocks
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, LHRSError
from lhrs.progress import Progress, no_progress

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
_RECORD = "job.json"
_MAX_SHOWN = 3
"""Settings that an error names."""


class Job:
    """Claims an output directory, or resumes the unfinished job in it.

    A job is bound to its settings and inputs. They are stored in the work directory, `OUT/.work`, until `finish`
    removes it. Used as a context manager, a job that fails before its first part leaves nothing behind.

        with Job(out, config, fingerprint.of_files(paths)) as job:
            parts = job.map_blocks(blocks, function)
            job.write_manifest({"rows": 10}, dropped)
            job.finish()

    Args:
        out: output directory: new, empty, or with an unfinished job of the same settings and inputs.
        config: settings that the result depends on, as JSON can store them.
        inputs: fingerprints of the inputs by their paths; see `fingerprint.of_files`.

    Attributes:
        work_dir: for intermediate files.
        fingerprint: of settings and inputs.
        started_at: time at which the job was started first, in ISO format.

    Raises:
        ConfigError: the directory contains other files, or work with other settings or inputs.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> None:
        self.out = out
        self.work_dir = prepare_output_dir(out)
        self._is_new_dir = not out.exists()
        config = json.loads(json.dumps(config, default=str))
        record = {"config": config, "inputs": dict(inputs or {})}
        path = self.work_dir / _RECORD
        self._is_resumed = path.exists()
        if self._is_resumed:
            before = json.loads(path.read_text(encoding="utf-8"))
            _require_same(out, before, record)
            record = {name: before[name] for name in record}  # parts are bound to what the job was started with
        else:
            before = {**record, "started_at": datetime.now(UTC).isoformat(timespec="seconds")}
            self.work_dir.mkdir(parents=True, exist_ok=True)
            write_atomic(path, json.dumps(before, indent=1, ensure_ascii=False))
        self.fingerprint = fingerprint.of_config(record)
        self.started_at: str = before["started_at"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        has_parts = any(self.work_dir.rglob("[0-9]*.parquet"))
        if isinstance(error, LHRSError) and not self._is_resumed and not has_parts:
            self.discard()

    def map_blocks(
        self,
        blocks: Sequence[BlockT],
        function: "Callable[[BlockT], pa.Table]",
        name: str = "parts",
        *,
        engine: Engine = "local",
        num_workers: int = 1,
        progress: Progress = no_progress,
        description: str = "blocks",
    ) -> list[Path]:
        """Return the Parquet parts of blocks, those that exist as they are; see `lhrs.block_executor.map_blocks`."""
        return map_blocks(
            blocks, function, self.work_dir / name, self.fingerprint,
            engine=engine, num_workers=num_workers, progress=progress, description=description,
        )  # fmt: skip

    def write_manifest(self, manifest: Mapping[str, Any], dropped: Dropped | None = None) -> dict[str, Any]:
        """Write `manifest.json` and return its content; what was left out is counted under `dropped`."""
        content = dict(manifest) if dropped is None else {**manifest, "dropped": dropped.to_dict()}
        write_atomic(self.out / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return content

    def discard(self) -> None:
        """Remove what the job has written: the output directory, or its content if the directory existed before."""
        shutil.rmtree(self.out, ignore_errors=True)
        if not self._is_new_dir:
            self.out.mkdir(parents=True)

    def finish(self) -> None:
        """Remove the work directory: the output is complete."""
        shutil.rmtree(self.work_dir, ignore_errors=True)


def _require_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise what changed since a job was started."""
    if before.get("config") != now["config"]:
        reason = f"with other settings ({_changed_settings(before.get('config', {}), now['config'])})"
    elif changes := fingerprint.changes(before.get("inputs", {}), now["inputs"]):
        reason = f"on other inputs: {changes}"
    else:
        return
    raise ConfigError(f"{out} contains work {reason}; name another folder, or remove it.")


def _changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    shown = [f"{name}: {before.get(name)} before, {now.get(name)} now" for name in names[:_MAX_SHOWN]]
    return ", ".join([*shown, "..."] if len(names) > _MAX_SHOWN else shown)
