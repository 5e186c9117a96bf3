"""Read map data in tables: all layers of GDAL formats, GeoParquet and Overture."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from lhrs.align.features import Features
from lhrs.align.tags import Shape, tag_table
from lhrs.dropped import Dropped
from lhrs.errors import DataError

if TYPE_CHECKING:
    import geopandas

_PARQUET = (".parquet", ".geoparquet")
_HSTORE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*=>\s*"((?:[^"\\]|\\.)*)"')
_NOT_TAGS = frozenset([
    "osm_id", "osm_type", "osm_way_id", "osmid", "id", "full_id", "label", "type", "element", "element_type", "nodes",
    "ways", "version", "timestamp", "changeset", "uid", "user", "visible", "z_order", "code", "fclass", "tags",
    "other_tags", "all_tags",
])  # fmt: skip
"""Columns that are not tags, in addition to those that begin with @."""
_ID_COLUMNS = ("@id", "id", "full_id", "osmid", "osm_id")
_TYPE_COLUMNS = ("@type", "osm_type", "element", "element_type", "type")
_TYPES = {"node": "n", "nodes": "n", "way": "w", "ways": "w", "ways_line": "w", "ways_poly": "w", "relation": "r",
          "relations": "r", "n": "n", "w": "w", "r": "r"}  # fmt: skip
_TYPED_ID = re.compile(r"(node|way|relation|n|w|r|a)/?(-?\d+)")
_LAYER_TYPES = {"points": "n", "lines": "w", "multilinestrings": "r", "other_relations": "r"}
"""Object types by layer of GDAL's OSM driver. Its multipolygons are ways if `osm_way_id` is set."""
_FCLASS_KEYS = {
    15: ("building",), 41: ("natural",), 51: ("highway",), 61: ("railway",), 72: ("landuse", "leisure", "natural"),
    81: ("waterway",), 82: ("natural", "water"),
}  # fmt: skip
"""Keys of the values in Geofabrik's column `fclass`, by the hundreds of its column `code`."""


def read_map_table(path: Path, default_tag: str | None, dropped: Dropped) -> Iterator[Features]:
    """Yield the features of each layer.

    Raises:
        DataError: the file cannot be read, or no layer has geometries.
    """
    num_layers = 0
    for layer, frame in _layers(path):
        num_layers += 1
        yield _to_features(path, layer, frame, default_tag, dropped)
    if not num_layers:
        raise DataError(f"{path} contains no geometries.")


def _layers(path: Path) -> "Iterator[tuple[str, geopandas.GeoDataFrame]]":
    """Yield the name and rows of each layer with geometries, in degrees."""
    import geopandas
    import pyogrio

    try:
        if path.suffix.lower() in _PARQUET:
            frames = [(path.stem, geopandas.read_parquet(path))]
        else:
            names = [str(name) for name, geometry in pyogrio.list_layers(path) if geometry is not None]
            frames = [(name, pyogrio.read_dataframe(path, layer=name)) for name in names]
    except Exception as error:  # each driver raises its own errors
        raise DataError(f"{path} cannot be read as map data ({' '.join(str(error).split())}).") from None
    for name, frame in frames:
        if not isinstance(frame, geopandas.GeoDataFrame):
            continue
        is_degrees = frame.crs is None or frame.crs.equals("EPSG:4326")
        yield name, frame if is_degrees else frame.to_crs("EPSG:4326")


def _to_features(
    path: Path, layer: str, frame: "geopandas.GeoDataFrame", default_tag: str | None, dropped: Dropped
) -> Features:
    is_overture = {"id", "sources", "bbox", "version"} <= set(frame.columns)
    is_gdal_osm = layer in (*_LAYER_TYPES, "multipolygons") and "osm_id" in frame.columns
    names = [name for name in frame.columns if name != frame.geometry.name]
    ids, kinds, shapes = [], [], []
    match = tag_table().match
    for n, (geometry, *values) in enumerate(
        zip(frame.geometry.values, *(frame[name].tolist() for name in names), strict=True)
    ):
        properties = {name: value for name, value in zip(names, values, strict=True) if _is_filled(value)}
        identity = _identity(properties, geometry, layer if is_gdal_osm else None) or f"{path.name}#{n}"
        if geometry is None or geometry.is_empty:
            dropped.add("features without a geometry", identity)
            continue
        if _is_deleted(properties):
            dropped.add("deleted objects", identity)
            continue
        tags = _overture_tags(properties) if is_overture else _plain_tags(properties)
        if not tags and default_tag is None:
            dropped.add("features without tags", identity)
            continue
        parts = [geometry] if geometry.geom_type != "GeometryCollection" else list(geometry.geoms)
        for part in parts:
            shape: Shape = ("point", "line", "area")[shapely.get_dimensions(part)]
            kind = match(tags, shape) if tags else default_tag
            if kind is not None:
                ids.append(identity)
                kinds.append(kind)
                shapes.append(part)
    return Features(ids, kinds, np.array(shapes, object))


def _is_filled(value: object) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return False
    return bool(value == value) if isinstance(value, float) else not (isinstance(value, str) and not value)


def _is_deleted(properties: Mapping[str, Any]) -> bool:
    visible = str(properties.get("@visible", properties.get("visible", True))).lower()
    return visible == "false" or properties.get("action") == "delete"


def _plain_tags(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return tags from columns, from one nested column, or from GDAL's `other_tags`."""
    nested = next((properties[name] for name in ("tags", "all_tags") if name in properties), None)
    tags = {} if nested is None else _nested_tags(nested)
    if tags:
        return tags
    tags = {key: str(value) for key, value in properties.items() if key not in _NOT_TAGS and not key.startswith("@")}
    if "other_tags" in properties:
        tags |= _nested_tags(properties["other_tags"])
    if "fclass" in properties:
        tags |= _fclass_tags(properties)
    return tags


def _nested_tags(value: Any) -> dict[str, str]:
    """Return tags from a mapping, pairs, JSON, or PostgreSQL's hstore."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            raise DataError(f"`tags` of a feature is no JSON: {value[:60]!r}.") from None
    if isinstance(value, str):
        return {_unescape(key): _unescape(text) for key, text in _HSTORE.findall(value)}
    if isinstance(value, Mapping):
        return {str(key): str(text) for key, text in value.items() if text is not None}
    return {str(key): str(text) for key, text in value}


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _fclass_tags(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags for the classes of Geofabrik's shapefiles."""
    code, value = str(properties.get("code", "")).partition(".")[0], str(properties["fclass"])
    keys = _FCLASS_KEYS.get(int(code) // 100, ()) if code.isdecimal() else ()
    if keys == ("building",):
        return {"building": str(properties.get("type", "yes"))}
    if keys == ("natural", "water"):
        return {"natural": value if value in ("wetland", "glacier") else "water"}
    return dict.fromkeys(keys, value)


def _identity(properties: Mapping[str, Any], geometry: Any, gdal_layer: str | None) -> str | None:
    """Return `w1` from the columns of any tool that writes OpenStreetMap's ids."""
    sources = properties.get("sources")
    if sources is not None and len(sources) and str(sources[0].get("dataset")) == "OpenStreetMap":
        return str(sources[0].get("record_id")).partition("@")[0]
    if gdal_layer is not None:
        if _is_whole(properties.get("osm_way_id")):
            return f"w{_whole(properties['osm_way_id'])}"
        letter = _LAYER_TYPES.get(gdal_layer, "r")
        return f"{letter}{_whole(properties['osm_id'])}" if _is_whole(properties.get("osm_id")) else None
    for name in _ID_COLUMNS:
        match = _TYPED_ID.fullmatch(str(properties.get(name, "")))
        if match:
            return _typed_id(match[1], int(match[2]))
    if _is_whole(properties.get("osm_way_id")):
        return f"w{_whole(properties['osm_way_id'])}"
    is_point = geometry is not None and geometry.geom_type == "Point"
    types = [_TYPES.get(str(properties.get(name)).lower()) for name in _TYPE_COLUMNS]
    letter = next(filter(None, types), None) or ""
    for name in _ID_COLUMNS:
        if _is_whole(properties.get(name)) and (letter or name in ("osm_id", "osmid")):
            number = _whole(properties[name])
            if not letter and number < 0 and not is_point:  # osm2pgsql marks relations by negative ids
                return f"r{-number}"
            return f"{letter or ('n' if is_point else 'w')}{number}"
    return str(properties["id"]) if "id" in properties else None


def _typed_id(kind: str, number: int) -> str:
    if kind == "a":  # osmium's area ids: even for ways, odd for relations
        return f"{'r' if number % 2 else 'w'}{number // 2}"
    return f"{kind[0]}{number}"


def _is_whole(value: Any) -> bool:
    return value is not None and str(value).removesuffix(".0").lstrip("-").isdecimal()


def _whole(value: Any) -> int:
    return int(str(value).removesuffix(".0"))


_OVERTURE_KEYS = {
    "land": "natural", "land_use": "landuse", "water": "natural", "infrastructure": "man_made", "land_cover": "natural",
}  # fmt: skip


def _overture_tags(properties: Mapping[str, Any]) -> dict[str, str]:
    """Return tags as OpenStreetMap would have them (Overture schema 1.x: buildings, transportation, base)."""
    values = {key: str(properties[key]) for key in ("type", "subtype", "class") if key in properties}
    original = properties.get("source_tags")
    if original is not None and len(original):
        return _nested_tags(original)
    kind, subtype, name = values.get("type"), values.get("subtype", ""), values.get("class", "")
    if kind == "building" or "has_parts" in properties:
        return {"building": name or "yes"}
    if kind == "segment" or subtype in ("road", "rail"):
        key = "railway" if subtype == "rail" else "highway"
        return {key: "rail" if name == "standard_gauge" else name}
    if subtype in ("river", "stream", "canal"):
        return {"waterway": subtype, "natural": "water", "water": subtype}
    if subtype in ("lake", "pond", "reservoir", "water"):
        return {"natural": "water", "water": subtype}
    keys = dict.fromkeys((_OVERTURE_KEYS.get(kind or "", "landuse"), "leisure", "natural"))
    return {key: name or subtype for key in keys}
