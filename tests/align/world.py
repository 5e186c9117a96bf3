"""A small world on disk: OpenStreetMap objects in metres around a point, and scenes over them."""

import math

import numpy as np
import osmium
import rasterio

from lhrs.align.osm import read_features

CENTRE = (9.5, 47.1)
UTM = "EPSG:32632"


class World:
    """Collects objects; `write` makes a file of them. Coordinates are metres east and north of the centre."""

    def __init__(self, centre=CENTRE):
        self.centre, self.nodes, self.ways, self.relations = centre, [], [], []

    def point(self, x, y):
        lon, lat = self.centre
        return lon + x / (111_320 * math.cos(math.radians(lat))), lat + y / 110_574

    def node(self, x, y, **tags):
        return self.node_at(*self.point(x, y), **tags)

    def node_at(self, lon, lat, **tags):
        self.nodes.append((len(self.nodes) + 1, lon, lat, tags))
        return len(self.nodes)

    def way(self, points, closed=False, **tags):
        refs = [self.node(x, y) for x, y in points]
        self.ways.append((len(self.ways) + 1, refs + refs[:1] if closed else refs, tags))
        return len(self.ways)

    def box(self, x, y, width, height, **tags):
        return self.way([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], closed=True, **tags)

    def relation(self, members, **tags):
        self.relations.append((len(self.relations) + 1, members, {"type": "multipolygon", **tags}))
        return len(self.relations)

    def write(self, path, timestamp=None):
        header = osmium.io.Header()
        if timestamp:
            header.set("osmosis_replication_timestamp", timestamp)
        path.unlink(missing_ok=True)
        with osmium.SimpleWriter(str(path), header=header) as writer:
            for number, lon, lat, tags in self.nodes:
                writer.add_node(osmium.osm.mutable.Node(id=number, location=(lon, lat), tags=tags, version=1))
            for number, refs, tags in self.ways:
                writer.add_way(osmium.osm.mutable.Way(id=number, nodes=refs, tags=tags, version=1))
            for number, members, tags in self.relations:
                writer.add_relation(osmium.osm.mutable.Relation(id=number, members=members, tags=tags, version=1))
        return path


def write_scene(path, world, side, gsd_m, bands=3, seed=0):
    """Write a GeoTIFF in UTM whose centre is the world's."""
    from pyproj import Transformer

    east, north = Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(*world.centre)
    half = side * gsd_m / 2
    transform = rasterio.transform.from_origin(east - half, north + half, gsd_m, gsd_m)
    values = np.random.default_rng(seed).integers(1, 255, (bands, side, side), np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=bands, dtype="uint8", crs=UTM, transform=transform,
        tiled=True, blockxsize=128, blockysize=128,
    ) as out:  # fmt: skip
        out.write(values)
    return path


def features(path, default_tag=None):
    """Return the shapes of a map file by id and kind."""
    found = {}
    for batch in read_features(path, default_tag):
        for n in range(len(batch)):
            found[batch.ids[n], batch.kinds[n]] = batch.geometries[n]
    return found
