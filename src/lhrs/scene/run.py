"""`lhrs scene`: a question to every window of whole scenes, and one answer for each scene."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.blocks import Engine, run_blocks
from lhrs.errors import ConfigError, DataError
from lhrs.files import WORK, claim_folder, write_file
from lhrs.imagery.scene import Scene
from lhrs.imagery.sources import Source, scene_of, sources
from lhrs.imagery.windows import SceneWindow, cut
from lhrs.inference.load import model_hash
from lhrs.scene.merge import Found, merge
from lhrs.scene.result import Result
from lhrs.scene.work import Asking, Block, answer_block, assistant_of, check_asking
from lhrs.scene.write import write_scene

_BLOCK = 128
"""Windows that are answered between two writes: what is lost at most when the work is killed."""
_GROUND_OVERLAP = 0.25
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class SceneJob:
    """What `lhrs scene` is told."""

    scenes: tuple[str, ...]
    """Files, folders, STAC items or URLs; for `change` an earlier and a later one."""
    out: Path
    asking: Asking
    size: int = 256
    """Side of a window as the model sees it, in pixels."""
    gsd_m: float | None = None
    """Metres per pixel at which the model looks; None is the scene's own."""
    overlap: float | None = None
    """Share of a window's side that the next one shows too; None is a quarter for `ground`, else nothing."""
    sensor: str | None = None
    composites: tuple[str, ...] = ()
    min_valid: float = 0.2
    """Share of data below which a window is skipped."""
    driver: str | None = None
    """GDAL's short name of the only format that scenes may have; None is all. See `open_image`."""


def run(
    job: SceneJob,
    engine: Engine = "local",
    workers: int = 1,
    start: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
) -> dict[str, Any]:
    """Answer, write the results into `job.out`, and return the summaries of all scenes.

    Args:
        job: what to do.
        engine: see `lhrs.blocks.run_blocks`.
        workers: processes, each with the model.
        start: called with the number of blocks; returns what is called after each.

    Raises:
        ConfigError: the job contradicts itself, or its folder holds other things.
        DataError: a scene cannot be read, or lies nowhere.
    """
    check_asking(job.asking)
    if job.overlap is not None and not 0 <= job.overlap < 0.9:
        raise ConfigError(f"--overlap {job.overlap} is not a share of the window's side below 0.9.")
    given = _scenes(job)
    folders = _folders(job.out, [source.name for source, _, _ in given])
    started = _claim(job, given)
    work = job.out / WORK
    assistant = assistant_of(job.asking.model, job.asking.device)
    job.asking.task(assistant)  # labels that do not go together are said before anything is read
    plans = [(views, later, *_windows(job, views[0])) for _, views, later in given]
    blocks = [
        Block(views, later, tuple(windows[n : n + _BLOCK]), seen, job.min_valid, job.asking)
        for views, later, windows, seen in plans
        for n in range(0, len(windows), _BLOCK)
    ]
    hashed = model_hash(job.asking.model, assistant.runtime.name)
    key = json.dumps([hashed, started["job"]], sort_keys=True)
    parts = run_blocks(blocks, answer_block, work / "parts", key, engine, workers, start(len(blocks)))
    summaries, at = [], 0
    for (source, views, later), (_, _, windows, seen), folder in zip(given, plans, folders, strict=True):
        count = -(-len(windows) // _BLOCK)
        rows = _rows(parts[at : at + count])
        at += count
        objects = merge(_found(rows)) if job.asking.kind == "ground" else None
        result = Result(source, views[0], later[0] if later else None, windows, rows, objects)
        provenance = {
            "model": assistant.runtime.name, "model_hash": hashed, "prompt_hash": started["prompt_hash"],
            "time": started["time"], "gsd_m": round(views[0].gsd_m * windows[0].window[2] / seen[0], 6),
            "view": ", ".join(view.scaling.words for view in views),
        }  # fmt: skip
        summaries.append(write_scene(folder, result, job.asking, provenance))
    manifest = {**started, "model": assistant.runtime.name, "model_hash": hashed, "scenes": summaries}
    write_file(job.out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(work)
    return manifest


def _scenes(job: SceneJob) -> list[tuple[Source, tuple[Scene, ...], tuple[Scene, ...]]]:
    """Return each scene's views, and for `change` those of the later one.

    Raises:
        ConfigError: `change` needs two scenes.
        DataError: a scene lies nowhere, or the two do not lie alike.
    """
    found = []
    for source in sources(job.scenes):
        opened = [scene_of(source, job.sensor, composite, job.driver) for composite in job.composites or (None,)]
        if opened[0] is None:
            if len(job.scenes) == 1 and not Path(job.scenes[0]).is_dir():
                raise DataError(f"{source.files[0]} does not say where it lies; ask about it with `lhrs ask`.")
            continue
        views = tuple(scene for scene in opened if scene is not None)
        for scene in views:
            _ = scene.scaling  # chosen once, and carried to all workers
        found.append((source, views))
    if not found:
        raise DataError(f"{', '.join(job.scenes)} holds no georeferenced raster.")
    if job.asking.kind != "change":
        return [(source, views, ()) for source, views in found]
    if len(found) != 2:
        raise ConfigError(f"--task change needs two scenes, the earlier first; {len(found)} given.")
    (source, before), (_, after) = found
    _check_alike(before[0], after[0])
    return [(source, before, after)]


def _folders(out: Path, names: Sequence[str]) -> list[Path]:
    """Return where the results about each scene go.

    Raises:
        DataError: two scenes have one name, or a name, which others may have chosen, leads out of the folder.
    """
    if len(names) == 1:
        return [out]
    plain = [Path(name).with_suffix("") for name in names]
    name, count = Counter(plain).most_common(1)[0]
    if count > 1:
        raise DataError(f"two scenes are called {name}; give their common folder.")
    for name in plain:
        if out.resolve() not in (out / name).resolve().parents:
            raise DataError(f"a scene is called {name}: its results would not lie in {out}.")
    return [out / name for name in plain]


def _check_alike(before: Scene, after: Scene) -> None:
    from rasterio.crs import CRS

    names = before.files[0], after.files[0]
    if CRS.from_string(before.crs) != CRS.from_string(after.crs):
        raise DataError(f"{names[1]} is in another CRS than {names[0]}: gdalwarp -t_srs it first.")
    if any(abs(scene.transform[n]) > 1e-9 * abs(scene.transform[0]) for scene in (before, after) for n in (1, 3)):
        raise DataError(f"{names[0]} or {names[1]} is turned against its CRS: gdalwarp it first.")
    boxes = []
    for scene in (before, after):
        a, _, c, _, e, f = scene.transform
        boxes.append(sorted([c, c + a * scene.width]) + sorted([f, f + e * scene.height]))
    slack = 2 * max(abs(before.transform[0]), abs(after.transform[0]))
    inside = all(boxes[1][n] <= boxes[0][n] + slack and boxes[1][n + 1] >= boxes[0][n + 1] - slack for n in (0, 2))
    if not inside:
        raise DataError(f"{names[1]} does not cover all of {names[0]}: gdalwarp -te both to what they share first.")


def _windows(job: SceneJob, scene: Scene) -> tuple[list[SceneWindow], tuple[int, int]]:
    """Return the windows of a scene, and the size at which the model sees a whole one."""
    scale = scene.gsd_m / (job.gsd_m or scene.gsd_m)
    side = max(1, round(job.size / scale))
    share = job.overlap if job.overlap is not None else _GROUND_OVERLAP if job.asking.kind == "ground" else 0.0
    windows = cut(scene.width, scene.height, side, min(side - 1, round(share * side)))
    _, _, width, height = windows[0].window
    return windows, (max(1, round(width * scale)), max(1, round(height * scale)))


def _claim(job: SceneJob, given: Sequence[tuple[Source, tuple[Scene, ...], tuple[Scene, ...]]]) -> dict[str, Any]:
    """Return what the work in the folder was begun with; it is gone on with only if it is this job.

    Raises:
        ConfigError: the folder holds something else.
    """
    work = claim_folder(job.out)
    told = {
        "scenes": [[stamp for scene in (*views, *later) for stamp in _stamps(scene)] for _, views, later in given],
        "composites": [[scene.scaling.words for scene in views] for _, views, _ in given],
        **{key: value for key, value in asdict(job.asking).items() if key != "device"},
        "size": job.size, "gsd_m": job.gsd_m, "overlap": job.overlap, "min_valid": job.min_valid,
    }  # fmt: skip
    told = json.loads(json.dumps(told))
    begun = work / "job.json"
    if begun.exists():
        before = json.loads(begun.read_text())
        if before["job"] != told:
            raise ConfigError(f"{job.out} holds unfinished work on another question or scene; name another folder.")
        return dict(before)
    prompt = json.dumps([job.asking.kind, job.asking.labels, job.asking.words])
    now = {
        "job": told, "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    write_file(begun, json.dumps(now))
    return now


def _stamps(scene: Scene) -> list[Any]:
    """Return what tells a scene from another: its files with size and time, its place."""
    found: list[Any] = [scene.width, scene.height, list(scene.transform)]
    for file in scene.files:
        if os.path.exists(file):
            status = os.stat(file)
            found.append([os.path.abspath(file), status.st_size, status.st_mtime_ns])
        else:
            found.append(file)
    return found


def _rows(parts: Sequence[Path]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def _found(rows: Sequence[dict[str, Any]]) -> Found:
    boxes = [box for row in rows for box in row["boxes"] or ()]
    return Found(
        np.array(boxes, float).reshape(-1, 4),
        np.array([c for row in rows for c in row["box_confidence"] or ()], float),
        np.array([row["number"] for row in rows for _ in row["boxes"] or ()], np.int64),
        np.array([edges for row in rows for edges in row["cut"] or ()], bool).reshape(-1, 4),
    )
