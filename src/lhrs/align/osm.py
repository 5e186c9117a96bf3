"""Map data, whatever file it comes in, as features: an id, what it is called, and its shape in longitude and latitude.

OpenStreetMap files are read object by object with pyosmium, which assembles multipolygons; what an image cannot show
is skipped before it becomes Python objects. GeoJSON, GeoParquet and Overture files are read with geopandas.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from lhrs.align.tags import Shape, tag_table
from lhrs.errors import DataError

OSM_SUFFIXES = (".pbf", ".osm", ".osm.gz", ".osm.bz2", ".o5m", ".opl")
OSM_ATTRIBUTION = "© OpenStreetMap contributors"
OSM_LICENCE = "ODbL-1.0"

_LINEAR = frozenset(["highway", "barrier", "railway", "waterway", "aerialway"])
"""Keys whose closed ways are rings, not areas, unless tagged area=yes."""
_AREAS_ANYWAY = frozenset(
    [("railway", "platform"), ("waterway", "riverbank"), ("waterway", "dock"), ("waterway", "dam")]
)
_AREAL = frozenset(["building", "landuse", "leisure", "amenity", "tourism", "aeroway"])
"""Keys whose closed ways are areas whatever else they are: a fenced park is a park."""
_LINEAR_NATURE = ("coastline", "tree_row", "cliff", "ridge", "arete", "valley")
_FLUSH = 50_000
_BIG_FILE = 2 * 2**30
"""Bytes from which on node locations go to disk, not to memory."""


@dataclass
class Features:
    """Columns of as many rows; geometries in degrees of longitude and latitude (WGS 84)."""

    ids: list[str]
    """`n1`, `w1`, `r1` for OpenStreetMap's nodes, ways and relations, else what the file says."""
    kinds: list[str]
    geometries: np.ndarray
    """Shapely objects."""

    def __len__(self) -> int:
        return len(self.ids)


def is_osm(path: Path) -> bool:
    """Tell whether a file is OpenStreetMap's own, not GeoJSON or Parquet."""
    return path.name.lower().endswith(OSM_SUFFIXES)


def read_features(path: Path, untagged: str | None = None) -> Iterator[Features]:
    """Yield what an image can show, in batches of bounded size.

    Args:
        path: .osm.pbf, .osm, .osm.gz, .osm.bz2; .geojson, .json, .gpkg; .parquet (GeoParquet, Overture).
        untagged: what objects without any tag are called; None leaves them out. OpenStreetMap's own files always have
            tags; extracts made for other uses may have lost them.

    Raises:
        DataError: The file is missing, broken, or of another kind.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    if untagged is not None and untagged not in tag_table().kinds:
        raise DataError(f"{untagged!r} is no kind of resources/tags.csv, such as 'building'.")
    batches = _read_osm(path) if is_osm(path) else _read_table(path, untagged)
    for batch in batches:
        if len(batch):
            yield _repaired(batch)


def snapshot_date(path: Path) -> date | None:
    """Return the day that a file's map is of, where it says so."""
    if not is_osm(path):
        return None
    import osmium

    try:
        with osmium.io.Reader(str(path)) as reader:
            said = reader.header().get("osmosis_replication_timestamp") or reader.header().get("timestamp")
    except RuntimeError as error:
        raise _broken(path, error) from None
    try:
        return date.fromisoformat(said[:10]) if said else None
    except ValueError:
        return None


def digest(path: Path) -> str:
    """Return a hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_osm(path: Path) -> Iterator[Features]:
    import osmium

    table = tag_table()
    factory = osmium.geom.WKBFactory()
    found: list[tuple[str, str, str, bool]] = []
    with tempfile.TemporaryDirectory() as folder:
        big = path.stat().st_size > _BIG_FILE
        try:
            outlines = _Outlines(path, table.match)
            # Areas pass whatever their tags: those of old relations are on their outlines.
            wanted = osmium.filter.KeyFilter(*table.keys)
            wanted.enable_for(osmium.osm.NODE | osmium.osm.WAY)
            processor = osmium.FileProcessor(str(path))
            processor.with_locations(f"sparse_file_array,{folder}/nodes" if big else "flex_mem")
            for item in processor.with_areas().with_filter(wanted):
                described = _described(item, factory, table.match, outlines)
                if described is not None:
                    found.append(described)
                    if len(found) == _FLUSH:
                        yield _features(found)
                        found = []
        except RuntimeError as error:
            raise _broken(path, error) from None
    yield _features(found)


class _Outlines:
    """Ways that outline multipolygons, so that what is a hole is not filled, and nothing is there twice.

    Relations that say what they are stand for themselves, and their outlines are not the same thing once more. Older
    ones have no tags of their own: they are what their outlines say.
    """

    def __init__(self, path: Path, match: Any) -> None:
        import osmium

        self.kinds: dict[int, set[str]] = {}
        """Of relations, by the ways that outline them."""
        self.bare: dict[int, list[int]] = {}
        """Outlines of relations that do not say what they are."""
        relation: Any
        for relation in osmium.FileProcessor(str(path), osmium.osm.RELATION):
            tags = dict(relation.tags)
            if tags.get("type") != "multipolygon":
                continue
            kind = match(tags, "area")
            ways = [member.ref for member in relation.members if member.type == "w" and member.role in ("outer", "")]
            if kind is not None:
                for way in ways:
                    self.kinds.setdefault(way, set()).add(kind)
            elif len(tags) == 1:
                self.bare[relation.id] = ways
        self._of_bare = {way for ways in self.bare.values() for way in ways}
        self._tags: dict[int, dict[str, str]] = {}

    def is_told_elsewhere(self, way: int, kind: str, tags: dict[str, str]) -> bool:
        """Tell whether an area comes with a relation; remembers what an old one is."""
        if way in self._of_bare:
            self._tags[way] = tags
            return True
        return kind in self.kinds.get(way, ())

    def tags_of(self, relation: int, own: dict[str, str]) -> dict[str, str]:
        """Return what a relation is."""
        outlines = self.bare.get(relation)
        return own if outlines is None else next((self._tags[w] for w in outlines if w in self._tags), own)


def _described(item: Any, factory: Any, match: Any, outlines: _Outlines) -> tuple[str, str, str, bool] | None:
    """Return id, kind, geometry as hexadecimal WKB, and whether that is the ring of an area."""
    import osmium

    try:
        if item.is_way():
            tags = dict(item.tags)
            if item.is_closed() and _is_area(tags):
                kind = match(tags, "area")
                if kind is not None:
                    if outlines.is_told_elsewhere(item.id, kind, tags):
                        return None
                    return f"w{item.id}", kind, factory.create_linestring(item), True
            kind = match(tags, "line")
            return None if kind is None else (f"w{item.id}", kind, factory.create_linestring(item), False)
        if item.is_area():
            if item.from_way():  # it was there as a way
                return None
            kind = match(outlines.tags_of(item.orig_id(), dict(item.tags)), "area")
            return None if kind is None else (f"r{item.orig_id()}", kind, factory.create_multipolygon(item), False)
        if item.is_node():
            kind = match(dict(item.tags), "point")
            return None if kind is None else (f"n{item.id}", kind, factory.create_point(item), False)
    except (RuntimeError, osmium.InvalidLocationError):
        return None  # nodes that the extract lacks, rings that do not close: nothing that could be drawn
    return None


def _features(found: list[tuple[str, str, str, bool]]) -> Features:
    shapes = shapely.from_wkb([row[2] for row in found])
    rings = np.flatnonzero([row[3] for row in found])
    keep = np.ones(len(found), bool)
    keep[rings] = shapely.get_num_coordinates(shapes[rings]) >= 4
    rings = rings[keep[rings]]
    points, of = shapely.get_coordinates(shapes[rings], return_index=True)
    if len(rings):
        shapes[rings] = shapely.polygons(shapely.linearrings(points, indices=of))
    at = np.flatnonzero(keep)
    return Features([found[n][0] for n in at], [found[n][1] for n in at], shapes[at])


def _is_area(tags: Mapping[str, str]) -> bool:
    if "area" in tags:
        return tags["area"] != "no"
    if any(key in tags for key in _AREAL) or tags.get("natural", "") not in ("", *_LINEAR_NATURE):
        return True
    return not any(key in tags and (key, tags[key]) not in _AREAS_ANYWAY for key in _LINEAR)


def _broken(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).rstrip(".")
    hint = " Sort it: osmium sort." if "order" in reason else ""
    return DataError(f"{path} is not a whole OpenStreetMap file ({reason}).{hint}")


def _read_table(path: Path, untagged: str | None) -> Iterator[Features]:
    import geopandas

    suffix = path.suffix.lower()
    try:
        frame = geopandas.read_parquet(path) if suffix == ".parquet" else geopandas.read_file(path)
    except Exception as error:  # each driver raises its own
        raise DataError(f"{path} cannot be read as map data ({' '.join(str(error).split())}).") from None
    if not isinstance(frame, geopandas.GeoDataFrame):
        raise DataError(f"{path} holds no geometries.")
    if frame.crs is not None and not frame.crs.equals("EPSG:4326"):
        frame = frame.to_crs("EPSG:4326")
    is_overture = {"id", "sources", "bbox", "version"} <= set(frame.columns)
    names = [name for name in frame.columns if name != frame.geometry.name]
    ids, kinds, shapes = [], [], []
    for n, (geometry, *values) in enumerate(
        zip(frame.geometry.values, *(frame[name].tolist() for name in names), strict=True)
    ):
        if geometry is None or geometry.is_empty:
            continue
        properties = {name: value for name, value in zip(names, values, strict=True) if _is_said(value)}
        tags = _overture_tags(properties) if is_overture else _plain_tags(properties)
        for part in _homogeneous(geometry):
            shape: Shape = ("point", "line", "area")[shapely.get_dimensions(part)]
            kind = tag_table().match(tags, shape) if tags else untagged
            if kind is not None:
                ids.append(_identity(properties, geometry.geom_type) or f"{path.name}#{n}")
                kinds.append(kind)
                shapes.append(part)
    yield Features(ids, kinds, np.array(shapes, object))


def _is_said(value: object) -> bool:
    return value is not None and value == value and value != ""


def _homogeneous(geometry: Any) -> list[Any]:
    return [geometry] if geometry.geom_type != "GeometryCollection" else list(geometry.geoms)


_NO_TAGS = frozenset(
    ["osm_id", "osm_type", "osm_way_id", "id", "@id", "label", "type", "version", "timestamp", "full_id"]
)


def _plain_tags(properties: Mapping[str, Any]) -> dict[str, str]:
    nested = properties.get("tags")
    if isinstance(nested, str) and nested.startswith("{"):
        try:
            nested = json.loads(nested)
        except ValueError:
            raise DataError(f"`tags` of a feature is no JSON: {nested[:60]!r}.") from None
    if isinstance(nested, Mapping):
        return {str(key): str(value) for key, value in nested.items()}
    return {key: str(value) for key, value in properties.items() if key not in _NO_TAGS}


def _identity(properties: Mapping[str, Any], geometry_type: str) -> str | None:
    """Return `w1` from osm_id and osm_type, from osmtogeojson's `way/1`, or from Overture's record of its source."""
    sources = properties.get("sources")
    if sources is not None and len(sources) and str(sources[0].get("dataset")) == "OpenStreetMap":
        return str(sources[0].get("record_id")).partition("@")[0]
    for name in ("@id", "id", "full_id", "osm_id"):
        said = str(properties.get(name, ""))
        kind, _, number = said.partition("/")
        if kind in ("node", "way", "relation") and number.isdecimal():
            return kind[0] + number
    if _is_whole(properties.get("osm_way_id")):
        return f"w{int(properties['osm_way_id'])}"
    if _is_whole(properties.get("osm_id")):
        letter = str(properties.get("osm_type") or ("node" if geometry_type == "Point" else "way"))[0].lower()
        return f"{letter}{int(properties['osm_id'])}"
    return str(properties["id"]) if "id" in properties else None


def _is_whole(value: Any) -> bool:
    return value is not None and str(value).removesuffix(".0").lstrip("-").isdecimal()


_OVERTURE_KEYS = {
    "land": "natural", "land_use": "landuse", "water": "natural", "infrastructure": "man_made", "land_cover": "natural",
}  # fmt: skip


def _overture_tags(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as OpenStreetMap would have them (Overture schema 1.x: buildings, transportation, base)."""
    said = {key: str(properties[key]) for key in ("type", "subtype", "class") if key in properties}
    original = properties.get("source_tags")
    if original is not None and len(original):
        return {
            str(key): str(value) for key, value in (original.items() if isinstance(original, Mapping) else original)
        }
    kind, subtype, name = said.get("type"), said.get("subtype", ""), said.get("class", "")
    if kind == "building" or "has_parts" in properties:
        return {"building": name or "yes"}
    if kind == "segment" or subtype in ("road", "rail"):
        key = "railway" if subtype == "rail" else "highway"
        return {key: {"standard_gauge": "rail", "unclassified": "unclassified"}.get(name, name)}
    if subtype in ("river", "stream", "canal"):
        return {"waterway": subtype, "natural": "water", "water": subtype}
    if subtype in ("lake", "pond", "reservoir", "water"):
        return {"natural": "water", "water": subtype}
    return {
        key: name or subtype for key in dict.fromkeys((_OVERTURE_KEYS.get(kind or "", "landuse"), "leisure", "natural"))
    }


def _repaired(batch: Features) -> Features:
    """Make polygons valid and leave out what has no place on the Earth."""
    shapes = batch.geometries
    wrong = ~shapely.is_valid(shapes)
    if wrong.any():
        dimensions = shapely.get_dimensions(shapes[wrong])
        made = shapely.make_valid(shapes[wrong])
        # A repaired polygon may come with the lines where it touched itself.
        shapes[wrong] = [
            shapely.union_all([p for p in shapely.get_parts(g) if shapely.get_dimensions(p) == d])
            if g is not None and g.geom_type == "GeometryCollection" else g
            for g, d in zip(made, dimensions, strict=True)
        ]  # fmt: skip
    bounds = shapely.bounds(shapes)
    keep = np.isfinite(bounds).all(1) & (np.abs(bounds[:, 1::2]) <= 90).all(1) & ~shapely.is_empty(shapes)
    if keep.all():
        return batch
    at = np.flatnonzero(keep)
    return Features([batch.ids[n] for n in at], [batch.kinds[n] for n in at], shapes[at])
