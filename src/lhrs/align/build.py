"""`lhrs align build`: footprints and map data in, images with facts and captions out.

The plan: list the footprints, sort the map's features into a store, describe the footprints block by block, put the
rows together. The same inputs and settings give the same bytes, on any number of workers, stopped or not.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from lhrs.align.captions import caption
from lhrs.align.choose import choose
from lhrs.align.facts import Fact, find_facts
from lhrs.align.footprints import Footprint, corners_of, from_imagery, grid, is_north_up, region_of
from lhrs.align.measure import measure, plane_key
from lhrs.align.osm import OSM_ATTRIBUTION, OSM_LICENCE, digest, read_features, snapshot_date
from lhrs.align.pixels import look
from lhrs.align.records import INDEX, KIND, MANIFEST, SCHEMA, UNREADABLE, fact_rows, ring, write_index
from lhrs.align.store import Region, Store, packed, write_store
from lhrs.blocks import Engine, run_blocks
from lhrs.errors import ConfigError, DataError, LHRSError
from lhrs.files import claim_folder, write_file
from lhrs.imagery.sources import Source

_BLOCK = 512
_MOST_FOOTPRINTS = 2_000_000
_ROWS = SCHEMA.append(UNREADABLE)
_MOST_TOLD = 20
"""Reasons for unreadable pictures that the manifest has."""
_VERSION = 3
"""Of what rows hold and how blocks are made; raised when that changes."""


@dataclass(frozen=True)
class Build:
    """What to build."""

    osm: Path
    out: Path
    imagery: tuple[Path, ...] = ()
    """Empty: a grid over the map, without pictures."""
    bbox: Region | None = None
    """Of the grid, in degrees; None is where the map has features."""
    size: int = 512
    """Side in pixels of windows and of the grid's footprints."""
    gsd_m: float | None = None
    """Of windows and of the grid; None is the image's own, 1 for a grid."""
    untagged: str | None = None
    """What features without tags are: `building` in extracts of buildings."""
    licence: str | None = None
    attribution: str | None = None
    date: str | None = None
    """ISO day of acquisition, where images do not say."""
    max_nodata: float = 0.5
    """Images with a larger share of nothing are left out; so the next."""
    max_cloud: float = 0.5
    per_category: int | None = None
    """At most so many of each category."""
    seed: int = 0


@dataclass(frozen=True)
class Block:
    """Footprints that share a plane and lie near each other, with their numbers."""

    numbers: tuple[int, ...]
    footprints: tuple[Footprint, ...]


def build(
    job: Build,
    engine: Engine = "local",
    workers: int = 1,
    progress: Callable[[int], Callable[[], None]] = lambda total: lambda: None,
) -> dict[str, Any]:
    """Build a data set; returns its manifest.

    Args:
        job: what.
        engine: see `lhrs.blocks.run_blocks`.
        workers: processes.
        progress: given the number of blocks, returns what to call after each.

    Raises:
        DataError: an input is missing or broken.
        ConfigError: nothing would be built, or the folder holds something else.
    """
    if not job.osm.is_file():
        raise DataError(f"{job.osm} {'is a folder' if job.osm.is_dir() else 'does not exist'}; --osm takes a file.")
    work = claim_folder(job.out)
    fresh = not job.out.exists()
    try:
        return _build(job, work, engine, workers, progress)
    except LHRSError:
        if fresh:
            shutil.rmtree(job.out, ignore_errors=True)
        raise


def _build(
    job: Build, work: Path, engine: Engine, workers: int, progress: Callable[[int], Callable[[], None]]
) -> dict[str, Any]:
    key = _key(job)
    unreadable: list[str] = []
    footprints = _listed(job, work, key, unreadable.append)
    key = hashlib.sha256(f"{key}{_stamps(footprints)}".encode()).hexdigest()
    _forget_others(job.out, work, key)
    blocks = _blocks(footprints)
    store = _stored(job, work, key, _regions(blocks))
    osm_date = snapshot_date(job.osm)
    describe = partial(_describe, store=store, job=job, osm_date=None if osm_date is None else osm_date.isoformat())
    parts = run_blocks(blocks, describe, work / "parts", key, engine, workers, progress(len(blocks)))
    table = pa.concat_tables([pq.read_table(part, schema=_ROWS) for part in parts])
    table = table.take(pa.array(np.argsort(table["number"].to_numpy(), kind="stable")))
    table, broken = _readable(table)
    unreadable += broken
    table, dropped = choose(table, job.max_nodata, job.max_cloud, job.per_category, job.seed)
    if not len(table):
        why = f" {unreadable[0]}" if unreadable else ""
        raise DataError(f"nothing of {job.osm} can be seen in any of {len(footprints):,} footprints.{why}")
    if unreadable:
        dropped = {"unreadable": len(unreadable), **dropped}
    _keep_images(job.out, table)
    write_index(table, job.out / INDEX)
    manifest = _manifest(job, len(footprints), table, dropped, osm_date)
    if unreadable:
        manifest["unreadable"] = list(dict.fromkeys(unreadable))[:_MOST_TOLD]
    write_file(job.out / "ATTRIBUTION.txt", "\n".join(manifest["attribution"]) + "\n")
    write_file(job.out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(work)
    return manifest


def _key(job: Build) -> str:
    from importlib.resources import files

    table = (files("lhrs.resources") / "tags.csv").read_bytes()
    settings = {name: str(value) for name, value in job.__dict__.items() if name not in ("out", "per_category")}
    text = json.dumps([_VERSION, digest(job.osm), hashlib.sha256(table).hexdigest(), settings])
    return hashlib.sha256(text.encode()).hexdigest()


def _stamps(footprints: Sequence[Footprint]) -> str:
    """Return what tells whether the footprints, or the files that they are cut from, have changed."""
    files = sorted({file for f in footprints if f.source for file in f.source.files})
    told = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files if os.path.exists(file)]
    return hashlib.sha256(
        repr([told, [(f.id, f.transform, f.width, f.height) for f in footprints]]).encode()
    ).hexdigest()


def _forget_others(out: Path, work: Path, key: str) -> None:
    """Remove the cut images of a stopped build of something else."""
    mark = work / "key"
    if not mark.exists() or mark.read_text() != key:
        shutil.rmtree(out / "images", ignore_errors=True)
        work.mkdir(parents=True, exist_ok=True)
        write_file(mark, key)


def _listed(job: Build, work: Path, key: str, unreadable: Callable[[str], None]) -> list[Footprint]:
    if job.imagery:
        terms = job.licence, job.attribution, job.date
        return list(from_imagery(job.imagery, job.size, job.gsd_m, *terms, unreadable))
    region = job.bbox or _extent(_stored(job, work, key, None))
    gsd_m = job.gsd_m or 1.0
    west, south, east, north = region
    width_km = (east - west) % 360 * 111.3 * np.cos(np.radians((south + north) / 2))
    expected = width_km * (north - south) * 111.3 / (job.size * gsd_m / 1000) ** 2
    if expected > _MOST_FOOTPRINTS:
        raise ConfigError(f"the grid would have {expected:,.0f} footprints; choose a smaller --bbox, a larger --gsd.")
    return list(grid(region, job.size, gsd_m))


def _extent(store: Path) -> Region:
    columns = pq.read_table(store, columns=["west", "south", "east", "north"])
    west, south, east, north = (columns[name].to_numpy() for name in ("west", "south", "east", "north"))
    return float(west.min()), float(south.min()), float(east.max()), float(north.max())


def _blocks(footprints: Sequence[Footprint]) -> list[Block]:
    keys = [plane_key(footprint) for footprint in footprints]
    places = np.array([(f.transform[2], f.transform[5]) for f in footprints])
    blocks = []
    for _, members in groupby(sorted(range(len(footprints)), key=lambda n: (keys[n], n)), key=lambda n: keys[n]):
        alike = np.array(list(members))
        numbers = alike[packed(places[alike, 0], places[alike, 1], _BLOCK)].tolist()
        for start in range(0, len(numbers), _BLOCK):
            here = tuple(numbers[start : start + _BLOCK])
            blocks.append(Block(here, tuple(footprints[n] for n in here)))
    return blocks


def _regions(blocks: Sequence[Block]) -> list[Region]:
    """Return what the blocks cover; a few wide regions where there are many blocks."""
    regions = [region_of(corners_of(block.footprints).reshape(-1, 2)) for block in blocks]
    if len(regions) > 64 and all(region[0] <= region[2] for region in regions):
        low, high = np.array(regions)[:, :2].min(0), np.array(regions)[:, 2:].max(0)
        return [(float(low[0]), float(low[1]), float(high[0]), float(high[1]))]
    return regions


def _stored(job: Build, work: Path, key: str, regions: Sequence[Region] | None) -> Path:
    grid_ = not job.imagery
    path = work / f"features-{key[:12]}.parquet"
    if not path.exists() and not write_store(path, read_features(job.osm, job.untagged), None if grid_ else regions):
        raise DataError(
            f"{job.osm} has nothing that an image could show"
            + (" where the images lie." if job.imagery else ".")
            + ("" if job.untagged else " If its features have no tags: --untagged building.")
        )
    return path


@lru_cache(maxsize=2)
def _opened(store: Path) -> Store:
    return Store(store)


def _describe(block: Block, store: Path, job: Build, osm_date: str | None) -> pa.Table:
    """Return the rows of a block: the pure function that every engine runs."""
    corners = corners_of(block.footprints)
    features = _opened(store).read(region_of(corners.reshape(-1, 2)))
    facts = find_facts(block.footprints, measure(block.footprints, features), features.ids)
    rows = [
        _row(number, footprint, corner, found, job, osm_date)
        for number, footprint, corner, found in zip(block.numbers, block.footprints, corners, facts, strict=True)
    ]
    return pa.Table.from_pylist([row for row in rows if row is not None], _ROWS)


def _readable(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """Return the rows whose picture can be read, and why the others cannot."""
    reasons = table[UNREADABLE.name]
    return table.filter(reasons.is_null()).drop_columns(UNREADABLE.name), reasons.drop_null().to_pylist()


def _row(
    number: int, footprint: Footprint, corners: np.ndarray, facts: Sequence[Fact], job: Build, osm_date: str | None
) -> dict[str, Any] | None:
    if not facts:
        return None
    text = caption(facts, footprint.id, job.seed, footprint.gsd_m, is_north_up(corners))
    if text is None:
        return None
    source = footprint.source or Source(footprint.id, ())
    seen, unreadable = None, None
    try:
        seen = look(footprint, job.out) if footprint.source else None
    except DataError as error:
        unreadable = str(error)
    days = [date.fromisoformat(day) for day in (source.date, osm_date) if day]
    credit = [f"Imagery: {source.attribution}"] if source.attribution else []
    return {
        "number": number,
        "id": footprint.id,
        "image": seen.image if seen else None,
        "window": list(footprint.window) if footprint.window else None,
        "source": source.files[0] if source.files else None,
        "geometry": ring(corners),
        "width": footprint.width,
        "height": footprint.height,
        "gsd_m": round(footprint.gsd_m, 6),
        "crs": footprint.crs,
        "transform": list(footprint.transform),
        "date": source.date,
        "osm_date": osm_date,
        "date_gap_days": abs((days[0] - days[1]).days) if len(days) == 2 else None,
        "caption": text,
        "category": next(fact.group for fact in facts if fact.visible),
        "facts": fact_rows(facts),
        "nodata_share": seen.nodata_share if seen else None,
        "cloud_share": seen.cloud_share if seen else None,
        "licence": (source.licence or "unstated") if footprint.source else None,
        "text_licence": OSM_LICENCE,
        "attribution": "; ".join([*credit, f"Map: {OSM_ATTRIBUTION}"]),
        UNREADABLE.name: unreadable,
    }


def _keep_images(out: Path, table: pa.Table) -> None:
    """Remove cut images whose rows were not chosen, and what a killed run had begun."""
    kept = set(table["image"].to_pylist())
    folder = out / "images"
    for path in sorted(folder.rglob("*")) if folder.exists() else []:
        if path.is_file() and path.relative_to(out).as_posix() not in kept:
            path.unlink()


def _manifest(
    job: Build, num_footprints: int, table: pa.Table, dropped: dict[str, int], osm_date: date | None
) -> dict[str, Any]:
    facts = table["facts"].combine_chunks().flatten()
    groups = Counter(table["category"].to_pylist())
    settings = {
        name: [str(p) for p in value] if name == "imagery" else str(value) if isinstance(value, Path) else value
        for name, value in job.__dict__.items()
        if name != "out" and value not in (None, ())
    }
    return {
        "kind": KIND,
        "lhrs": version("lhrs"),
        "settings": settings,
        "osm": {"file": job.osm.name, "sha256": digest(job.osm), "date": osm_date and osm_date.isoformat()},
        "licence": {
            "captions and facts": f"{OSM_LICENCE} ({OSM_ATTRIBUTION}, https://www.openstreetmap.org/copyright): "
            "whoever passes on a database made of them names the source and uses the same licence",
            "images": sorted(set(filter(None, table["licence"].to_pylist()))),
        },
        "attribution": sorted(set(table["attribution"].to_pylist())),
        "footprints": num_footprints,
        "images with captions": len(table),
        "left out": dropped,
        "facts": len(facts),
        "categories": dict(sorted(groups.items())),
        "bounds": shapely.total_bounds(shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))).tolist(),
    }
