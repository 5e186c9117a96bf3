"""OpenStreetMap objects in memory, to rewrite Overpass JSON and files that pyosmium cannot read directly.

The rewritten file has nodes before ways before relations, positive ids, one version per object, no deleted objects.
"""

import bz2
import gzip
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lhrs.dropped import Dropped
from lhrs.errors import DataError

_TYPES = {"node": "n", "way": "w", "relation": "r"}
_OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open}
_XML = (".osm", ".osm.gz", ".osm.bz2")
_DELETED = re.compile(rb"action\s*=\s*[\"']delete[\"']")
_CHUNK = 1 << 20
_OVERPASS = re.compile(rb'"(elements|osm3s)"\s*:')

NodeKey = int | tuple[float, float]
"""Id of a node, or its longitude and latitude if it has no id."""


def is_overpass_json(path: Path) -> bool:
    """Return whether a .json file is a response of the Overpass API."""
    if not path.name.lower().endswith(".json"):
        return False
    with path.open("rb") as file:
        start = file.read(4096)
    return _OVERPASS.search(start) is not None and b'"FeatureCollection"' not in start


def objects_marked_deleted(path: Path) -> set[tuple[str, int]]:
    """Return the objects of an XML file that an editor has marked with action='delete'.

    Raises:
        DataError: the file is broken.
    """
    name = path.name.lower()
    if not name.endswith(_XML):
        return set()
    opener = _OPENERS.get(path.suffix.lower(), lambda p: p.open("rb"))
    try:
        with opener(path) as file:
            if not _contains(file, _DELETED):
                return set()
        with opener(path) as file:
            return {
                (_TYPES[element.tag], int(element.get("id", 0)))
                for _, element in ElementTree.iterparse(file, ["start"])
                if element.tag in _TYPES and element.get("action") == "delete"
            }
    except (OSError, EOFError, ValueError, ElementTree.ParseError) as error:
        raise DataError(f"{path} is not a whole OpenStreetMap file ({error}).") from None


def _contains(file: Any, pattern: re.Pattern[bytes]) -> bool:
    tail = b""
    while chunk := file.read(_CHUNK):
        if pattern.search(tail + chunk):
            return True
        tail = chunk[-64:]
    return False


class OsmObjects:
    """Nodes, ways and relations by their ids."""

    def __init__(self) -> None:
        self.nodes: dict[NodeKey, tuple[float, float, dict[str, str]]] = {}
        """Longitude, latitude and tags."""
        self.ways: dict[int, tuple[list[NodeKey], dict[str, str]]] = {}
        self.relations: dict[int, tuple[list[tuple[str, int, str]], dict[str, str]]] = {}
        """Members as type, id and role."""

    @classmethod
    def from_file(cls, path: Path, deleted: set[tuple[str, int]], dropped: Dropped) -> "OsmObjects":
        """Read the last version of each object; count deleted objects.

        Args:
            path: any file that pyosmium reads.
            deleted: objects that count as deleted in addition to those of the file.
            dropped: receives the count of deleted objects.

        Raises:
            RuntimeError: pyosmium's: the file is broken.
        """
        import osmium

        objects, versions = cls(), dict[tuple[str, int], int]()
        gone = set[tuple[str, int]]()
        item: Any
        for item in osmium.FileProcessor(str(path)):
            key = (item.type_str(), item.id)
            if item.version < versions.get(key, 0):
                continue
            versions[key] = item.version
            is_deleted = not item.visible or key in deleted
            (gone.add if is_deleted else gone.discard)(key)
            if not is_deleted:
                objects._add(item)
        for kind, number in sorted(gone):
            objects._table(kind).pop(number, None)
            dropped.add("deleted objects", f"{kind}{number}")
        return objects

    def _add(self, item: Any) -> None:
        tags = dict(item.tags)
        if item.is_node():
            if item.location.valid():
                self.nodes[item.id] = (item.location.lon, item.location.lat, tags)
        elif item.is_way():
            for node in item.nodes:
                if node.location.valid():
                    self.nodes.setdefault(node.ref, (node.location.lon, node.location.lat, {}))
            self.ways[item.id] = ([node.ref for node in item.nodes], tags)
        else:
            self.relations[item.id] = ([(m.type, m.ref, m.role) for m in item.members], tags)

    def _table(self, kind: str) -> dict[Any, Any]:
        tables: dict[str, dict[Any, Any]] = {"n": self.nodes, "w": self.ways, "r": self.relations}
        return tables[kind]

    @classmethod
    def from_overpass(cls, path: Path, dropped: Dropped) -> "OsmObjects":
        """Read the JSON of the Overpass API: `out body` with its nodes, or `out geom`.

        Raises:
            DataError: the file is broken, or the query did not finish.
        """
        try:
            content = json.loads(path.read_bytes())
            elements = content["elements"]
            if "error" in str(content.get("remark", "")):
                raise DataError(f"{path}: the Overpass query did not finish ({content['remark']}).")
            objects = cls()
            for element in elements:
                if element["type"] in _TYPES:
                    objects._add_element(element, dropped)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not the JSON of the Overpass API ({error!r}).") from None
        return objects

    def _add_element(self, element: Mapping[str, Any], dropped: Dropped) -> None:
        kind, number = _TYPES[element["type"]], int(element["id"])
        tags = {str(key): str(value) for key, value in (element.get("tags") or {}).items()}
        if kind == "n":
            if "lat" in element:
                known = self.nodes.get(number, (0, 0, {}))[2]
                self.nodes[number] = (float(element["lon"]), float(element["lat"]), {**known, **tags})
            else:
                dropped.add("elements without geometry (use `out geom`)", f"n{number}")
            return
        has_shape = "geometry" in element or "nodes" in element if kind == "w" else "members" in element
        if not has_shape:
            dropped.add("elements without geometry (use `out geom`)", f"{kind}{number}")
        elif kind == "w":
            refs, known = self.ways.get(number, ([], {}))
            self.ways[number] = (self._way_nodes(element) or refs, {**known, **tags})
        else:
            members = []
            for member in element["members"]:
                members.append((_TYPES[member["type"]], int(member["ref"]), str(member.get("role", ""))))
                if member["type"] == "way" and "geometry" in member:
                    self.ways.setdefault(int(member["ref"]), (self._way_nodes(member), {}))
            self.relations[number] = (members, tags)

    def _way_nodes(self, element: Mapping[str, Any]) -> list[NodeKey]:
        """Return the nodes of a way; nodes without an id are identified by their location."""
        points = element.get("geometry")
        refs: list[NodeKey] = list(element.get("nodes", ()))
        if points is None:
            return refs
        places = [None if point is None else (float(point["lon"]), float(point["lat"])) for point in points]
        if len(refs) != len(places):
            refs = [0 if place is None else place for place in places]
        for ref, place in zip(refs, places, strict=True):
            if place is not None:
                self.nodes.setdefault(ref, (*place, {}))
        return refs

    def write(self, path: Path) -> Callable[[str, int], str]:
        """Write a sorted file with new ids; return a function that gives the original name of an object."""
        import osmium

        mutable = osmium.osm.mutable
        keys: dict[str, list[Any]] = {
            "n": sorted(self.nodes, key=lambda key: (isinstance(key, tuple), key)),
            "w": sorted(self.ways),
            "r": sorted(self.relations),
        }
        new = {kind: {key: n for n, key in enumerate(keys[kind], 1)} for kind in keys}
        with osmium.SimpleWriter(str(path)) as writer:
            for n, key in enumerate(keys["n"], 1):
                lon, lat, tags = self.nodes[key]
                writer.add_node(mutable.Node(id=n, location=(lon, lat), tags=tags, version=1))
            for n, key in enumerate(keys["w"], 1):
                nodes, tags = self.ways[key]
                refs = [new["n"].get(ref, len(keys["n"]) + 1) for ref in nodes]  # keeps a missing node missing
                writer.add_way(mutable.Way(id=n, nodes=refs, tags=tags, version=1))
            for n, key in enumerate(keys["r"], 1):
                members, tags = self.relations[key]
                renumbered = [(kind, new[kind].get(ref, len(keys[kind]) + 1), role) for kind, ref, role in members]
                writer.add_relation(mutable.Relation(id=n, members=renumbered, tags=tags, version=1))
        return lambda kind, number: f"{kind}{keys[kind][number - 1]}"
