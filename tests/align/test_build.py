"""`lhrs align build` as a user runs it: whole, killed and run again, with workers, on Ray."""

import json
import os
import signal
import subprocess
import sys
import time

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from tests.align.world import CENTRE, World, write_scene
from tests.training.tiny import SRC, finish

from lhrs.align.build import CaptionDatasetConfig, build_caption_dataset
from lhrs.align.claim_check import verify_claims
from lhrs.align.table import read_table, rows_to_facts
from lhrs.data.dataset import open_dataset
from lhrs.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A map and a scene of 1,600 m over it."""
    folder, rng, world = tmp_path_factory.mktemp("town"), np.random.default_rng(0), World()
    for x, y in rng.uniform(-800, 800, (400, 2)):
        world.box(x, y, 12, 12, building=["yes", "house", "church"][int(abs(x)) % 3])
    for x, y in rng.uniform(-800, 700, (30, 2)):
        world.box(x, y, 120, 90, landuse=["forest", "meadow", "industrial"][int(abs(y)) % 3])
    for y in range(-800, 801, 200):
        world.way([(-800, y), (800, y + 30)], highway="residential")
    osm = world.write(folder / "town.osm.pbf", "2024-05-01T00:00:00Z")
    return osm, write_scene(folder / "scene.tif", world, 800, 2.0)


def job(town, out, **changes):
    osm, scene = town
    return CaptionDatasetConfig(**{"osm": osm, "out": out, "imagery": (scene,), "size": 64, "date": "2024-05-31",
                                   "license": "CC-BY-4.0", "attribution": "Somebody", **changes})  # fmt: skip


def start(*arguments):
    command = [sys.executable, "-m", "lhrs", *map(str, arguments)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SRC)}, text=True, **pipes)


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def built(town, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "ds"
    return out, build_caption_dataset(job(town, out))


def test_what_comes_out(built):
    out, manifest = built
    frame = geopandas.read_parquet(out / "index.parquet")
    assert manifest["num_images"] == len(frame) == 165 and manifest["num_footprints"] == 169
    assert manifest["dropped"] == {"footprints without a visible object": 4}
    assert frame.crs.equals("EPSG:4326")
    assert all(frame.geometry.is_valid) and frame.geometry.union_all().centroid.distance(frame.geometry[0]) < 0.1
    row = frame.iloc[5]
    assert row.gsd_m == pytest.approx(2, rel=1e-3) and (row.width, row.height) == (64, 64)
    assert (row.date, row.osm_date, row.date_gap_days) == ("2024-05-31", "2024-05-01", 30)
    assert row.license == "CC-BY-4.0" and row.text_license == "ODbL-1.0"
    assert row.attribution == "Imagery: Somebody; Map: © OpenStreetMap contributors"
    assert manifest["attribution"] == [row.attribution] == (out / "ATTRIBUTION.txt").read_text().splitlines()
    assert manifest["osm"]["date"] == "2024-05-01" and "ODbL" in manifest["text_license"]
    fact = row.facts[0]
    assert {"kind", "count", "area_fraction", "osm_ids", "visible", "boxes"} <= set(fact)
    assert not (out / ".work").exists()


def test_pictures_are_the_ground_that_the_index_names(built, town):
    out, _ = built
    with rasterio.open(town[1]) as scene:
        whole = scene.read().transpose(1, 2, 0)
    for row in read_table(out).to_pylist()[::17]:
        left, top, width, height = map(round, row["window"])
        pixels = np.array(Image.open(out / row["image"]))
        np.testing.assert_array_equal(pixels, whole[top : top + height, left : left + width])
        from pyproj import Transformer

        a, _, c, _, e, f = row["transform"]
        lon, lat = Transformer.from_crs(row["crs"], "EPSG:4326", always_xy=True).transform(c + 32 * a, f + 32 * e)
        assert abs(lon - CENTRE[0]) < 0.02 and abs(lat - CENTRE[1]) < 0.02


def test_captions_hold_and_the_data_set_is_read_for_training(built):
    out, _ = built
    for row in read_table(out).to_pylist():
        assert not [c for c in verify_claims(row["caption"], rows_to_facts(row["facts"])) if c.verdict != "supported"]
    dataset = open_dataset(out)
    assert len(dataset) == 165
    sample = dataset[3]
    assert sample.task == "caption" and sample.license == "CC-BY-4.0 AND ODbL-1.0"
    assert Image.open(sample.images[0]).size == (64, 64) and sample.boxes
    assert len({box.xyxy for box in sample.boxes}) == len(sample.boxes)


def test_workers_and_ray_give_the_same_bytes(built, town, tmp_path):
    out, _ = built
    wanted = content(out)
    build_caption_dataset(job(town, tmp_path / "pool"), num_workers=2)
    assert content(tmp_path / "pool") == wanted
    pytest.importorskip("ray")
    build_caption_dataset(job(town, tmp_path / "ray"), engine="ray", num_workers=2)
    assert content(tmp_path / "ray") == wanted


@pytest.mark.slow
def test_killed_and_run_again_gives_the_bytes_of_one_run(town, tmp_path):
    osm, _ = town
    many = write_scene(tmp_path / "many.tif", World(), 1600, 0.5, seed=1)
    words = ("align", "build", "--osm", str(osm), "--imagery", str(many), "--size", "32", "--out")
    finish(start(*words, tmp_path / "one"))
    parts = tmp_path / "two/.work/parts"
    process = start(*words, tmp_path / "two")
    while len(list(parts.glob("*.parquet")) if parts.exists() else []) < 2:
        assert process.poll() is None, finish(process)
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "two/index.parquet").exists()
    made = {p.name: p.stat().st_mtime_ns for p in parts.glob("[0-9]*.parquet")}
    process = start(*words, tmp_path / "two")
    finish(process)
    assert made
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_finished_parts_are_not_made_again(town, tmp_path, monkeypatch):
    import lhrs.align.build as module

    calls = []
    real = module._describe
    monkeypatch.setattr(module, "_describe", lambda block, **more: calls.append(block.numbers) or real(block, **more))
    monkeypatch.setattr(module, "_BLOCK_SIZE", 40)
    real_write = module.write_table
    monkeypatch.setattr(module, "write_table", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build_caption_dataset(job(town, tmp_path / "ds"))
    assert len(calls) == 5
    monkeypatch.setattr(module, "write_table", real_write)
    build_caption_dataset(job(town, tmp_path / "ds"))
    assert len(calls) == 5


def test_settings_change_parts(town, tmp_path):
    texts = []
    for seed in (0, 1):
        build_caption_dataset(job(town, tmp_path / str(seed), seed=seed))
        texts.append(read_table(tmp_path / str(seed))["caption"].to_pylist())
    assert texts[0] != texts[1]


def test_without_imagery_and_balanced(town, tmp_path):
    manifest = build_caption_dataset(CaptionDatasetConfig(osm=town[0], out=tmp_path / "grid", size=128, gsd_m=1.0))
    table = read_table(tmp_path / "grid")
    assert manifest["num_footprints"] >= len(table) > 100 and set(table["image"].to_pylist()) == {None}
    balanced = build_caption_dataset(
        CaptionDatasetConfig(osm=town[0], out=tmp_path / "balanced", size=128, gsd_m=1.0, max_per_category=5)
    )
    assert max(balanced["categories"].values()) == 5
    assert balanced["dropped"]["images beyond the limit of their category"] == len(table) - balanced["num_images"]
    kept = set(read_table(tmp_path / "balanced")["id"].to_pylist())
    assert kept < set(table["id"].to_pylist())


def test_images_without_data_are_left_out(town, tmp_path):
    osm, scene = town
    with rasterio.open(scene) as source:
        profile, values = source.profile, source.read()
    values[:, :, :400] = 0
    with rasterio.open(tmp_path / "half.tif", "w", **{**profile, "nodata": 0}) as out:
        out.write(values)
    manifest = build_caption_dataset(
        CaptionDatasetConfig(osm=osm, out=tmp_path / "ds", imagery=(tmp_path / "half.tif",), size=100)
    )
    shares = read_table(tmp_path / "ds")["nodata_fraction"].to_pylist()
    assert manifest["dropped"]["images without enough data"] == 32 and max(shares) < 0.05
    names = {p.name for p in (tmp_path / "ds/images").rglob("*.png")}
    assert len(names) == len(shares)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_images_all_over_the_earth_keep_their_things(tmp_path, crs):
    from rasterio.warp import transform

    places = {"sf": (-122.4, 37.7), "tokyo": (139.7, 35.6), "nepal": (85.3, 27.7), "greenwich": (-0.001, 51.48)}
    if crs == "EPSG:4326":  # grids that count on over 180 degrees
        places |= {"fiji": (179.999, -17.8), "hawaii": (360 - 156.7, 20.8)}
    features = []
    for name, (lon, lat) in places.items():
        ((x,), (y,)) = transform("EPSG:4326", crs, [lon], [lat])
        pixel = 1e-5 if crs == "EPSG:4326" else 1.1
        profile = {"width": 200, "height": 200, "count": 1, "dtype": "uint8", "crs": crs,
                   "transform": rasterio.transform.from_origin(x, y, pixel, pixel)}  # fmt: skip
        with rasterio.open(tmp_path / f"{name}.tif", "w", **profile) as out:
            out.write(np.full((1, 200, 200), 9, np.uint8))
        for n in range(3):
            west, north = (lon + 0.0002 + 0.0005 * n + 180) % 360 - 180, lat - 0.0005
            ring = [(west, north), (west + 0.0002, north), (west + 0.0002, north - 0.0002), (west, north)]
            features.append({"type": "Feature", "properties": {"building": "yes", "id": f"{name}{n}"},
                             "geometry": {"type": "Polygon", "coordinates": [ring]}})  # fmt: skip
    (tmp_path / "map.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    build_caption_dataset(CaptionDatasetConfig(osm=tmp_path / "map.geojson", out=tmp_path / "ds", imagery=(tmp_path,)))
    rows = read_table(tmp_path / "ds").to_pylist()
    assert {row["id"].removesuffix(".tif"): row["facts"][0]["count"] for row in rows} == dict.fromkeys(places, 3)


def test_broken_images_are_left_out_and_named(town, tmp_path):
    osm, scene = town
    folder = tmp_path / "tiles"
    folder.mkdir()
    with rasterio.open(scene) as source:
        for n in range(3):
            at = rasterio.windows.Window(200 * n, 0, 200, 200)
            profile = {**source.profile, "width": 200, "height": 200, "transform": source.window_transform(at)}
            with rasterio.open(folder / f"t{n}.tif", "w", **profile) as out:
                out.write(source.read(window=at))
    whole = build_caption_dataset(CaptionDatasetConfig(osm=osm, out=tmp_path / "whole", imagery=(folder,), size=100))
    (folder / "t3.tif").write_bytes((folder / "t0.tif").read_bytes()[:60])  # its header is broken
    bytes_ = (folder / "t1.tif").read_bytes()
    (folder / "t1.tif").write_bytes(bytes_[: len(bytes_) // 2])  # its header is not
    told = build_caption_dataset(CaptionDatasetConfig(osm=osm, out=tmp_path / "ds", imagery=(folder,), size=100))
    rows, ids = (read_table(tmp_path / name)["id"].to_pylist() for name in ("whole", "ds"))
    assert set(ids) < set(rows) and all(name in ids for name in rows if not name.startswith("t1"))
    assert told["num_images"] + told["dropped"]["unreadable images"] == whole["num_images"] + 1
    assert told["dropped"]["unreadable images"] >= 2 and len(told["unreadable"]) >= 2
    assert all(any(name in reason for name in ("t1.tif", "t3.tif")) for reason in told["unreadable"])
    for path in folder.glob("t[012].tif"):
        path.unlink()
    with pytest.raises(DataError, match=r"t3\.tif"):
        build_caption_dataset(CaptionDatasetConfig(osm=osm, out=tmp_path / "none", imagery=(folder,), size=100))
    assert not (tmp_path / "none").exists()


def test_stac_items(town, tmp_path):
    osm, scene = town
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2_item", "bbox": [9, 47, 10, 48],
        "geometry": {"type": "Point", "coordinates": list(CENTRE)}, "links": [],
        "properties": {"datetime": "2024-04-21T10:00:00Z", "license": "CC-BY-4.0", "eo:cloud_cover": 12.5,
                       "providers": [{"name": "ESA"}]},
        "assets": {"visual": {"href": str(scene), "type": "image/tiff", "roles": ["visual"]}},
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(item))
    build_caption_dataset(
        CaptionDatasetConfig(osm=osm, out=tmp_path / "ds", imagery=(tmp_path / "item.json",), size=200)
    )
    row = read_table(tmp_path / "ds").to_pylist()[0]
    assert (row["date"], row["date_gap_days"], row["cloud_fraction"], row["license"]) == (
        "2024-04-21",
        10,
        0.125,
        "CC-BY-4.0",
    )
    assert row["id"] == "S2_item@0,0" and "ESA" in row["attribution"]
    with rasterio.open(scene) as source:
        profile, values = source.profile, source.read()
    names = {}
    for n, colour in enumerate(("red", "green", "blue")):
        with rasterio.open(tmp_path / f"{colour}.tif", "w", **{**profile, "count": 1}) as out:
            out.write(values[n], 1)
        names[colour] = {"href": f"./{colour}.tif", "type": "image/tiff"}
    with rasterio.open(tmp_path / "scl.tif", "w", **{**profile, "count": 1}) as out:
        out.write(np.where(np.arange(800) < 200, 9, 4).astype(np.uint8)[None].repeat(800, 0), 1)
    item["assets"] = {**names, "scl": {"href": "./scl.tif"}}
    (tmp_path / "item.json").write_text(json.dumps(item))
    manifest = build_caption_dataset(
        CaptionDatasetConfig(osm=osm, out=tmp_path / "bands", imagery=(tmp_path / "item.json",), size=200)
    )
    rows = read_table(tmp_path / "bands").to_pylist()
    assert manifest["dropped"] == {"cloudy images": 4} and {r["cloud_fraction"] for r in rows} == {0.0}
    pixels = np.array(Image.open(tmp_path / "bands" / rows[0]["image"]))
    np.testing.assert_array_equal(pixels, values[:, 0:200, 200:400].transpose(1, 2, 0))


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_windows_whose_clouds_cannot_be_read_are_left_out_and_named(town, tmp_path, damage):
    osm, scene = town
    with rasterio.open(scene) as source:
        profile, values = source.profile, source.read()
    with rasterio.open(tmp_path / "whole.tif", "w", **profile) as out:
        out.write(values)
    if damage == "damaged":
        with rasterio.open(tmp_path / "scl.tif", "w", **{**profile, "count": 1}) as out:
            out.write(values[:1])
        content = (tmp_path / "scl.tif").read_bytes()
        (tmp_path / "scl.tif").write_bytes(content[: len(content) // 2])
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "S2_item", "bbox": [9, 47, 10, 48], "links": [],
        "geometry": {"type": "Point", "coordinates": list(CENTRE)}, "properties": {"datetime": "2024-04-21T10:00:00Z"},
        "assets": {"visual": {"href": "./whole.tif", "type": "image/tiff"}, "scl": {"href": "./scl.tif"}},
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(item))
    other = write_scene(tmp_path / "other.tif", World(), 400, 2.0)
    manifest = build_caption_dataset(
        CaptionDatasetConfig(osm=osm, out=tmp_path / "ds", imagery=(tmp_path / "item.json", other), size=200)
    )
    ids = read_table(tmp_path / "ds")["id"].to_pylist()
    assert manifest["dropped"]["unreadable images"] == 20 - len(ids) >= (16 if damage == "missing" else 1)
    assert sum(name.startswith("other.tif") for name in ids) == 4
    assert all("scl.tif" in why and "\n" not in why for why in manifest["unreadable"])
    kept = {path.stem for path in (tmp_path / "ds/images").rglob("*.png")}
    assert kept == {name.removesuffix(".png") for name in ids}


def test_scenes_stored_band_by_band_run_at_ten_metres(shared_data, tmp_path):
    osm = shared_data / "osm/paris_bss.osm.pbf"
    config = CaptionDatasetConfig(
        osm=osm, out=tmp_path / "ds", imagery=(shared_data / "oscd/bercy",), size=64, gsd_m=10.0
    )
    manifest = build_caption_dataset(config)
    rows = read_table(tmp_path / "ds").to_pylist()
    assert manifest["num_footprints"] == 84 and len(rows) >= 8
    assert all(r["gsd_m"] == pytest.approx(10, rel=1e-3) for r in rows)
    assert not any("footpath" in r["caption"] or "local road" in r["caption"] for r in rows)


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"osm": "none.osm.pbf"}, DataError, "does not exist"),
        ({"imagery": ("nowhere",)}, DataError, "does not exist"),
        ({"bbox": (0.0, 0.0, 90.0, 80.0), "imagery": ()}, ConfigError, "choose a smaller --bbox"),
        ({"bbox": (0.0, 0.0, 0.01, 0.01), "imagery": ()}, DataError, "nothing of .* can be seen"),
    ],
)
def test_wrong_inputs_are_one_line_and_leave_nothing(town, tmp_path, changes, error, line):
    from pathlib import Path

    made = {k: Path(v) if k == "osm" else tuple(map(Path, v)) if k == "imagery" else v for k, v in changes.items()}
    wrong = job(town, tmp_path / "ds", **made)
    with pytest.raises(error, match=line):
        build_caption_dataset(wrong)
    assert not (tmp_path / "ds/index.parquet").exists() and not (tmp_path / "ds/manifest.json").exists()


def test_a_folder_with_other_things_is_not_touched(town, tmp_path):
    (tmp_path / "ds").mkdir()
    (tmp_path / "ds/thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="exists already"):
        build_caption_dataset(job(town, tmp_path / "ds"))
    assert [p.name for p in (tmp_path / "ds").iterdir()] == ["thesis.txt"]


def test_ids_cannot_leave_the_folder_or_take_another_images_place(town, tmp_path):
    import shutil

    osm, scene = town
    folder = tmp_path / "scenes"
    folder.mkdir()
    for n, name in enumerate(("北京.tif", "上海.tif", "a b.tif", "a_b.tif")):
        shutil.copy(scene, folder / name)
        with rasterio.open(folder / name, "r+") as out:
            out.write(np.full((1, 800, 800), 10 + n, np.uint8)[0], 1)
    build_caption_dataset(CaptionDatasetConfig(osm=osm, out=tmp_path / "ds", imagery=(folder,), size=400))
    rows = read_table(tmp_path / "ds").to_pylist()
    assert len({row["image"] for row in rows}) == len(rows) == 16
    for row in rows:
        value = 10 + ("北京.tif", "上海.tif", "a b.tif", "a_b.tif").index(row["id"].split("@")[0])
        assert (np.array(Image.open(tmp_path / "ds" / row["image"]))[..., 0] == value).all()
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "../../../escaped", "bbox": [9, 47, 10, 48], "links": [],
        "geometry": {"type": "Point", "coordinates": list(CENTRE)}, "properties": {"datetime": "2024-04-21T10:00:00Z"},
        "assets": {"visual": {"href": str(scene), "type": "image/tiff", "roles": ["visual"]}},
    }  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps(item))
    build_caption_dataset(
        CaptionDatasetConfig(osm=osm, out=tmp_path / "deep/er/ds", imagery=(tmp_path / "item.json",), size=400)
    )
    assert not [p for p in tmp_path.rglob("*escaped*") if "images" not in p.parts]


def test_windows_past_the_edge_are_not_stretched(town, tmp_path):
    osm, _ = town
    values = np.zeros((3, 300, 300), np.uint8) + 9
    values[:, :, 200:210] = 200
    with rasterio.open(town[1]) as source:
        profile = {**source.profile, "height": 300, "width": 300}
    with rasterio.open(tmp_path / "small.tif", "w", **profile) as out:
        out.write(values)
    build_caption_dataset(
        CaptionDatasetConfig(
            osm=osm, out=tmp_path / "ds", imagery=(tmp_path / "small.tif",), size=200, gsd_m=4.0, max_nodata=1.0
        )
    )
    (row,) = read_table(tmp_path / "ds").to_pylist()
    pixels = np.array(Image.open(tmp_path / "ds" / row["image"]))
    assert row["nodata_fraction"] == pytest.approx(1 - 0.75**2, abs=0.01)
    assert np.flatnonzero(pixels[20, :, 0] > 100).tolist() == list(range(100, 105)) and not pixels[150:].any()


def test_a_stopped_build_is_only_resumed_with_its_settings_and_inputs(town, tmp_path, monkeypatch):
    import lhrs.align.build as module

    real = module.write_table
    monkeypatch.setattr(module, "write_table", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        build_caption_dataset(job(town, tmp_path / "ds", size=100))
    monkeypatch.setattr(module, "write_table", real)
    before = content(tmp_path / "ds")
    with pytest.raises(ConfigError, match=r"with other settings \(gsd_m: None before, 4.0 now\); name another"):
        build_caption_dataset(job(town, tmp_path / "ds", size=100, gsd_m=4.0))
    scene = tmp_path / "scene.tif"
    scene.write_bytes(town[1].read_bytes())
    with pytest.raises(ConfigError, match="with other settings"):
        build_caption_dataset(job((town[0], scene), tmp_path / "ds", size=100))
    image = town[1].read_bytes()
    town[1].write_bytes(image + b"more")
    with pytest.raises(ConfigError, match=r"on other inputs: 1 file was changed \(scene.tif\); name another"):
        build_caption_dataset(job(town, tmp_path / "ds", size=100))
    town[1].write_bytes(image)
    assert content(tmp_path / "ds") == before


def test_curating_told_data_leaves_its_source_alone(built, tmp_path):
    from lhrs.align.recaption import RecaptionConfig, recaption
    from lhrs.curate.pipeline import CurationConfig, curate

    out, _ = built
    before = content(out)
    recaption(
        RecaptionConfig(source=out, out=tmp_path / "told", mode="rewrite", model="m"),
        lambda prompts: ["Some buildings."] * len(prompts),
    )
    curate(CurationConfig(data=tmp_path / "told", out=tmp_path / "chosen"))
    assert content(out) == before
    sample = open_dataset(tmp_path / "chosen")[0]
    assert Image.open(sample.images[0]).size == (64, 64)
