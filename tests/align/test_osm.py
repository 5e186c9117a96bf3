"""Map files of every kind, whole and broken, plain and hostile."""

import bz2
import gzip
import json

import geopandas
import numpy as np
import pytest
import shapely
from tests.align.world import World, features

from lhrs.align.feature_store import FeatureStore, write_store
from lhrs.align.osm import read_features, snapshot_date
from lhrs.errors import DataError


@pytest.fixture
def world():
    made = World()
    made.box(0, 0, 20, 10, building="yes")
    made.way([(-50, -50), (50, 50)], highway="primary", name="Hauptstrasse")
    made.node(5, 5, natural="tree")
    made.node(6, 6, amenity="restaurant")
    return made


def test_all_packings_of_a_file_say_the_same(tmp_path, world):
    plain = world.write(tmp_path / "a.osm")
    sort_tile_recursive_order = {"a.osm.gz": gzip.compress, "a.osm.bz2": bz2.compress}
    for name, pack in sort_tile_recursive_order.items():
        (tmp_path / name).write_bytes(pack(plain.read_bytes()))
    world.write(tmp_path / "a.osm.pbf")
    wanted = {("w1", "building"), ("w2", "main road"), ("n7", "tree")}
    for name in ("a.osm", "a.osm.pbf", *sort_tile_recursive_order):
        assert set(features(tmp_path / name)) == wanted, name


def test_multipolygons_keep_their_holes_and_relations_their_letter(tmp_path):
    world = World()
    outer, inner = world.box(0, 0, 100, 100), world.box(40, 40, 20, 20)
    world.relation([("w", outer, "outer"), ("w", inner, "inner")], landuse="forest")
    ((key, shape),) = features(world.write(tmp_path / "a.osm.pbf")).items()
    assert key == ("r1", "forest")
    assert len(shape.geoms[0].interiors) == 1


def test_closed_roads_are_lines_unless_they_say_area(tmp_path):
    world = World()
    world.box(0, 0, 50, 50, highway="residential")
    world.box(100, 0, 50, 50, highway="pedestrian", area="yes")
    found = features(world.write(tmp_path / "a.osm.pbf"))
    assert {key: shape.geom_type for key, shape in found.items()} == {
        ("w1", "local road"): "LineString",
        ("w2", "pedestrian area"): "Polygon",
    }


def test_hostile_objects_are_survived(tmp_path):
    world = World()
    world.box(0, 0, 9, 9, building="yes", name="<script>alert(1)</script> 🏠", **{"note:ö": "x" * 255})
    world.way([(0, 0), (10, 10), (10, 0), (0, 10)], closed=True, landuse="forest")  # crosses itself
    world.way([(0, 0), (10, 0)], closed=True, building="yes")  # without area
    world.way([(5, 5)], highway="primary")  # of one node
    world.relation([("w", 999, "outer")], landuse="forest")  # of a way that is not there
    world.relation([], natural="water")
    ring = [(1000 * np.cos(a), 1000 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 10_000, endpoint=False)]
    world.relation([("w", world.way(ring[:5000] + ring[5000:5001]), "outer"),
                    ("w", world.way(ring[5000:] + ring[:1]), "outer")], natural="water")  # fmt: skip
    path = world.write(tmp_path / "a.osm.pbf")
    for key, shape in features(path).items():
        assert shapely.is_valid(shape) and not shape.is_empty, key
    assert ("w1", "building") in features(path)


def test_geojson_and_geoparquet_say_what_openstreetmap_says(tmp_path):
    square = shapely.box(9.5, 47.1, 9.501, 47.101)
    frame = geopandas.GeoDataFrame(
        {"osm_id": [7], "osm_type": ["relation"], "building": ["church"], "name": [None]}, geometry=[square], crs=4326
    )
    frame.to_file(tmp_path / "a.geojson", driver="GeoJSON")
    frame.to_crs(3857).to_parquet(tmp_path / "a.parquet")
    nested = {"type": "FeatureCollection", "features": [
        {"type": "Feature", "id": "way/9", "properties": {"tags": {"building": "church"}},
         "geometry": json.loads(shapely.to_geojson(square))}]}  # fmt: skip
    (tmp_path / "b.geojson").write_text(json.dumps(nested))
    assert set(features(tmp_path / "a.geojson")) == set(features(tmp_path / "a.parquet")) == {("r7", "church")}
    assert set(features(tmp_path / "b.geojson")) == {("w9", "church")}


def test_overture_becomes_tags(tmp_path):
    rows = {
        "id": ["a", "b"], "version": [1, 1], "bbox": [None, None], "type": ["building", "segment"],
        "subtype": [None, "road"], "class": ["church", "primary"],
        "sources": [[{"dataset": "OpenStreetMap", "record_id": "w12@3"}], [{"dataset": "x", "record_id": "1"}]],
    }  # fmt: skip
    shapes = [shapely.box(0, 0, 1, 1), shapely.LineString([(0, 0), (1, 1)])]
    geopandas.GeoDataFrame(rows, geometry=shapes, crs=4326).to_parquet(tmp_path / "a.parquet")
    assert set(features(tmp_path / "a.parquet")) == {("w12", "church"), ("b", "main road")}


def test_features_without_tags_are_what_the_user_says(tmp_path):
    frame = geopandas.GeoDataFrame({"osm_id": [7]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326)
    frame.to_file(tmp_path / "a.geojson", driver="GeoJSON")
    assert features(tmp_path / "a.geojson") == {}
    assert set(features(tmp_path / "a.geojson", "building")) == {("w7", "building")}
    with pytest.raises(DataError, match=r"no kind of resources/tags.csv"):
        list(read_features(tmp_path / "a.geojson", "castle in the air"))


@pytest.mark.parametrize("name", ["a.osm.pbf", "a.osm", "a.osm.gz", "a.geojson", "a.parquet"])
def test_broken_files_are_one_line(tmp_path, name):
    (tmp_path / name).write_bytes(b"no map" * 100)
    with pytest.raises(DataError, match=name):
        list(read_features(tmp_path / name))
    with pytest.raises(DataError, match="does not exist"):
        list(read_features(tmp_path / f"no_{name}"))


def test_a_cut_file_is_not_taken_for_whole(tmp_path, world):
    for n in range(3000):
        world.box(n, 0, 1, 1, building="yes")
    whole = world.write(tmp_path / "a.osm.pbf").read_bytes()
    (tmp_path / "cut.osm.pbf").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.osm\.pbf is not a whole"):
        list(read_features(tmp_path / "cut.osm.pbf"))


def test_the_day_of_the_map(tmp_path, world):
    assert str(snapshot_date(world.write(tmp_path / "a.osm.pbf", "2024-05-31T20:21:02Z"))) == "2024-05-31"
    assert snapshot_date(world.write(tmp_path / "b.osm.pbf")) is None


def test_the_store_gives_what_is_near_and_nothing_is_lost(tmp_path):
    rng, world = np.random.default_rng(0), World()
    for x, y in rng.uniform(-20_000, 20_000, (6000, 2)):
        world.box(x, y, 10, 10, building="yes")
    path = world.write(tmp_path / "a.osm.pbf")
    assert write_store(tmp_path / "s.parquet", read_features(path)) == 6000
    store = FeatureStore(tmp_path / "s.parquet")
    assert len(store._limits) > 1
    everything = store.read((-180, -90, 180, 90))
    assert len(everything) == len(set(everything.ids)) == 6000
    region = (*world.point(-3000, -2000), *world.point(4000, 5000))
    near = {i for i, g in zip(everything.ids, everything.geometries, strict=True) if g.intersects(shapely.box(*region))}
    assert set(store.read(region).ids) == near and 50 < len(near) < 1000
    write_store(tmp_path / "part.parquet", read_features(path), [region])
    assert set(FeatureStore(tmp_path / "part.parquet").read((-180, -90, 180, 90)).ids) == near


def test_the_store_reads_across_the_antimeridian(tmp_path):
    world = World()
    ids = [world.node_at(lon, 10, natural="tree") for lon in (179.9, -179.9, 170.0)]
    write_store(tmp_path / "s.parquet", read_features(world.write(tmp_path / "a.osm.pbf")))
    assert set(FeatureStore(tmp_path / "s.parquet").read((179.5, 9, -179.5, 11)).ids) == {f"n{i}" for i in ids[:2]}


def test_real_extracts_are_read(shared_data):
    counts = {}
    for path in sorted((shared_data / "osm").iterdir()):
        counts[path.name.partition(".")[0]] = len(features(path))
    assert counts["liechtenstein-latest"] > 17_000 and min(counts.values()) > 30, counts


def test_a_pbf_and_its_geojson_hold_the_same_buildings(shared_data):
    folder = shared_data / "banepa/train"
    one, two = features(folder / "banepa_buildings.osm.pbf"), features(folder / "osm.geojson")
    assert one.keys() == two.keys()
    assert all(abs(one[key].area / two[key].area - 1) < 1e-6 for key in one)


def test_old_multipolygons_are_what_their_outlines_say_with_their_holes(tmp_path):
    world = World()
    outer, inner = world.box(0, 0, 100, 100, building="yes"), world.box(40, 40, 20, 20)
    world.relation([("w", outer, "outer"), ("w", inner, "inner")])
    ((key, shape),) = features(world.write(tmp_path / "a.osm.pbf")).items()
    assert key == ("r1", "building") and len(shape.geoms[0].interiors) == 1


def test_outlines_that_repeat_their_relation_are_not_counted_twice(tmp_path):
    world = World()
    outer, inner = world.box(0, 0, 100, 100, building="yes"), world.box(40, 40, 20, 20)
    world.relation([("w", outer, "outer"), ("w", inner, "inner")], building="yes")
    fence = world.box(300, 0, 50, 50, barrier="hedge", leisure="park")
    assert set(features(world.write(tmp_path / "a.osm.pbf"))) == {("r1", "building"), (f"w{fence}", "park")}


def test_odd_tables_are_one_line_or_read(tmp_path):
    frame = geopandas.GeoDataFrame(
        {"osm_id": ["way/12"], "building": ["yes"]}, geometry=[shapely.box(0, 0, 1, 1)], crs=4326
    )
    frame.to_file(tmp_path / "a.geojson", driver="GeoJSON")
    assert set(features(tmp_path / "a.geojson")) == {("w12", "building")}
    frame.rename(columns={"osm_id": "tags"}).assign(tags="{broken").to_file(tmp_path / "b.geojson", driver="GeoJSON")
    with pytest.raises(DataError, match="is no JSON"):
        features(tmp_path / "b.geojson")
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="contains no geometries"):
        features(tmp_path / "c.csv")
