"""`lhrs align build`: footprints and map data in, images with facts and captions out.

Steps: list the footprints, sort the features of the map into a store, describe the footprints block by block, write
one table. The same inputs and settings give the same bytes on any number of workers, resumed or not.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from importlib.metadata import version
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pydantic import BaseModel, ConfigDict

from lhrs import fingerprint
from lhrs.align.caption_templates import caption, is_north_up
from lhrs.align.chips import extract_chip, remove_unlisted_chips
from lhrs.align.clip import clip_features
from lhrs.align.facts import Fact, extract_facts
from lhrs.align.feature_store import FeatureStore, Region, write_store
from lhrs.align.filter import filter_rows
from lhrs.align.footprints import (
    Footprint,
    footprint_grid,
    footprints_from_imagery,
    group_key,
    lonlat_bounds,
    lonlat_corners,
)
from lhrs.align.osm import OSM_ATTRIBUTION, OSM_LICENSE, read_features, snapshot_date
from lhrs.align.spatial_order import sort_tile_recursive_order
from lhrs.align.table import INDEX, KIND, SCHEMA, UNREADABLE, facts_to_rows, footprint_wkb, write_table
from lhrs.atomic_io import prepare_output_dir, write_atomic
from lhrs.block_executor import Engine
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.discover import ImageSource
from lhrs.jobs import Job
from lhrs.progress import Progress, no_progress

_BLOCK_SIZE = 512
_MAX_FOOTPRINTS = 2_000_000
_BLOCK_SCHEMA = SCHEMA.append(UNREADABLE)
_MAX_REASONS = 20
"""Reasons for unreadable images in the manifest."""
_VERSION = 4
"""Version of the rows and the blocks. Increment it when they change."""


class CaptionDatasetConfig(BaseModel):
    """Settings of `build_caption_dataset`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    osm: Path
    """Map file: OpenStreetMap, GeoJSON, GeoPackage, GeoParquet, Overture; see `lhrs.align.osm.read_features`."""
    out: Path
    """New directory."""
    imagery: tuple[Path, ...] = ()
    """Images, directories of them, STAC items; empty: a grid over the map, without images."""
    bbox: Region | None = None
    """Bounds of the grid in degrees; None is where the map has features."""
    size: int = 512
    """Side in pixels of windows and of the footprints of the grid."""
    gsd_m: float | None = None
    """Meters per pixel of windows and of the grid; None is that of the image, 1 for a grid."""
    default_tag: str | None = None
    """Kind of features without tags, such as `building` in extracts of buildings."""
    license: str | None = None
    """License of images whose metadata have none."""
    attribution: str | None = None
    """Attribution of images whose metadata have none."""
    date: str | None = None
    """Day of acquisition of images whose metadata have none, in ISO format."""
    max_nodata: float = 0.5
    """Largest fraction of an image without data."""
    max_cloud: float = 0.5
    """Largest fraction of an image under clouds."""
    max_per_category: int | None = None
    """Largest number of images of a category; None keeps all."""
    seed: int = 0
    """Seed of the wording and of the sample of each category."""


@dataclass(frozen=True)
class FootprintBlock:
    """Nearby footprints of one group, with their indices."""

    numbers: tuple[int, ...]
    footprints: tuple[Footprint, ...]


def build_caption_dataset(
    config: CaptionDatasetConfig,
    *,
    engine: Engine = "local",
    num_workers: int = 1,
    progress: Progress = no_progress,
    dropped: Dropped | None = None,
) -> dict[str, Any]:
    """Build a dataset of images with facts and captions; return its manifest.

    Args:
        config: the settings.
        engine: see `lhrs.block_executor.map_blocks`.
        num_workers: processes.
        progress: counts blocks.
        dropped: receives the counts of dropped items, which are also in the manifest.

    Raises:
        DataError: an input is missing or broken, or no map feature is visible.
        ConfigError: the directory contains other files, or the work of other settings or inputs.
    """
    if not config.osm.is_file():
        what = "is a folder" if config.osm.is_dir() else "does not exist"
        raise DataError(f"{config.osm} {what}; --osm takes a file.")
    prepare_output_dir(config.out)
    dropped = Dropped() if dropped is None else dropped
    unreadable: list[str] = []
    footprints = _list_footprints(config, unreadable, dropped) if config.imagery else []
    with Job(config.out, _settings(config), _inputs(config, footprints)) as job:
        blocks = _blocks(footprints)
        regions = _regions(blocks) if config.imagery else None
        osm_date = snapshot_date(config.osm)
        store = _write_features(job, config, regions, dropped)
        if not config.imagery:
            footprints = _grid(config, store)
            blocks = _blocks(footprints)
        describe = partial(_describe, store=store, config=config, osm_date=osm_date.isoformat() if osm_date else None)
        parts = job.map_blocks(blocks, describe, engine=engine, num_workers=num_workers, progress=progress)
        table = _read_parts(parts, len(footprints), unreadable, dropped)
        table = filter_rows(table, config.max_nodata, config.max_cloud, config.max_per_category, config.seed, dropped)
        if not len(table):
            job.discard()
            reason = f" {unreadable[0]}" if unreadable else ""
            raise DataError(f"nothing of {config.osm} can be seen in any of {len(footprints):,} footprints.{reason}")
        remove_unlisted_chips(config.out, set(table["image"].to_pylist()))
        write_table(table, config.out / INDEX)
        manifest = _manifest(config, len(footprints), table, osm_date)
        if unreadable:
            manifest["unreadable"] = list(dict.fromkeys(unreadable))[:_MAX_REASONS]
        write_atomic(config.out / "ATTRIBUTION.txt", "\n".join(manifest["attribution"]) + "\n")
        manifest = job.write_manifest(manifest, dropped)
        job.finish()
    return manifest


def _settings(config: CaptionDatasetConfig) -> dict[str, Any]:
    tags = (files("lhrs.resources") / "tags.csv").read_bytes()
    return {
        **config.model_dump(mode="json", exclude={"out"}),
        "tags": fingerprint.of_bytes(tags),
        "rows_version": _VERSION,
    }


def _inputs(config: CaptionDatasetConfig, footprints: Sequence[Footprint]) -> dict[str, str]:
    """Return the fingerprints of the map, of the image files, and of where the footprints are."""
    inputs = {str(config.osm): fingerprint.of_file(config.osm, content=True)}
    inputs |= fingerprint.of_files(file for f in footprints if f.source for file in f.source.files)
    if footprints:
        inputs["footprints"] = fingerprint.of_config([(f.id, f.transform, f.width, f.height) for f in footprints])
    return inputs


def _list_footprints(config: CaptionDatasetConfig, unreadable: list[str], dropped: Dropped) -> list[Footprint]:
    footprints = footprints_from_imagery(
        config.imagery, config.size, config.gsd_m, config.license, config.attribution, config.date, unreadable.append,
        dropped,
    )  # fmt: skip
    return list(footprints)


def _grid(config: CaptionDatasetConfig, store: Path) -> list[Footprint]:
    west, south, east, north = config.bbox or FeatureStore(store).bounds
    gsd_m = config.gsd_m or 1.0
    width_km = (east - west) % 360 * 111.3 * np.cos(np.radians((south + north) / 2))
    expected = width_km * (north - south) * 111.3 / (config.size * gsd_m / 1000) ** 2
    if expected > _MAX_FOOTPRINTS:
        raise ConfigError(f"the grid would have {expected:,.0f} footprints; choose a smaller --bbox, a larger --gsd.")
    return list(footprint_grid((west, south, east, north), config.size, gsd_m))


def _blocks(footprints: Sequence[Footprint]) -> list[FootprintBlock]:
    keys = [group_key(footprint) for footprint in footprints]
    origins = np.array([(f.transform[2], f.transform[5]) for f in footprints])
    blocks = []
    for _, members in groupby(sorted(range(len(footprints)), key=lambda n: (keys[n], n)), key=lambda n: keys[n]):
        group = np.array(list(members))
        order = sort_tile_recursive_order(origins[group, 0], origins[group, 1], _BLOCK_SIZE)
        numbers = group[order].tolist()
        for start in range(0, len(numbers), _BLOCK_SIZE):
            block = tuple(numbers[start : start + _BLOCK_SIZE])
            blocks.append(FootprintBlock(block, tuple(footprints[n] for n in block)))
    return blocks


def _regions(blocks: Sequence[FootprintBlock]) -> list[Region]:
    """Return the regions that the blocks cover; a single enclosing region if there are many blocks."""
    regions = [lonlat_bounds(lonlat_corners(block.footprints).reshape(-1, 2)) for block in blocks]
    if len(regions) > 64 and all(region[0] <= region[2] for region in regions):
        low, high = np.array(regions)[:, :2].min(0), np.array(regions)[:, 2:].max(0)
        return [(float(low[0]), float(low[1]), float(high[0]), float(high[1]))]
    return regions


def _write_features(job: Job, config: CaptionDatasetConfig, regions: Sequence[Region] | None, dropped: Dropped) -> Path:
    """Write the store of features once, with the counts of map features that are not in it.

    Raises:
        DataError: no feature is left; the message has the reasons.
    """
    path = job.work_dir / "features.parquet"
    left_out = Dropped()
    if not path.exists():
        write_store(path, read_features(config.osm, config.default_tag, left_out), regions, left_out)
    if not path.exists():
        where = " where the images are" if config.imagery else ""
        hint = "" if config.default_tag or len(left_out) else " If its features have no tags: --default-tag building."
        reasons = f": {left_out.summary()}" if len(left_out) else ""
        raise DataError(f"{config.osm} has nothing that an image could show{where}{reasons}.{hint}")
    dropped.update(FeatureStore(path).dropped)
    return path


@lru_cache(maxsize=2)
def _open_store(path: Path) -> FeatureStore:
    return FeatureStore(path)


def _describe(block: FootprintBlock, store: Path, config: CaptionDatasetConfig, osm_date: str | None) -> pa.Table:
    """Return the rows of a block: the pure function that every executor runs."""
    corners = lonlat_corners(block.footprints)
    features = _open_store(store).read(lonlat_bounds(corners.reshape(-1, 2)))
    facts = extract_facts(block.footprints, clip_features(block.footprints, features), features.ids)
    rows = [
        _row(number, footprint, corner, visible, config, osm_date)
        for number, footprint, corner, visible in zip(block.numbers, block.footprints, corners, facts, strict=True)
    ]
    return pa.Table.from_pylist([row for row in rows if row is not None], _BLOCK_SCHEMA)


def _read_parts(parts: Sequence[Path], num_footprints: int, unreadable: list[str], dropped: Dropped) -> pa.Table:
    """Return the rows whose image can be read, sorted by footprint index. Count the others."""
    table = pa.concat_tables(
        [_BLOCK_SCHEMA.empty_table(), *(pq.read_table(part, schema=_BLOCK_SCHEMA) for part in parts)]
    )
    dropped.add("footprints without a visible object", count=num_footprints - len(table))
    table = table.take(pa.array(np.argsort(table["number"].to_numpy(), kind="stable")))
    reasons = table[UNREADABLE.name]
    unreadable += reasons.drop_null().to_pylist()
    dropped.add("unreadable images", count=len(unreadable))
    return table.filter(reasons.is_null()).drop_columns(UNREADABLE.name)


def _row(
    number: int, footprint: Footprint, corners: np.ndarray, facts: Sequence[Fact], config: CaptionDatasetConfig,
    osm_date: str | None,
) -> dict[str, Any] | None:  # fmt: skip
    if not facts:
        return None
    text = caption(facts, footprint.id, config.seed, footprint.gsd_m, is_north_up(corners))
    if text is None:
        return None
    source = footprint.source or ImageSource(footprint.id, ())
    chip, unreadable = None, None
    try:
        chip = extract_chip(footprint, config.out) if footprint.source else None
    except DataError as error:
        unreadable = str(error)
    days = [date.fromisoformat(day) for day in (source.date, osm_date) if day]
    attribution = [f"Imagery: {source.attribution}"] if source.attribution else []
    return {
        "number": number,
        "id": footprint.id,
        "image": chip.image if chip else None,
        "window": list(footprint.window) if footprint.window else None,
        "source": source.files[0] if source.files else None,
        "geometry": footprint_wkb(corners),
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
        "facts": facts_to_rows(facts),
        "nodata_fraction": chip.nodata_fraction if chip else None,
        "cloud_fraction": chip.cloud_fraction if chip else None,
        "license": (source.license or "unstated") if footprint.source else None,
        "text_license": OSM_LICENSE,
        "attribution": "; ".join([*attribution, f"Map: {OSM_ATTRIBUTION}"]),
        UNREADABLE.name: unreadable,
    }


def _manifest(
    config: CaptionDatasetConfig, num_footprints: int, table: pa.Table, osm_date: date | None
) -> dict[str, Any]:
    categories = Counter(table["category"].to_pylist())
    settings = config.model_dump(mode="json", exclude={"out"})
    return {
        "kind": KIND,
        "lhrs": version("lhrs"),
        "settings": {name: value for name, value in settings.items() if value not in (None, [])},
        "osm": {
            "file": config.osm.name,
            "sha256": fingerprint.sha256_of_file(config.osm),
            "date": osm_date and osm_date.isoformat(),
        },
        "text_license": f"{OSM_LICENSE} ({OSM_ATTRIBUTION}, https://www.openstreetmap.org/copyright): whoever "
        "publishes a database made of the captions or facts names the source and uses the same license",
        "image_licenses": sorted(set(filter(None, table["license"].to_pylist()))),
        "attribution": sorted(set(table["attribution"].to_pylist())),
        "num_footprints": num_footprints,
        "num_images": len(table),
        "num_facts": len(table["facts"].combine_chunks().flatten()),
        "categories": dict(sorted(categories.items())),
        "bounds": shapely.total_bounds(shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))).tolist(),
    }
