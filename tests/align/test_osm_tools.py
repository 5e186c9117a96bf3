"""Map files as other tools write them, and what is left out of incomplete ones."""

import gzip
import json

import geopandas
import pytest
import shapely
from tests.align.world import World, features

from lhrs.align.build import CaptionDatasetConfig, build_caption_dataset
from lhrs.align.osm import read_features
from lhrs.dropped import Dropped
from lhrs.errors import DataError

NODES = "".join(
    f'<node id="{n}" version="1" lat="{lat}" lon="{lon}"/>'
    for n, lat, lon in ((1, 47.1, 15.0), (2, 47.1, 15.0004), (3, 47.0997, 15.0004), (4, 47.0997, 15.0), (5, 47.2, 15.1))
)
BUILDING = (
    '<way id="10" version="1"{}><nd ref="1"/><nd ref="2"/><nd ref="3"/><nd ref="4"/><nd ref="1"/>'
    '<tag k="building" v="yes"/></way>'
)
ROAD = '<way id="11" version="1"{}><nd ref="1"/><nd ref="5"/><tag k="highway" v="primary"/></way>'
BOTH = {("w10", "building"), ("w11", "main road")}
SQUARE = shapely.box(15.0, 47.0997, 15.0004, 47.1)
ROUND = shapely.LineString(SQUARE.exterior.coords)


def osm(path, content):
    text = f'<?xml version="1.0" encoding="UTF-8"?><osm version="0.6" generator="test">{content}</osm>'
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def counted(path, default_tag=None):
    """Return the features, and the counts of what was left out."""
    dropped = Dropped()
    found = {
        (batch.ids[n], batch.kinds[n]) for batch in read_features(path, default_tag, dropped) for n in range(len(batch))
    }
    return found, dropped


@pytest.mark.parametrize("name", ["a.osm", "a.osm.gz"])
@pytest.mark.parametrize(
    "order",
    [
        BUILDING.format("") + ROAD.format("") + NODES,
        '<node id="9" version="1" lat="47" lon="15"/>' + ROAD.format("") + BUILDING.format("") + NODES,
        NODES + ROAD.format("") + BUILDING.format("") + BUILDING.format(""),
    ],
    ids=["ways first", "mixed", "twice"],
)
def test_the_order_of_objects_does_not_matter(tmp_path, name, order):
    assert counted(osm(tmp_path / name, order))[0] == BOTH


def test_many_points_before_the_first_way_wait_for_it(tmp_path, monkeypatch):
    import lhrs.align.osm_file as module

    monkeypatch.setattr(module, "_BATCH_SIZE", 3)
    trees = "".join(
        f'<node id="{n}" version="1" lat="47" lon="15"><tag k="natural" v="tree"/></node>' for n in range(20, 40)
    )
    found, dropped = counted(osm(tmp_path / "a.osm", trees + BUILDING.format("") + ROAD.format("") + NODES))
    assert found > BOTH and len(found) == 22 and not len(dropped)


def test_negative_ids_of_editors_are_kept(tmp_path):
    content = (NODES + BUILDING.format("") + ROAD.format("")).replace('id="', 'id="-').replace('ref="', 'ref="-')
    assert counted(osm(tmp_path / "a.osm", content))[0] == {("w-10", "building"), ("w-11", "main road")}


def test_ways_that_bring_their_nodes_are_read(tmp_path):
    points = ((47.1, 15.0), (47.1, 15.0004), (47.0997, 15.0004))
    nodes = "".join(f'<nd ref="{n}" lat="{lat}" lon="{lon}"/>' for n, (lat, lon) in enumerate(points, 1))
    way = f'<way id="10" version="1">{nodes}<nd ref="1" lat="47.1" lon="15.0"/><tag k="building" v="yes"/></way>'
    assert counted(osm(tmp_path / "a.osm", way))[0] == {("w10", "building")}


@pytest.mark.parametrize("mark", [" visible='false'", " action='delete'", ' visible="false" action="delete"'])
def test_deleted_objects_do_not_stand(tmp_path, mark):
    found, dropped = counted(osm(tmp_path / "a.osm", NODES + BUILDING.format(mark) + ROAD.format("")))
    assert found == {("w11", "main road")} and dropped.to_dict() == {"deleted objects": 1}
    assert dropped.examples == {"deleted objects": ["w10"]}


@pytest.mark.parametrize("name", ["a.osh", "a.osm"])
def test_of_a_history_the_last_version_counts(tmp_path, name):
    again = ROAD.format("").replace('version="1"', 'version="2"').replace("primary", "residential")
    gone = '<way id="10" version="2" visible="false"/>'
    found, dropped = counted(osm(tmp_path / name, NODES + BUILDING.format("") + gone + ROAD.format("") + again))
    assert found == {("w11", "local road")} and dropped.to_dict() == {"deleted objects": 1}


def test_changes_are_no_map(tmp_path):
    (tmp_path / "a.osc").write_text(f'<osmChange version="0.6"><create>{NODES}</create></osmChange>')
    with pytest.raises(DataError, match="apply them to an extract first"):
        list(read_features(tmp_path / "a.osc"))


def test_what_is_incomplete_is_counted_by_reason(tmp_path):
    relations = (
        '<relation id="7" version="1"><member type="way" ref="10" role="outer"/><member type="way" ref="99" role=""/>'
        '<tag k="type" v="multipolygon"/><tag k="landuse" v="forest"/></relation>'
        '<relation id="8" version="1"><member type="way" ref="12" role="outer"/>'
        '<tag k="type" v="multipolygon"/><tag k="natural" v="water"/></relation>'
    )
    ways = (
        '<way id="12" version="1"><nd ref="1"/><nd ref="2"/><nd ref="3"/></way>'
        '<way id="13" version="1"><nd ref="1"/><nd ref="77"/><tag k="highway" v="primary"/></way>'
        '<way id="14" version="1"><nd ref="1"/><tag k="highway" v="primary"/></way>'
        '<way id="15" version="1"><nd ref="1"/><nd ref="2"/><nd ref="1"/><tag k="building" v="yes"/></way>'
        '<way id="16" version="1"><nd ref="1"/><nd ref="2"/><nd ref="3"/><tag k="building" v="yes"/></way>'
    )
    found, dropped = counted(osm(tmp_path / "a.osm", NODES + BUILDING.format("") + ROAD.format("") + ways + relations))
    assert found == BOTH
    assert dropped.to_dict() == dict.fromkeys(
        [
            "areas whose way is not closed", "closed ways with fewer than three corners",
            "multipolygons with missing members", "multipolygons with open rings", "ways with fewer than two nodes",
            "ways with missing nodes",
        ], 1)  # fmt: skip
    assert dropped.examples["multipolygons with missing members"] == ["r7"]
    assert dropped.examples["multipolygons with open rings"] == ["r8"]


def test_a_build_reports_what_the_map_lacks(tmp_path):
    config = CaptionDatasetConfig(
        osm=osm(tmp_path / "a.osm", NODES.replace('id="3"', 'id="33"') + BUILDING.format("") + ROAD.format("")),
        out=tmp_path / "ds", size=128, gsd_m=1.0, bbox=(14.999, 47.099, 15.002, 47.101),
    )  # fmt: skip
    manifest = build_caption_dataset(config)
    assert manifest["dropped"]["ways with missing nodes"] == 1 and manifest["num_images"] >= 1
    only = CaptionDatasetConfig(osm=osm(tmp_path / "b.osm", BUILDING.format("")), out=tmp_path / "none")
    with pytest.raises(
        DataError, match=r"nothing that an image could show: left out 1: 1 ways with missing nodes \(w10\)"
    ):
        build_caption_dataset(only)
    assert not (tmp_path / "none").exists()


def test_overpass_json_of_every_output_mode(tmp_path):
    corners = [(47.1, 15.0), (47.1, 15.0004), (47.0997, 15.0004), (47.1, 15.0)]
    shape = [{"lat": lat, "lon": lon} for lat, lon in corners]
    nodes = [{"type": "node", "id": n, **point} for n, point in enumerate(shape[:3], 1)]
    tree = {"type": "node", "id": 9, "lat": 47.0, "lon": 15.0, "tags": {"natural": "tree"}}
    tags = {"building": "yes"}
    forest = {
        "type": "relation", "id": 7, "tags": {"type": "multipolygon", "landuse": "forest"},
        "members": [{"type": "way", "ref": 1, "role": "outer", "geometry": shape[:3]},
                    {"type": "way", "ref": 2, "role": "outer", "geometry": shape[2:]}],
    }  # fmt: skip
    modes = {
        "body": [{"type": "way", "id": 10, "nodes": [1, 2, 3, 1], "tags": tags}, *nodes],
        "geom": [{"type": "way", "id": 10, "nodes": [1, 2, 3, 1], "tags": tags, "geometry": shape}],
        "tags geom": [{"type": "way", "id": 10, "tags": tags, "geometry": shape}],
    }
    for name, elements in modes.items():
        (tmp_path / "a.json").write_text(json.dumps({"version": 0.6, "elements": [tree, *elements, forest]}))
        assert counted(tmp_path / "a.json")[0] == {("w10", "building"), ("n9", "tree"), ("r7", "forest")}, name
    partly = {"type": "way", "id": 11, "tags": {"highway": "primary"}, "geometry": [shape[0], None, shape[1]]}
    center = {"type": "way", "id": 12, "tags": tags, "center": shape[0]}
    (tmp_path / "b.json").write_text(json.dumps({"version": 0.6, "elements": [partly, center, tree]}))
    found, dropped = counted(tmp_path / "b.json")
    assert found == {("n9", "tree")}
    assert dropped.to_dict() == {"elements without geometry (use `out geom`)": 1, "ways with missing nodes": 1}
    for content, line in (
        ('{"version": 0.6, "elements": [{"type"', "is not the JSON of the Overpass API"),
        ('{"elements": [], "remark": "runtime error: Query timed out"}', "did not finish .*timed out"),
    ):
        (tmp_path / "c.json").write_text(content)
        with pytest.raises(DataError, match=line):
            counted(tmp_path / "c.json")


def test_all_layers_of_a_geopackage_are_read_with_their_other_tags(tmp_path):
    path = tmp_path / "a.gpkg"
    line = shapely.LineString([(15, 47), (15.1, 47.1)])
    layers = {
        "points": (
            {"osm_id": ["5"], "other_tags": ['"natural"=>"tree","name"=>"a \\"b\\", c"']}, [shapely.Point(15, 47)]),
        "lines": ({"osm_id": ["11"], "highway": ["primary"], "other_tags": [None]}, [line]),
        "multipolygons": (
            {"osm_id": [None, "8"], "osm_way_id": ["10", None], "building": ["yes", None],
             "other_tags": [None, '"natural"=>"water"']}, [SQUARE, SQUARE]),
    }  # fmt: skip
    for name, (columns, shapes) in layers.items():
        frame = geopandas.GeoDataFrame(columns, geometry=shapes, crs=4326)
        frame.to_crs(32633).to_file(path, layer=name, driver="GPKG")
    found = counted(path)[0]
    assert {name for name, _ in found} == {"n5", "w11", "w10", "r8"}


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({"@id": 10, "@type": "way"}, "w10"),
        ({"@id": "relation/10"}, "r10"),
        ({"id": "way/10"}, "w10"),
        ({"element": "way", "id": 10, "nodes": "[1, 2]"}, "w10"),
        ({"element_type": "relation", "osmid": 10}, "r10"),
        ({"full_id": "r10", "osm_id": "10", "osm_type": "relation"}, "r10"),
        ({"osm_id": 10.0, "osm_type": "ways_poly"}, "w10"),
        ({"osm_id": -10}, "r10"),
        ({"id": "a20"}, "w10"),
        ({"id": "a21"}, "r10"),
    ],
)
@pytest.mark.parametrize("name", ["a.geojson", "a.geojsonseq"])
def test_ids_of_every_tool_are_understood(tmp_path, name, properties, wanted):
    feature = {
        "type": "Feature", "properties": {**properties, "building": "yes", "landuse": None},
        "geometry": json.loads(shapely.to_geojson(SQUARE)),
    }  # fmt: skip
    text = json.dumps({"type": "FeatureCollection", "features": [feature]})
    (tmp_path / name).write_text(text if name == "a.geojson" else f"\x1e{json.dumps(feature)}\n")
    assert set(features(tmp_path / name)) == {(wanted, "building")}


def test_shapefiles_of_geofabrik_are_read_by_their_classes(tmp_path):
    rows = {
        "gis_osm_buildings_a": (1500, ["building", "building"], ["church", None], SQUARE, {"church", "building"}),
        "gis_osm_landuse_a": (7200, ["forest", "park"], [None, None], SQUARE, {"forest", "park"}),
        "gis_osm_roads": (5111, ["primary", "footway"], [None, None], ROUND, {"main road", "footpath"}),
    }  # fmt: skip
    for name, (code, classes, types, shape, kinds) in rows.items():
        columns = {"osm_id": ["1", "2"], "code": [code, code], "fclass": classes, "type": types}
        geopandas.GeoDataFrame(columns, geometry=[shape, shape], crs=4326).to_file(tmp_path / f"{name}.shp")
        assert {kind for _, kind in features(tmp_path / f"{name}.shp")} == kinds


def test_tables_count_what_they_leave_out(tmp_path):
    columns = {
        "osm_id": [1, 2, 3, 4],
        "building": ["yes", "yes", None, "yes"],
        "visible": ["true", "false", "true", None],
    }
    shapes = [SQUARE, SQUARE, SQUARE, None]
    geopandas.GeoDataFrame(columns, geometry=shapes, crs=4326).to_file(tmp_path / "a.geojson", driver="GeoJSON")
    found, dropped = counted(tmp_path / "a.geojson")
    assert found == {("w1", "building")}
    assert dropped.to_dict() == {"deleted objects": 1, "features without a geometry": 1, "features without tags": 1}
    metres = geopandas.GeoDataFrame({"building": ["yes"]}, geometry=[shapely.box(5e5, 5e6, 5e5 + 9, 5e6 + 9)])
    metres.to_file(tmp_path / "b.gpkg", driver="GPKG")
    assert counted(tmp_path / "b.gpkg")[1].to_dict() == {"features beyond 90 degrees of latitude": 1}


def test_a_complete_world_leaves_nothing_out(tmp_path):
    world = World()
    outer, inner = world.box(0, 0, 100, 100), world.box(40, 40, 20, 20)
    world.relation([("w", outer, "outer"), ("w", inner, "inner")], landuse="forest")
    world.box(200, 0, 20, 20, building="yes")
    assert not len(counted(world.write(tmp_path / "a.osm.pbf"))[1])


def test_outlines_without_tags_may_come_before_their_nodes(tmp_path):
    outline = BUILDING.format("").replace('<tag k="building" v="yes"/>', "")
    relation = (
        '<relation id="20" version="1"><member type="way" ref="10" role="outer"/>'
        '<tag k="type" v="multipolygon"/><tag k="landuse" v="forest"/></relation>'
    )
    found, dropped = counted(osm(tmp_path / "a.osm", relation + outline + NODES + ROAD.format("")))
    assert found == {("r20", "forest"), ("w11", "main road")} and not len(dropped)


@pytest.mark.parametrize("action", ["", 'action="delete"'])
def test_ids_that_are_no_numbers_are_one_line(tmp_path, action):
    path = osm(tmp_path / "a.osm", f'<node id="x" version="1" lat="47" lon="15" {action}/>')
    with pytest.raises(DataError, match=r"a\.osm is not a whole OpenStreetMap file"):
        counted(path)


def test_overpass_json_with_null_tags_and_places_as_text(tmp_path):
    elements = [
        {"type": "node", "id": 1, "lat": "47.1", "lon": "15.0", "tags": {"natural": "tree"}},
        {"type": "node", "id": 2, "lat": 47.1, "lon": 15.1, "tags": None},
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"version": 0.6, "elements": elements}))
    assert counted(path)[0] == {("n1", "tree")}
