"""Read map data of any format as features: OpenStreetMap files, Overpass JSON, GeoJSON, GeoPackage, GeoParquet."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import shapely

from lhrs.align.features import Features
from lhrs.align.map_table import read_map_table
from lhrs.align.osm_file import is_osm, is_overpass_json, read_header, read_osm_file
from lhrs.align.tags import tag_table
from lhrs.dropped import Dropped
from lhrs.errors import DataError

OSM_ATTRIBUTION = "© OpenStreetMap contributors"
OSM_LICENSE = "ODbL-1.0"


def read_features(path: Path, default_tag: str | None = None, dropped: Dropped | None = None) -> Iterator[Features]:
    """Yield the features that an image can show, in batches of bounded size.

    Args:
        path: .osm.pbf, .osm, .osm.gz, .osm.bz2; Overpass JSON; .geojson, .geojsonseq, .gpkg, .shp and other GDAL
            formats; .parquet (GeoParquet, Overture).
        default_tag: kind of features without any tag; None drops them. OpenStreetMap's own files always have tags;
            extracts made for other uses may have lost them.
        dropped: receives the counts of dropped features.

    Raises:
        DataError: the file is missing, broken, or of another kind.
    """
    dropped = Dropped() if dropped is None else dropped
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if default_tag is not None and default_tag not in tag_table().kinds:
        raise DataError(f"{default_tag!r} is no kind of resources/tags.csv, such as 'building'.")
    is_file_of_osm = is_osm(path) or is_overpass_json(path)
    batches = read_osm_file(path, dropped) if is_file_of_osm else read_map_table(path, default_tag, dropped)
    for batch in batches:
        if len(batch):
            yield _make_valid(batch, dropped)


def snapshot_date(path: Path) -> date | None:
    """Return the map date in the header of a file; None without one."""
    if not is_osm(path):
        return None
    header = read_header(path)
    day = header.get("osmosis_replication_timestamp") or header.get("timestamp")
    try:
        return date.fromisoformat(day[:10]) if day else None
    except ValueError:
        return None


def _make_valid(batch: Features, dropped: Dropped) -> Features:
    """Make polygons valid and drop empty shapes and shapes beyond 90 degrees of latitude."""
    shapes = batch.geometries
    invalid = ~shapely.is_valid(shapes)
    if invalid.any():
        dimensions = shapely.get_dimensions(shapes[invalid])
        repaired = shapely.make_valid(shapes[invalid])
        # A repaired polygon may include lines where it touched itself.
        shapes[invalid] = [
            shapely.union_all([p for p in shapely.get_parts(g) if shapely.get_dimensions(p) == d])
            if g is not None and g.geom_type == "GeometryCollection" else g
            for g, d in zip(repaired, dimensions, strict=True)
        ]  # fmt: skip
    bounds = shapely.bounds(shapes)
    is_empty = shapely.is_empty(shapes) | ~np.isfinite(bounds).all(1)
    is_outside = ~is_empty & (np.abs(bounds[:, 1::2]) > 90).any(1)
    if not (is_empty.any() or is_outside.any()):
        return batch
    for n in np.flatnonzero(is_empty):
        dropped.add("features with an empty shape", batch.ids[n])
    for n in np.flatnonzero(is_outside):
        dropped.add("features beyond 90 degrees of latitude", batch.ids[n])
    kept = np.flatnonzero(~is_empty & ~is_outside)
    return Features([batch.ids[n] for n in kept], [batch.kinds[n] for n in kept], shapes[kept])
