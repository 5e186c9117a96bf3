"""Read OpenStreetMap files object by object with pyosmium, which assembles multipolygons.

Objects that no image can show are skipped before they become Python objects. Files that pyosmium cannot read as they
are (ways before nodes, negative ids, deleted objects, several versions) are rewritten first; see `osm_objects`.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from lhrs.align.features import Features
from lhrs.align.osm_objects import OsmObjects, is_overpass_json, objects_marked_deleted
from lhrs.align.tags import tag_table
from lhrs.dropped import Dropped
from lhrs.errors import DataError

__all__ = ["is_osm", "is_overpass_json", "read_header", "read_osm_file"]

_SUFFIXES = (".pbf", ".osm", ".osm.gz", ".osm.bz2", ".o5m", ".opl", ".osh", ".osh.gz", ".osh.bz2")
_CHANGES = (".osc", ".osc.gz", ".osc.bz2", ".o5c")
_LINEAR = frozenset(["highway", "barrier", "railway", "waterway", "aerialway"])
"""Keys whose closed ways are rings, not areas, unless tagged area=yes."""
_AREAS_ANYWAY = frozenset(
    [("railway", "platform"), ("waterway", "riverbank"), ("waterway", "dock"), ("waterway", "dam")]
)
_AREAL = frozenset(["building", "landuse", "leisure", "amenity", "tourism", "aeroway"])
"""Keys whose closed ways are areas whatever other keys they have: a fenced park is a park."""
_LINEAR_NATURE = ("coastline", "tree_row", "cliff", "ridge", "arete", "valley")
_BATCH_SIZE = 50_000
_BIG_FILE = 2 * 2**30
"""File size in bytes from which node locations are stored on disk, not in memory."""
_MAX_REWRITTEN = 512 * 2**20
"""Bytes of the largest file that is rewritten in memory."""

_Row = tuple[str, str, str, bool]
"""Id, kind, geometry as hexadecimal WKB, and whether it is the ring of an area."""
NameObject = Callable[[str, int], str]


class _UnsortedError(Exception):
    """The file must be rewritten before it is read."""


def is_osm(path: Path) -> bool:
    """Return whether the name of a file is that of an OpenStreetMap file."""
    return path.name.lower().endswith(_SUFFIXES + _CHANGES)


def read_header(path: Path) -> Any:
    """Return the header of an OpenStreetMap file.

    Raises:
        DataError: the file is broken.
    """
    import osmium

    try:
        with osmium.io.Reader(str(path), osmium.osm.NOTHING) as reader:
            return reader.header()
    except RuntimeError as error:
        raise _broken_file(path, error) from None


def read_osm_file(path: Path, dropped: Dropped) -> Iterator[Features]:
    """Yield the features of an OpenStreetMap file or of Overpass JSON.

    Raises:
        DataError: the file is broken, contains changes only, or is too large to be sorted here.
    """
    if path.name.lower().endswith(_CHANGES):
        raise DataError(f"{path} contains changes, not a map: apply them to an extract first (osmium apply-changes).")
    with tempfile.TemporaryDirectory() as folder:
        try:
            if is_overpass_json(path):
                yield from _read_rewritten(OsmObjects.from_overpass(path, dropped), Path(folder), dropped)
                return
            header, deleted = read_header(path), objects_marked_deleted(path)
            is_history = header.has_multiple_object_versions or ".osh" in path.name.lower()
            if not is_history and not deleted:
                counts = Dropped()
                try:
                    yield from _read_sorted(path, _plain_name, Path(folder), counts)
                    dropped.update(counts)
                    return
                except _UnsortedError:
                    pass
            if path.stat().st_size > _MAX_REWRITTEN:
                command = "osmium time-filter" if is_history else "osmium sort"
                reason = "has several versions of objects" if is_history else "is not sorted by type and id"
                raise DataError(f"{path} {reason}: use {command} first.")
            yield from _read_rewritten(OsmObjects.from_file(path, deleted, dropped), Path(folder), dropped)
        except (RuntimeError, ValueError, TypeError) as error:  # from pyosmium: an id or coordinate is not a number
            raise _broken_file(path, error) from None


def _read_rewritten(objects: OsmObjects, folder: Path, dropped: Dropped) -> Iterator[Features]:
    path = folder / "sorted.osm.pbf"
    yield from _read_sorted(path, objects.write(path), folder, dropped, is_rewritten=True)


def _plain_name(kind: str, number: int) -> str:
    return f"{kind}{number}"


def _read_sorted(
    path: Path, name: NameObject, folder: Path, dropped: Dropped, is_rewritten: bool = False
) -> Iterator[Features]:
    """Yield features in the order of the file.

    Args:
        path: path of the file.
        name: returns the id of a feature from `n`, `w` or `r` and the number of the object.
        folder: for temporary files.
        dropped: receives counts.
        is_rewritten: the file is sorted; otherwise this is checked once, when nodes of a way are missing.

    Raises:
        _UnsortedError: the file is not sorted, and nothing was yielded yet.
    """
    import osmium

    match, has_yielded, has_ways, is_checked = tag_table().match, False, is_rewritten, is_rewritten
    rows: list[_Row] = []
    # Areas pass whatever their tags: the tags of old relations are on their outlines.
    wanted = osmium.filter.KeyFilter(*tag_table().keys)
    wanted.enable_for(osmium.osm.NODE | osmium.osm.WAY)
    try:
        relations = _Relations(path, match)
        reader = _ObjectReader(name, relations, match, dropped, checks_visible=path.suffix != ".pbf")
        processor = osmium.FileProcessor(str(path))
        is_big = path.stat().st_size > _BIG_FILE
        processor.with_locations(f"sparse_file_array,{folder}/nodes" if is_big else "flex_mem")
        for item in processor.with_areas().with_filter(wanted):
            row = reader.read(item)
            if row is not None:
                rows.append(row)
                has_ways = has_ways or row[0][0] != "n"
                # Points wait for the first way: until then the file may turn out to be unsorted.
                if len(rows) >= _BATCH_SIZE and has_ways:
                    has_yielded = True
                    yield _to_features(rows, dropped)
                    rows = []
            elif reader.misses_nodes and not is_checked:
                is_checked = True
                if _is_unsorted(path):
                    raise _UnsortedError
        if not is_checked and relations.has_lost and _is_unsorted(path):
            raise _UnsortedError
    except (_UnsortedError, RuntimeError) as error:
        if not isinstance(error, _UnsortedError) and not any(w in str(error) for w in ("order", "twice", "history")):
            raise
        if has_yielded or is_rewritten:
            raise DataError(f"{path} is not sorted by type and id: use osmium sort first.") from None
        raise _UnsortedError from None
    relations.count_lost(path, name, dropped)
    yield _to_features(rows, dropped)


def _is_unsorted(path: Path) -> bool:
    """Return whether nodes follow ways, ids are negative, or ways include the locations of their nodes."""
    import osmium

    if read_header(path).get("sorting") == "Type_then_ID":
        return False
    has_ways = False
    item: Any
    for item in osmium.FileProcessor(str(path), osmium.osm.NODE | osmium.osm.WAY):
        if item.id < 0 or (has_ways and item.is_node()):
            return True
        if item.is_way() and not has_ways:
            has_ways = True
            if any(node.location.valid() for node in item.nodes):
                return True
    return False


class _Relations:
    """Multipolygons of a file and the ways that outline them.

    A relation with a kind of its own is one feature; an outline of the same kind is not a second one. Older relations
    have no tags of their own: they are of the kind of their outlines.
    """

    def __init__(self, path: Path, match: Any) -> None:
        import osmium

        self._kinds: dict[int, set[str]] = {}
        """Kinds of relations by the ways that outline them."""
        self._untagged: dict[int, list[int]] = {}
        """Outlines of relations without tags."""
        self._expected: dict[int, list[int]] = {}
        """Member ways of relations that become areas."""
        relation: Any
        for relation in osmium.FileProcessor(str(path), osmium.osm.RELATION):
            tags = dict(relation.tags)
            if tags.get("type") not in ("multipolygon", "boundary") or not relation.visible:
                continue
            kind = match(tags, "area")
            ways = [member for member in relation.members if member.type == "w"]
            if kind is not None:
                self._expected[relation.id] = [way.ref for way in ways]
            if tags["type"] != "multipolygon":
                continue
            outlines = [way.ref for way in ways if way.role in ("outer", "")]
            if kind is not None:
                for way in outlines:
                    self._kinds.setdefault(way, set()).add(kind)
            elif len(tags) == 1:
                self._untagged[relation.id] = outlines
                self._expected[relation.id] = [way.ref for way in ways]
        self._of_untagged = {way for ways in self._untagged.values() for way in ways}
        self._tags: dict[int, dict[str, str]] = {}

    def is_relation_member(self, way: int, kind: str, tags: dict[str, str]) -> bool:
        """Return whether an area belongs to a relation; store the tags of outlines of untagged relations."""
        if way in self._of_untagged:
            self._tags[way] = tags
            return True
        return kind in self._kinds.get(way, ())

    def has_outline(self, way: int) -> bool:
        """Return whether a way outlines a multipolygon."""
        return way in self._of_untagged or way in self._kinds

    @property
    def has_lost(self) -> bool:
        """Return whether some relations did not become areas."""
        return bool(self._expected)

    def tags_of(self, relation: int, own: dict[str, str]) -> dict[str, str]:
        """Return the tags of an assembled relation, which is not lost."""
        self._expected.pop(relation, None)
        outlines = self._untagged.get(relation)
        return own if outlines is None else next((self._tags[w] for w in outlines if w in self._tags), own)

    def count_lost(self, path: Path, name: NameObject, dropped: Dropped) -> None:
        """Count relations that did not become areas, by reason."""
        import osmium

        # An untagged relation whose outlines have no kind is not a feature.
        lost = {
            relation: ways for relation, ways in self._expected.items()
            if relation not in self._untagged or any(way in self._tags for way in self._untagged[relation])
        }  # fmt: skip
        members = {way for ways in lost.values() for way in ways}
        if not lost:
            return
        ways: Any = osmium.FileProcessor(str(path), osmium.osm.WAY).with_filter(osmium.filter.IdFilter(members))
        existing = {way.id for way in ways}
        for relation, member_ways in lost.items():
            is_whole = bool(member_ways) and existing.issuperset(member_ways)
            reason = "multipolygons with open rings" if is_whole else "multipolygons with missing members"
            dropped.add(reason, name("r", relation))


class _ObjectReader:
    """Returns the row of an object, or counts why it has none."""

    def __init__(
        self, name: NameObject, relations: _Relations, match: Any, dropped: Dropped, checks_visible: bool
    ) -> None:
        import osmium

        self._name, self._relations, self._match, self._dropped = name, relations, match, dropped
        self._checks_visible = checks_visible
        self._factory = osmium.geom.WKBFactory()
        self._errors = (RuntimeError, osmium.InvalidLocationError)
        self.misses_nodes = False
        """A node of the last object has no location."""

    def read(self, item: Any) -> _Row | None:
        """Return id, kind, geometry and whether it is a ring; None if it is not a feature."""
        self.misses_nodes = False
        if self._checks_visible and not item.visible:
            if not item.is_area():
                self._dropped.add("deleted objects", self._name(item.type_str(), item.id))
            elif not item.from_way():
                self._dropped.add("deleted objects", self._name("r", item.orig_id()))
            return None
        try:
            if item.is_way():
                return self._way(item)
            if item.is_area():
                if item.from_way():  # it was read as a way
                    return None
                kind = self._match(self._relations.tags_of(item.orig_id(), dict(item.tags)), "area")
                if kind is None:
                    return None
                return self._name("r", item.orig_id()), kind, self._factory.create_multipolygon(item), False
            kind = self._match(dict(item.tags), "point")
            return None if kind is None else (self._name("n", item.id), kind, self._factory.create_point(item), False)
        except self._errors:
            self._count(item)
        return None

    def _way(self, way: Any) -> _Row | None:
        tags = dict(way.tags)
        is_closed, is_area = way.is_closed(), _is_area(tags)
        if is_closed and is_area:
            kind = self._match(tags, "area")
            if kind is not None:
                if self._relations.is_relation_member(way.id, kind, tags):
                    return None
                return self._name("w", way.id), kind, self._factory.create_linestring(way), True
        kind = self._match(tags, "line")
        if kind is not None:
            return self._name("w", way.id), kind, self._factory.create_linestring(way), False
        if is_area and not is_closed and self._match(tags, "area") and not self._relations.has_outline(way.id):
            self._dropped.add("areas whose way is not closed", self._name("w", way.id))
        return None

    def _count(self, item: Any) -> None:
        if item.is_area():
            self._dropped.add("multipolygons with open rings", self._name("r", item.orig_id()))
        elif item.is_node():
            self._dropped.add("nodes without a location", self._name("n", item.id))
        elif any(not node.location.valid() for node in item.nodes):
            self.misses_nodes = True
            self._dropped.add("ways with missing nodes", self._name("w", item.id))
        else:
            self._dropped.add("ways with fewer than two nodes", self._name("w", item.id))


def _to_features(rows: list[_Row], dropped: Dropped) -> Features:
    shapes = shapely.from_wkb([row[2] for row in rows])
    rings = np.flatnonzero([row[3] for row in rows])
    kept = np.ones(len(rows), bool)
    kept[rings] = shapely.get_num_coordinates(shapes[rings]) >= 4
    for n in np.flatnonzero(~kept):
        dropped.add("closed ways with fewer than three corners", rows[n][0])
    rings = rings[kept[rings]]
    points, owners = shapely.get_coordinates(shapes[rings], return_index=True)
    if len(rings):
        shapes[rings] = shapely.polygons(shapely.linearrings(points, indices=owners))
    indices = np.flatnonzero(kept)
    return Features([rows[n][0] for n in indices], [rows[n][1] for n in indices], shapes[indices])


def _is_area(tags: Mapping[str, str]) -> bool:
    if "area" in tags:
        return tags["area"] != "no"
    if any(key in tags for key in _AREAL) or tags.get("natural", "") not in ("", *_LINEAR_NATURE):
        return True
    return not any(key in tags and (key, tags[key]) not in _AREAS_ANYWAY for key in _LINEAR)


def _broken_file(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is not a whole OpenStreetMap file ({' '.join(str(error).split()).rstrip('.')}).")
