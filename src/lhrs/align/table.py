"""Schema of the rows of a caption dataset, and their GeoParquet file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from pyproj import CRS

from lhrs.align.facts import Fact, Relation
from lhrs.atomic_io import atomic_write
from lhrs.errors import DataError

INDEX = "index.parquet"
KIND = "lhrs-align"

FACT = pa.struct(
    [
        ("kind", pa.string()),
        ("group", pa.string()),
        ("parent", pa.string()),
        ("visible", pa.bool_()),
        ("count", pa.int32()),
        ("num_visible", pa.int32()),
        ("area_fraction", pa.float64()),
        ("area_m2", pa.float64()),
        ("length_m", pa.float64()),
        ("largest_area_fraction", pa.float64()),
        ("position", pa.string()),
        ("quadrants", pa.list_(pa.string())),
        ("orientation", pa.string()),
        ("relations", pa.list_(pa.struct([("relation", pa.string()), ("kind", pa.string())]))),
        ("osm_ids", pa.list_(pa.string())),
        ("boxes", pa.list_(pa.list_(pa.float64()))),
        ("object_visible_fraction", pa.list_(pa.float64())),
        ("object_visible", pa.list_(pa.bool_())),
    ]
)
"""See `lhrs.align.facts.Fact`."""
SCHEMA = pa.schema(
    [
        ("number", pa.int64()),  # index of the footprint: the sort order of the table; not written
        ("id", pa.string()),
        ("image", pa.string()),  # path relative to the dataset, or as given; null without imagery
        ("window", pa.list_(pa.float64())),  # left, top, width, height in pixels of `source`
        ("source", pa.string()),
        ("geometry", pa.binary()),  # footprint, WKB, longitude and latitude
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("gsd_m", pa.float64()),
        ("crs", pa.string()),
        ("transform", pa.list_(pa.float64())),
        ("date", pa.string()),
        ("osm_date", pa.string()),
        ("date_gap_days", pa.int32()),
        ("caption", pa.string()),
        ("category", pa.string()),
        ("facts", pa.list_(FACT)),
        ("nodata_fraction", pa.float64()),
        ("cloud_fraction", pa.float64()),
        ("license", pa.string()),  # of the image
        ("text_license", pa.string()),  # of caption and facts
        ("attribution", pa.string()),
    ]
)

UNREADABLE = pa.field("unreadable", pa.string())
"""Why the image cannot be read; null if it can. Only used while a dataset is built."""


def facts_to_rows(facts: Sequence[Fact]) -> list[dict[str, Any]]:
    """Return facts as rows of `FACT`."""
    return [{**fact.__dict__, "relations": [r.__dict__ for r in fact.relations]} for fact in facts]


def rows_to_facts(rows: Sequence[dict[str, Any]]) -> list[Fact]:
    """Return rows of `FACT` as facts."""
    return [Fact(**{**row, "relations": [Relation(**r) for r in row["relations"]]}) for row in rows]


def write_table(table: pa.Table, path: Path) -> None:
    """Write rows as GeoParquet 1.1, atomically."""
    shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    geo = {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "crs": CRS("EPSG:4326").to_json_dict(),
                "geometry_types": sorted({shape.geom_type for shape in shapes}),
                "bbox": np.round(shapely.total_bounds(shapes), 9).tolist() if len(shapes) else [],
            }
        },
    }
    with atomic_write(path) as part:
        kept = [name for name in table.column_names if name != "number"]
        marked = table.select(kept).replace_schema_metadata({"geo": json.dumps(geo)})
        pq.write_table(marked, part, compression="zstd", compression_level=3, row_group_size=4096)


def read_table(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the table of a dataset.

    Raises:
        DataError: the dataset has no table.
    """
    path = folder / INDEX
    if not path.exists():
        raise DataError(f"{folder} is no alignment data set: it has no {INDEX}. Make one: lhrs align build")
    try:
        table = pq.read_table(path, columns=list(columns) if columns else None)
        lacking = [name for name in columns or SCHEMA.names if name not in table.column_names and name != "number"]
        if lacking:
            raise DataError(f"{path} is no index of an alignment data set: it has no column {lacking[0]!r}.")
        return table
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({' '.join(str(error).split())}).") from None


def footprint_wkb(corners: np.ndarray) -> bytes:
    """Return the polygon of `(4, 2)` corners as WKB; two parts if it spans the antimeridian."""
    lon = corners[:, 0]
    if lon.max() - lon.min() <= 180:
        return shapely.to_wkb(shapely.Polygon(corners[::-1]))
    east = np.stack([np.where(lon < 0, lon + 360, lon), corners[:, 1]], 1)
    whole = shapely.Polygon(east[::-1])
    near = shapely.intersection(whole, shapely.box(0, -90, 180, 90))
    far = shapely.transform(shapely.intersection(whole, shapely.box(180, -90, 540, 90)), lambda p: p - [360, 0])
    return shapely.to_wkb(shapely.MultiPolygon([near, far]))
