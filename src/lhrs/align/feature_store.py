"""Features on disk in spatial order, so that a region is read without the rest of the file."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from lhrs.align.features import Features
from lhrs.align.spatial_order import sort_tile_recursive_order
from lhrs.atomic_io import atomic_write
from lhrs.dropped import Dropped

_ROW_GROUP = 2048
_BOUNDS = ("west", "south", "east", "north")
_DROPPED = "lhrs:dropped"
"""Metadata key of the counts of map features that are not in the store."""
Region = tuple[float, float, float, float]
"""West, south, east, north in degrees; west > east spans the antimeridian."""


def _touches(bounds: np.ndarray, region: Region) -> np.ndarray:
    west, south, east, north = region
    x1, y1, x2, y2 = bounds.T
    across = (x1 <= east) & (x2 >= west) if west <= east else (x2 >= west) | (x1 <= east)
    return across & (y1 <= north) & (y2 >= south)


def write_store(
    path: Path, batches: Iterable[Features], regions: Sequence[Region] | None = None, dropped: Dropped | None = None
) -> int:
    """Write the features inside the regions, or all features if None. Return their number.

    Args:
        path: path of the store, which is not written if there are no features.
        batches: batches of features.
        regions: bounds in degrees.
        dropped: counts of dropped features, filled while the batches are read and saved in the store. If no feature
            is in a region, the features outside are counted too.
    """
    dropped = Dropped() if dropped is None else dropped
    tables, num_read = [], 0
    for batch in batches:
        num_read += len(batch)
        tables.append(_table(batch, regions))
    tables = [table for table in tables if len(table)]
    if not tables:
        dropped.add("features away from the images", count=num_read)
        return 0
    whole = pa.concat_tables(tables).unify_dictionaries()
    del tables
    whole = whole.replace_schema_metadata({_DROPPED: json.dumps([dropped.counts, dropped.examples])})
    bounds = np.stack([whole[name].to_numpy() for name in _BOUNDS], 1)
    # Ids break ties: the order of the file may depend on threads.
    by_id = np.argsort(whole["id"].to_numpy(zero_copy_only=False).astype(str), kind="stable")
    order = by_id[
        sort_tile_recursive_order(
            (bounds[:, 0] + bounds[:, 2])[by_id], (bounds[:, 1] + bounds[:, 3])[by_id], _ROW_GROUP
        )
    ]
    with (
        atomic_write(path) as part,
        pq.ParquetWriter(part, whole.schema, compression="zstd", compression_level=1) as out,
    ):
        for start in range(0, len(order), _ROW_GROUP):  # in parts: all rows at once would be a second copy
            out.write_table(whole.take(order[start : start + _ROW_GROUP]))
    return len(whole)


def _table(batch: Features, regions: Sequence[Region] | None) -> pa.Table:
    bounds = shapely.bounds(batch.geometries)
    keep = np.ones(len(batch), bool)
    if regions is not None:
        keep = np.logical_or.reduce([_touches(bounds, region) for region in regions])
    at = np.flatnonzero(keep)
    columns: dict[str, pa.Array] = {
        "id": pa.array([batch.ids[n] for n in at], pa.string()),
        "kind": pa.array([batch.kinds[n] for n in at], pa.string()).dictionary_encode(),
        "geometry": pa.array(shapely.to_wkb(batch.geometries[at]), pa.binary()),
    }
    return pa.table({**columns, **{name: bounds[at, n] for n, name in enumerate(_BOUNDS)}})


class FeatureStore:
    """Reads features of a region.

    Args:
        path: file written by `write_store`.

    Attributes:
        bounds: bounds of all features.
        dropped: counts of map features that are not in the store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        metadata = pq.read_metadata(path)
        columns = {metadata.schema.column(n).name: n for n in range(metadata.num_columns)}
        limits = np.empty((metadata.num_row_groups, 4))
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            for n, name in enumerate(_BOUNDS):
                statistics = row_group.column(columns[name]).statistics
                limits[group, n] = statistics.min if n < 2 else statistics.max
        self._limits = limits
        self.bounds: Region = (*limits[:, :2].min(0).tolist(), *limits[:, 2:].max(0).tolist())
        self.dropped = Dropped()
        counts, examples = json.loads((metadata.metadata or {}).get(_DROPPED.encode(), b"[{}, {}]"))
        for reason, count in counts.items():
            self.dropped.add(reason, count=count)
            self.dropped.examples[reason] = examples[reason]

    def read(self, region: Region) -> Features:
        """Return the features whose bounds touch the region, in the order of the file."""
        groups = np.flatnonzero(_touches(self._limits, region)).tolist()
        if not groups:
            return Features([], [], np.array([], object))
        with pq.ParquetFile(self.path) as file:
            table = file.read_row_groups(groups)
        bounds = np.stack([table[name].to_numpy() for name in _BOUNDS], 1)
        table = table.take(np.flatnonzero(_touches(bounds, region)))
        return Features(
            table["id"].to_pylist(), table["kind"].to_pylist(),
            shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False)),
        )  # fmt: skip
