"""`/v1/scenes`: `lhrs scene` on uploaded files, one at a time, in a separate process."""

import asyncio
import json
import math
import os
import secrets
import shutil
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from lhrs.imagery.geo_image import GeoImage
from lhrs.imagery.windows import num_windows
from lhrs.inference.model_family import ModelFamily
from lhrs.serving.api_types import Name
from lhrs.serving.errors import APIError
from lhrs.serving.files import FileStore, StoredFile
from lhrs.serving.image_worker import GDAL_LIMITS
from lhrs.serving.logs import log
from lhrs.serving.settings import Settings

RESULTS = {"answers.geojson": "application/geo+json", "classes.tif": "image/tiff"}
"""Downloadable files of a finished scene, with their media types."""
_DRIVERS = {"GTiff", "COG", "JP2OpenJPEG", "PNG", "MEM"}
"""Allowed GDAL drivers: no format that can refer to other files or URLs."""
_BLOCK = 128
"""Windows of one part; see `lhrs.scene.run`."""
_OVERLAP = 0.25
"""Of windows of `ground`; see `lhrs.scene.run`."""
_NICE = 5
"""Questions have priority."""
_BYTES = 12 * 2**30
"""Address space limit with the embedded model; other models have no limit."""

Label = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^,\n\r\x00]+$")
]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00]+$")]


class SceneRequest(BaseModel):
    """What to ask of every window; see docs/scenes.md."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_id: Annotated[str, StringConstraints(max_length=100)]
    task: Literal["classify", "caption", "ground", "count", "vqa"]
    labels: Annotated[list[Label], Field(min_length=2, max_length=200)] | None = None
    """Of `classify` and `vqa`: the answers to choose from."""
    target: Words | None = None
    """The question of `vqa`, or what to `ground` or `count`."""
    size: Annotated[int, Field(ge=16, le=2048)] | None = None
    """Side of a window as the model sees it, in pixels; by default what the model is made for."""
    gsd_m: Annotated[float, Field(ge=0.01, le=10_000, allow_inf_nan=False)] | None = None
    """Meters per pixel of the rendering; by default the file's own."""
    sensor: Name | None = None
    """The file's sensor, as `lhrs scene --list-sensors` prints it; by default it is detected."""
    composite: Name | None = None
    """The sensor's band composite to render."""

    @model_validator(mode="after")
    def _fits(self) -> "SceneRequest":
        if self.labels is not None and self.task not in ("classify", "vqa"):
            raise ValueError("labels need task 'classify' or 'vqa'")
        if self.target is None and self.task in ("vqa", "ground"):
            raise ValueError(f"task {self.task!r} needs target")
        if self.target is not None and self.task in ("classify", "caption"):
            raise ValueError("target needs task 'vqa', 'ground' or 'count'")
        return self

    def num_windows(self, image: GeoImage, family: ModelFamily) -> int:
        """Return the number of windows of a file."""
        gsd_m = self.gsd_m or image.gsd_m
        scale = image.gsd_m / gsd_m if image.gsd_m and gsd_m else 1.0
        side = max(1, round((self.size or family.window_px(self.task, gsd_m or 0.0)) / scale))
        overlap = min(side - 1, round(_OVERLAP * side)) if self.task == "ground" else 0
        return num_windows(image.width, image.height, side, overlap)

    def arguments(self) -> list[str]:
        """Return the command's options."""
        options = {
            "window-size": self.size, "gsd": self.gsd_m, "labels": ",".join(self.labels or ()), "sensor": self.sensor,
            "composite": self.composite,
        }  # fmt: skip
        options["question" if self.task == "vqa" else "target"] = self.target
        return [f"--task={self.task}", *(f"--{name}={value}" for name, value in options.items() if value)]


@dataclass
class SceneJob:
    """One scene, from the request to its results."""

    id: str
    file: StoredFile
    request: SceneRequest
    windows: int
    folder: Path
    warnings: tuple[str, ...] = ()
    created: int = field(default_factory=lambda: int(time.time()))
    state: Literal["queued", "running", "done", "failed"] = "queued"
    summary: dict[str, Any] | None = None
    error: str | None = None
    process: asyncio.subprocess.Process | None = None

    @property
    def public(self) -> dict[str, Any]:
        """The record for clients."""
        return {
            "id": self.id,
            "object": "scene",
            "created_at": self.created,
            "expires_at": self.file.expires,
            **self.request.model_dump(),
            "windows": self.windows,
            "warnings": list(self.warnings),
            "state": self.state,
            "progress": self._progress(),
            "summary": self.summary,
            "error": self.error,
            "results": [name for name in RESULTS if self.state == "done" and (self.folder / name).exists()],
        }

    def _progress(self) -> float:
        if self.state != "running":
            return float(self.state == "done")
        parts = len(list((self.folder / ".work" / "parts").glob("*.parquet")))
        return min(0.99, parts / math.ceil(self.windows / _BLOCK))


class SceneQueue:
    """Runs scenes sequentially. Results are stored next to their file and removed with it.

    Args:
        settings: limits and the model.
        files: the uploaded files.
        family: of the model.
    """

    def __init__(self, settings: Settings, files: FileStore, family: ModelFamily) -> None:
        self._settings, self._files, self._family = settings, files, family
        self._runs: dict[str, SceneJob] = {}
        self._waiting: deque[SceneJob] = deque()
        self._ready = asyncio.Event()
        self._worker = asyncio.create_task(self._work())

    def submit(self, request: SceneRequest, file: StoredFile, image: GeoImage) -> SceneJob:
        """Queue a scene.

        Raises:
            APIError: the file is not georeferenced or too large, or the queue is full.
        """
        self.prune()
        windows = request.num_windows(image, self._family)
        if image.georeference is None:
            raise APIError(
                400,
                "the file is not georeferenced: ask about it with /v1/chat/completions",
                "file_id",
                "not_georeferenced",
            )
        if windows > self._settings.scene_windows:
            message = f"{windows} windows; at most {self._settings.scene_windows}: choose a larger gsd_m or size"
            raise APIError(400, message, "size", "scene_too_large")
        if len(self._waiting) >= self._settings.scene_queue:
            raise APIError(429, "too many scenes are waiting", code="queue_full", retry_s=30)
        if len(self._runs) >= self._settings.max_scenes:
            raise APIError(429, "there is no room for more scenes: delete some, or try later", None, "no_room", 60)
        identity = f"scene-{secrets.token_hex(16)}"
        warnings = self._family.label_warnings(request.labels or ())
        run = SceneJob(identity, file, request, windows, file.path.with_name(identity), warnings)
        self._runs[identity] = run
        self._waiting.append(run)
        self._ready.set()
        return run

    def get(self, identity: str, owner: str) -> SceneJob:
        """Return a scene.

        Raises:
            APIError: this owner has no scene of that id.
        """
        self.prune()
        run = self._runs.get(identity)
        if run is None or run.file.owner != owner:
            raise APIError(404, "there is no scene of that id", "scene_id", "scene_not_found")
        return run

    def result(self, identity: str, owner: str, name: str) -> Path:
        """Return the path of a result.

        Raises:
            APIError: see `get`; or the scene has no such result yet.
        """
        run = self.get(identity, owner)
        if run.state != "done":
            raise APIError(409, f"the scene is {run.state}", "scene_id", "scene_not_done")
        if name not in run.public["results"]:
            raise APIError(404, f"task {run.request.task!r} makes no {name}", "scene_id", "no_such_result")
        return run.folder / name

    async def delete(self, identity: str, owner: str) -> None:
        """Cancel a scene, or remove its results.

        Raises:
            APIError: see `get`.
        """
        run = self.get(identity, owner)
        self._drop(run)
        if run.process is not None:
            await run.process.wait()
        await asyncio.to_thread(_remove, run.folder)

    def prune(self) -> None:
        """Remove the scenes of deleted files."""
        for run in [run for run in self._runs.values() if not run.file.path.exists()]:
            self._drop(run)

    async def close(self) -> None:
        """Stop the running scene and remove all scenes."""
        self._worker.cancel()
        for run in list(self._runs.values()):
            self._drop(run)
            if run.process is not None:
                await run.process.wait()

    def _drop(self, run: SceneJob) -> None:
        del self._runs[run.id]
        with suppress(ValueError):
            self._waiting.remove(run)
        if run.process is not None:
            with suppress(ProcessLookupError):  # the process has just ended
                os.killpg(run.process.pid, signal.SIGKILL)

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._ready.clear()
                await self._ready.wait()
            run = self._waiting.popleft()
            begun = time.monotonic()
            try:
                await self._run(run)
            except Exception as error:  # the next scene must still run
                run.state, run.error = "failed", "internal error; see the server's log"
                log("scene failed", exc_info=error, scene=run.id)
            log("scene", scene=run.id, state=run.state, windows=run.windows, s=round(time.monotonic() - begun, 1))

    async def _run(self, run: SceneJob) -> None:
        run.state = "running"
        options = {"--model": self._settings.model, "--device": self._settings.device, "--out": str(run.folder)}
        run.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "lhrs", "scene", *run.request.arguments(),
            *(f"{name}={value}" for name, value in options.items() if value is not None),
            *self._settings.options.arguments, "--", str(run.file.path),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env=await asyncio.to_thread(_environment), start_new_session=True,
        )  # fmt: skip
        try:
            if run.id not in self._runs:  # removed during startup
                os.killpg(run.process.pid, signal.SIGKILL)
            _limit_process(run.process.pid, self._settings.model is None)
            _, stderr = await asyncio.wait_for(run.process.communicate(), self._settings.scene_s)
        except TimeoutError:
            run.state, run.error = "failed", f"not done within {self._settings.scene_s:g} s"
            return
        finally:
            with suppress(ProcessLookupError):
                os.killpg(run.process.pid, signal.SIGKILL)
            if run.id not in self._runs:
                await run.process.wait()
                _remove(run.folder)
        if run.id not in self._runs:
            return
        if run.process.returncode == 0:
            run.summary = json.loads(await asyncio.to_thread((run.folder / "summary.json").read_text))
            run.state = "done"
        else:
            run.state, run.error = "failed", _error_line(stderr.decode(errors="replace"), run)


def _environment() -> dict[str, str]:
    """Return the environment of the process: without keys, and with GDAL restricted to the needed drivers."""
    from rasterio import Env

    with Env() as env:
        others = sorted(set(env.drivers()) - _DRIVERS)
    kept = {name: value for name, value in os.environ.items() if name != "LHRS_API_KEYS"}
    return {**kept, **GDAL_LIMITS, "GDAL_SKIP": ",".join(others)}


def _limit_process(process: int, embedded: bool) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PROCESS, process, _NICE)
        if embedded and sys.platform == "linux":
            import resource

            resource.prlimit(process, resource.RLIMIT_AS, (_BYTES, _BYTES))


def _error_line(stderr: str, run: SceneJob) -> str:
    """Return the command's error message, on one line and without paths."""
    lines = [line for line in stderr.splitlines() if line.startswith("lhrs: ")]
    if not lines:
        log("scene died", scene=run.id, status=run.process and run.process.returncode, stderr=stderr[-2000:])
        return "the scene takes too much memory, or there was an internal error; see the server's log"
    about = lines[-1].removeprefix("lhrs: ").replace(str(run.file.path), "the file")
    return about.replace(str(run.folder), "the result")[:500]


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty while it also holds the file
        folder.parent.rmdir()
