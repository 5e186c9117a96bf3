"""Facts against what is known by construction, and against an independent computation on real data."""

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from tests.align.world import UTM, World

from lhrs.align.clip import clip_features
from lhrs.align.facts import extract_facts
from lhrs.align.feature_store import FeatureStore, write_store
from lhrs.align.footprints import (
    Footprint,
    footprint_grid,
    footprints_from_imagery,
    group_key,
    lonlat_bounds,
    lonlat_corners,
)
from lhrs.align.osm import Features, read_features
from lhrs.errors import DataError


def utm_footprint(world, side=200, gsd_m=1.0, turn=0.0):
    """Return a footprint around the world's centre, turned clockwise by degrees."""
    from affine import Affine
    from pyproj import Transformer

    east, north = Transformer.from_crs("EPSG:4326", UTM, always_xy=True).transform(*world.centre)
    transform = (
        Affine.translation(east, north) * Affine.rotation(-turn) * Affine.scale(gsd_m, -gsd_m)
        * Affine.translation(-side / 2, -side / 2)
    )  # fmt: skip
    return Footprint("a", UTM, tuple(transform)[:6], side, side, gsd_m)


def rows_to_facts(world, footprints, tmp_path):
    batch = list(read_features(world.write(tmp_path / "w.osm.pbf")))
    merged = Features(
        [i for b in batch for i in b.ids], [k for b in batch for k in b.kinds],
        np.concatenate([b.geometries for b in batch]),
    )  # fmt: skip
    return extract_facts(footprints, clip_features(footprints, merged), merged.ids)


def by_kind(facts):
    return {fact.kind: fact for fact in facts}


@pytest.fixture
def world():
    made = World()
    made.box(-90, 60, 20, 20, building="yes")  # top left
    made.box(-60, 60, 20, 20, building="church")
    made.box(90, -10, 40, 20, building="yes")  # a quarter inside
    made.box(-100, -100, 100, 100, landuse="forest")  # bottom left quadrant
    made.box(-100, -100, 50, 100, natural="wood")  # half of it again
    made.way([(-100, 10), (100, 10)], highway="primary")
    made.box(10, 10, 1, 1, building="yes")  # too small to be seen
    made.box(100, 100, 10, 10, building="yes")  # touches the corner only
    return made


def test_numbers_are_those_of_the_world(world, tmp_path):
    (facts,) = rows_to_facts(world, [utm_footprint(world)], tmp_path)
    found = by_kind(facts)
    building = found["building"]
    assert (building.count, building.num_visible) == (4, 3)
    assert building.osm_ids == ["w1", "w2", "w3", "w7"] and building.object_visible == [True, True, True, False]
    assert building.object_visible_fraction == pytest.approx([1, 1, 0.25, 1], abs=0.02)
    assert building.area_m2 == pytest.approx(400 + 400 + 200 + 1, rel=0.01)
    assert found["church"].parent == "building" and found["church"].count == 1
    assert building.boxes[0] == pytest.approx([10, 20, 30, 40], abs=0.7)
    assert found["church"].position == "top left" and found["church"].quadrants == ["top left"]
    forest = found["forest"]
    assert forest.area_fraction == pytest.approx(0.25, rel=0.01)  # overlapping twice, counted once
    assert forest.count == 2 and forest.position == "bottom left" and forest.quadrants == ["bottom left"]
    road = found["main road"]
    assert road.length_m == pytest.approx(200, rel=0.01) and road.orientation == "horizontal" and not road.area_fraction
    assert road.osm_ids == found["road"].osm_ids
    assert next(iter(found)) == "forest"


def test_what_is_too_small_at_the_sampling_distance_is_not_visible(world, tmp_path):
    fine, coarse = (
        by_kind(rows_to_facts(world, [utm_footprint(world, round(200 / gsd), gsd)], tmp_path)[0]) for gsd in (0.2, 10.0)
    )
    assert fine["building"].num_visible == 4 and fine["building"].visible
    assert coarse["building"].num_visible == 0 and not coarse["building"].visible and coarse["building"].count == 4
    assert coarse["forest"].visible and coarse["main road"].visible


def test_a_turned_picture_is_measured_along_its_own_axes(world, tmp_path):
    straight, turned = (
        by_kind(rows_to_facts(world, [utm_footprint(world, turn=degrees)], tmp_path)[0]) for degrees in (0, 90)
    )
    # Turned clockwise, what was at the top lies at the left of the picture's own axes or at its right: sides swap.
    assert turned["main road"].orientation == "vertical" and straight["main road"].orientation == "horizontal"
    assert turned["forest"].area_fraction == pytest.approx(straight["forest"].area_fraction, rel=1e-3)
    assert turned["forest"].position in ("bottom right", "top left")


def test_relations(tmp_path):
    world = World()
    world.box(-90, -90, 80, 180, landuse="forest")
    world.box(-8, -20, 30, 30, amenity="parking")
    world.box(-60, -60, 20, 20, natural="water")
    world.way([(50, -100), (50, 100)], highway="primary")
    world.way([(0, 50), (100, 50)], railway="rail")
    found = by_kind(rows_to_facts(world, [utm_footprint(world)], tmp_path)[0])
    said = {(f.kind, r.relation, r.kind) for f in found.values() for r in f.relations}
    assert ("parking lot", "beside", "forest") in said
    assert {("main road", "crosses", "railway track"), ("railway track", "crosses", "main road")} & said
    assert not any({a, b} == {"parking lot", "main road"} for a, _, b in said)


def test_blocks_of_footprints_give_what_single_ones_give(tmp_path):
    rng, world = np.random.default_rng(1), World()
    for x, y, w, h in rng.uniform([-400, -400, 3, 3], [400, 400, 60, 60], (300, 4)):
        world.box(x, y, w, h, **[{"building": "yes"}, {"landuse": "forest"}, {"leisure": "park"}][int(x) % 3])
    for a in range(20):
        world.way(rng.uniform(-400, 400, (5, 2)).tolist(), highway="residential", name=str(a))
    west, south = world.point(-400, -400)
    east, north = world.point(400, 400)
    footprints = list(footprint_grid((west, south, east, north), 128, 1.0))
    assert len(footprints) > 30 and len({group_key(f) for f in footprints}) == 1
    together = rows_to_facts(world, footprints, tmp_path)
    alone = [rows_to_facts(world, [footprint], tmp_path)[0] for footprint in footprints]
    for one, other in zip(together, alone, strict=True):
        assert [f.kind for f in one] == [f.kind for f in other]
        for a, b in zip(one, other, strict=True):
            assert (a.count, a.osm_ids, a.position, a.quadrants) == (b.count, b.osm_ids, b.position, b.quadrants)
            assert a.area_fraction == pytest.approx(b.area_fraction, abs=1e-5)


def test_large_shapes_are_cut_the_same(tmp_path):
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    radius = 300 + 30 * np.sin(37 * angles)
    world = World()
    ring = np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
    polygon = shapely.transform(shapely.Polygon(ring), lambda p: np.array([world.point(*q) for q in p]))
    footprints = list(footprint_grid((*world.point(-350, -350), *world.point(350, 350)), 64, 1.0))
    features = Features(["w1"], ["forest"], np.array([polygon], object))
    facts = extract_facts(footprints, clip_features(footprints, features), features.ids)
    total = sum(f.area_m2 for found in facts for f in found)
    assert total == pytest.approx(shapely.Polygon(ring).area, rel=0.01)  # the world is flat
    shares = {round(f.area_fraction, 3) for found in facts for f in found}
    assert 1.0 in shares and len(shares) > 20


@pytest.mark.parametrize(("lon", "lat"), [(179.999, 10.0), (-179.999, -10.0), (20.0, 85.0), (20.0, -82.0), (0.0, 0.0)])
def test_the_ends_of_the_earth(tmp_path, lon, lat):
    world = World((lon, lat))
    step = 0.001
    refs = [world.node_at((lon + a * step * 3 + 180) % 360 - 180, lat + b * step) for a, b in
            ((-1, -1), (1, -1), (1, 1), (-1, 1))]  # fmt: skip
    world.ways.append((1, [*refs, refs[0]], {"landuse": "forest"}))
    path = world.write(tmp_path / "a.osm.pbf")
    write_store(tmp_path / "s.parquet", read_features(path))
    west, east = ((lon + d + 180) % 360 - 180 for d in (-0.001, 0.001))
    footprints = list(footprint_grid((west, lat - 0.0005, east, lat + 0.0005), 16, 1.0))
    assert 0 < len(footprints) < 2000
    features = FeatureStore(tmp_path / "s.parquet").read(lonlat_bounds(lonlat_corners(footprints).reshape(-1, 2)))
    facts = extract_facts(footprints, clip_features(footprints, features), features.ids)
    if abs(lon) < 179:  # OpenStreetMap cuts areas at the antimeridian; one drawn across it goes around the Earth
        assert max(f.area_fraction for found in facts for f in found) == pytest.approx(1, abs=1e-6)


def test_facts_agree_with_geopandas_on_real_tiles(shared_data):
    """Counts equal, area shares within one percent: another library, another plane, polygon by polygon."""
    folder = shared_data / "banepa/train"
    (features,) = read_features(folder / "banepa_buildings.osm.pbf")
    footprints = list(footprints_from_imagery([folder / "oam"]))
    assert len(footprints) == 40
    mine = [by_kind(facts_of_block([f], features))["building"] for f in footprints]
    frame = geopandas.read_file(folder / "osm.geojson").to_crs("EPSG:32645")
    for footprint, fact in zip(footprints, mine, strict=True):
        with rasterio.open(footprint.source.files[0]) as dataset:
            tile = geopandas.GeoSeries([shapely.box(*dataset.bounds)], crs=dataset.crs).to_crs("EPSG:32645")[0]
        here = frame[frame.intersects(tile)]
        assert fact.count == len(here)
        assert set(fact.osm_ids) == {f"w{i}" if t == "way" else f"r{i}" for i, t in
                                     zip(here.osm_id, here.osm_type, strict=True)}  # fmt: skip
        share = here.intersection(tile).union_all().area / tile.area
        assert fact.area_fraction == pytest.approx(share, rel=0.01)


def facts_of_block(footprints, features):
    return extract_facts(footprints, clip_features(footprints, features), features.ids)[0]


def test_windows_cover_a_scene_and_lie_where_they_say(tmp_path):
    from tests.align.world import write_scene

    scene = write_scene(tmp_path / "s.tif", World(), 1000, 0.5)
    native = list(footprints_from_imagery([scene], size=300))
    assert len(native) == 16 and {f.width for f in native} == {300}
    coarse = list(footprints_from_imagery([scene], size=100, gsd_m=2.0))
    assert (
        len(coarse) == 9 and coarse[0].gsd_m == pytest.approx(2, rel=1e-3) and coarse[0].window[2] == pytest.approx(400)
    )
    for footprints in (native, coarse):
        shapes = shapely.union_all([shapely.Polygon(c) for c in lonlat_corners(footprints)])
        with rasterio.open(scene) as dataset:
            whole = geopandas.GeoSeries([shapely.box(*dataset.bounds)], crs=dataset.crs).to_crs(4326)[0]
        assert shapes.symmetric_difference(whole).area < 1e-3 * whole.area
    assert [f.id for f in footprints_from_imagery([scene], size=1000)] == ["s.tif"]


def test_tiles_lie_where_their_names_say(tmp_path):
    import mercantile
    from PIL import Image

    for name in ("OAM-386719-220253-19.png", "19/386719/220253.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (256, 256)).save(path)
        (footprint,) = footprints_from_imagery([path])
        west, south, east, north = lonlat_bounds(lonlat_corners([footprint])[0])
        assert (west, south, east, north) == pytest.approx(tuple(mercantile.bounds(386719, 220253, 19)), abs=1e-9)


def test_images_that_lie_nowhere_are_one_line(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "holiday.png")
    with pytest.raises(DataError, match="no georeferenced image and no web-mercator tile"):
        list(footprints_from_imagery([tmp_path]))
