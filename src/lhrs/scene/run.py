"""`lhrs scene`: query every window of scenes and summarize the answers per scene."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from lhrs import fingerprint
from lhrs.atomic_io import prepare_output_dir
from lhrs.block_executor import Engine
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.discover import ImageSource, open_scene_source, sources
from lhrs.imagery.merge_detections import Merged, merge_detections
from lhrs.imagery.scene import Scene
from lhrs.imagery.windows import SceneWindow, make_windows
from lhrs.inference.load import model_hash
from lhrs.inference.model_family import ModelFamily
from lhrs.jobs import Job
from lhrs.progress import Progress, no_progress
from lhrs.scene.result import Result
from lhrs.scene.window_inference import Block, SceneQuery, answer_block, cached_model, validate_query
from lhrs.scene.write import write_scene

_BLOCK_SIZE = 128
"""Windows per block; a killed process loses at most one unfinished block per worker."""
_GROUND_OVERLAP = 0.25


class SceneConfig(BaseModel):
    """Settings of `lhrs scene`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    scenes: tuple[str, ...]
    """Files, directories, STAC items or URLs; for `change` the scene before, then the one after."""
    out: Path
    query: SceneQuery
    """The question about every window."""
    size: int | None = None
    """Side of a rendered window in pixels; None is what the model is made for, see `ModelFamily.window_px`."""
    gsd_m: float | None = None
    """Meters per pixel of a rendered window; None is that of the scene."""
    overlap: float | None = None
    """Overlap of neighboring windows as a fraction of their side; None is 0.25 for `ground`, else 0."""
    sensor: str | None = None
    composites: tuple[str, ...] = ()
    """Band composites of the sensor."""
    min_valid: float = 0.2
    """Fraction of valid pixels below which a window is skipped."""
    driver: str | None = None
    """GDAL's short name of the only format that scenes may have; None allows all. See `open_image`."""


_Opened = tuple[ImageSource, tuple[Scene, ...], tuple[Scene, ...]]
"""A source, its renderings, and for `change` those of the scene after."""


def run(
    config: SceneConfig, *, engine: Engine = "local", num_workers: int = 1, progress: Progress = no_progress
) -> dict[str, Any]:
    """Query all windows, write the results to `config.out`, and return the manifest with the summaries of all scenes.

    Args:
        config: the settings.
        engine: see `lhrs.block_executor.map_blocks`.
        num_workers: processes, each with the model.
        progress: counts blocks of windows.

    Raises:
        ConfigError: the settings contradict each other, or the directory contains anything else.
        DataError: a scene cannot be read, or is not georeferenced.
    """
    validate_query(config.query)
    if config.overlap is not None and not 0 <= config.overlap < 0.9:
        raise ConfigError(f"--overlap {config.overlap} is not a fraction of the side of a window below 0.9.")
    prepare_output_dir(config.out)
    dropped = Dropped()
    opened = _scenes(config, dropped)
    folders = _folders(config.out, [source.name for source, _, _ in opened])
    assistant = cached_model(config.query)
    family = assistant.runtime.family
    config.query.task(assistant)  # contradicting labels are refused before anything is read
    hashed = model_hash(config.query.model, assistant.runtime.name, config.query.options)
    settings = _settings(config, opened, hashed)
    with Job(config.out, settings, _inputs(opened)) as job:
        plans = [(composites, after, *_windows(config, composites[0], family)) for _, composites, after in opened]
        blocks = [
            Block(composites, after, tuple(windows[n : n + _BLOCK_SIZE]), size, config.min_valid, config.query)
            for composites, after, windows, size in plans
            for n in range(0, len(windows), _BLOCK_SIZE)
        ]
        parts = job.map_blocks(
            blocks, answer_block, engine=engine, num_workers=num_workers, progress=progress,
            description=f"windows by {_BLOCK_SIZE}",
        )  # fmt: skip
        question = [config.query.kind, config.query.labels, config.query.target]
        started = {"prompt_hash": fingerprint.of_config(question), "time": job.started_at}
        summaries, start = [], 0
        for (source, composites, after), (_, _, windows, size), folder in zip(opened, plans, folders, strict=True):
            count = -(-len(windows) // _BLOCK_SIZE)
            rows = _rows(parts[start : start + count])
            start += count
            objects = _objects(rows) if config.query.kind == "ground" else None
            result = Result(source, composites[0], after[0] if after else None, windows, rows, objects)
            provenance = {
                "model": assistant.runtime.name, "model_hash": hashed, **started,
                "gsd_m": round(composites[0].gsd_m * windows[0].window[2] / size[0], 6),
                "composite": ", ".join(view.scaling.description for view in composites),
            }  # fmt: skip
            summaries.append(write_scene(folder, result, config.query, provenance))
        manifest = {"job": settings, **started, "model": assistant.runtime.name, "model_hash": hashed}
        if warnings := family.label_warnings(config.query.labels or ()):
            manifest["warnings"] = list(warnings)
        manifest = job.write_manifest({**manifest, "scenes": summaries}, dropped)
        job.finish()
    return manifest


def _settings(config: SceneConfig, opened: Sequence[_Opened], hashed: str) -> dict[str, Any]:
    query: dict[str, Any] = {name: getattr(config.query, name) for name in ("kind", "labels", "target", "model")}
    query |= config.query.options.given
    composites = [[scene.scaling.description for scene in scenes] for _, scenes, _ in opened]
    return {
        **query, "composites": composites, "size": config.size, "gsd_m": config.gsd_m, "overlap": config.overlap,
        "min_valid": config.min_valid, "model_hash": hashed,
    }  # fmt: skip


def _inputs(opened: Sequence[_Opened]) -> dict[str, str]:
    """Return the fingerprints of all files; each includes the grid of its scene."""
    inputs: dict[str, str] = {}
    for _, composites, after in opened:
        for scene in (*composites, *after):
            grid = [scene.width, scene.height, list(scene.transform)]
            for path, value in fingerprint.of_files(scene.files).items():
                inputs[path] = f"{value}:{fingerprint.of_config(grid)}"
    return inputs


def _scenes(config: SceneConfig, dropped: Dropped) -> list[_Opened]:
    """Return the renderings of each scene, and for `change` those of the scene after.

    Raises:
        ConfigError: `change` needs two scenes.
        DataError: a scene is not georeferenced, or the grids of the two scenes do not match.
    """
    georeferenced = []
    for source in sources(config.scenes, dropped=dropped):
        opened = [
            open_scene_source(source, config.sensor, composite, config.driver)
            for composite in config.composites or (None,)
        ]
        if opened[0] is None:
            if len(config.scenes) == 1 and not Path(config.scenes[0]).is_dir():
                raise DataError(f"{source.files[0]} is not georeferenced; use `lhrs ask` for this image.")
            dropped.add("images without a georeference", source.files[0])
            continue
        composites = tuple(scene for scene in opened if scene is not None)
        for scene in composites:
            _ = scene.scaling  # computed once and passed to all workers
        georeferenced.append((source, composites))
    if not georeferenced:
        raise DataError(f"{', '.join(config.scenes)} contains no georeferenced raster.")
    if config.query.kind != "change":
        return [(source, composites, ()) for source, composites in georeferenced]
    if len(georeferenced) != 2:
        raise ConfigError(f"--task change needs two scenes, the one before first, not {len(georeferenced)}.")
    (source, before), (_, after) = georeferenced
    _check_alike(before[0], after[0])
    return [(source, before, after)]


def _folders(out: Path, names: Sequence[str]) -> list[Path]:
    """Return the folder of the results of each scene.

    Raises:
        DataError: two scenes have one name, or an untrusted name is a path outside of `out`.
    """
    if len(names) == 1:
        return [out]
    plain = [Path(name).with_suffix("") for name in names]
    name, count = Counter(plain).most_common(1)[0]
    if count > 1:
        raise DataError(f"two scenes are called {name}; give their common folder.")
    for name in plain:
        if out.resolve() not in (out / name).resolve().parents:
            raise DataError(f"a scene is called {name}: its results would be outside of {out}.")
    return [out / name for name in plain]


def _check_alike(before: Scene, after: Scene) -> None:
    from rasterio.crs import CRS

    names = before.files[0], after.files[0]
    if CRS.from_string(before.crs) != CRS.from_string(after.crs):
        raise DataError(f"{names[1]} is in another CRS than {names[0]}: gdalwarp -t_srs it first.")
    if any(abs(scene.transform[n]) > 1e-9 * abs(scene.transform[0]) for scene in (before, after) for n in (1, 3)):
        raise DataError(f"{names[0]} or {names[1]} is rotated against its CRS: gdalwarp it first.")
    boxes = []
    for scene in (before, after):
        a, _, c, _, e, f = scene.transform
        boxes.append(sorted([c, c + a * scene.width]) + sorted([f, f + e * scene.height]))
    slack = 2 * max(abs(before.transform[0]), abs(after.transform[0]))
    inside = all(boxes[1][n] <= boxes[0][n] + slack and boxes[1][n + 1] >= boxes[0][n + 1] - slack for n in (0, 2))
    if not inside:
        raise DataError(f"{names[1]} does not cover all of {names[0]}: gdalwarp -te both to what they share first.")


def _windows(config: SceneConfig, scene: Scene, family: ModelFamily) -> tuple[list[SceneWindow], tuple[int, int]]:
    """Return the windows of a scene, and the rendered size of a full window."""
    gsd_m = config.gsd_m or scene.gsd_m
    scale = scene.gsd_m / gsd_m
    side = max(1, round((config.size or family.window_px(config.query.kind, gsd_m)) / scale))
    overlap_fraction = (
        config.overlap if config.overlap is not None else _GROUND_OVERLAP if config.query.kind == "ground" else 0.0
    )
    windows = make_windows(scene.width, scene.height, side, min(side - 1, round(overlap_fraction * side)))
    _, _, width, height = windows[0].window
    return windows, (max(1, round(width * scale)), max(1, round(height * scale)))


def _rows(parts: Sequence[Path]) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def _objects(rows: Sequence[dict[str, Any]]) -> Merged:
    """Return the objects of a scene from the boxes of its windows."""
    boxes = np.array([box for row in rows for box in row["boxes"] or ()], float).reshape(-1, 4)
    scores = np.array([c for row in rows for c in row["box_confidence"] or ()], float)
    windows = np.array([row["number"] for row in rows for _ in row["boxes"] or ()], np.int64)
    truncated = np.array([edges for row in rows for edges in row["touches_edge"] or ()], bool).reshape(-1, 4)
    return merge_detections(boxes, scores, np.zeros(len(boxes), int), windows, "join_cut", truncated=truncated)
