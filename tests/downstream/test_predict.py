"""Whole scenes are what their windows say, stitched; files are georeferenced, whole or not there."""

import csv
import json
from itertools import pairwise

import numpy as np
import pytest
import rasterio
import shapely
import torch
from PIL import Image
from rasterio.warp import transform
from tests.downstream.answers import make_detector, make_model, run, turns_left
from tests.downstream.world import BLUE, RED, noise, write_raster

from lhrs.downstream import load_predictor
from lhrs.downstream.sliding_window import blend_weights, sliding_window_logits, strip_starts
from lhrs.downstream.writers import polygonize_mask
from lhrs.errors import LHRSError
from lhrs.imagery.band_stack import BandStack
from lhrs.imagery.georeference import outline_feature


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (4, 10, 14)).astype(np.uint8)
    pixels = small.repeat(15, 1).repeat(15, 2)
    pixels[:, :20, :30] = 7
    return write_raster(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=7)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "m", "segment")


def test_a_scene_is_its_windows_stitched_by_hand(scene, segmenter, tmp_path, monkeypatch, capsys):
    out = tmp_path / "mask.tif"
    code, said, _ = run(monkeypatch, capsys, segmenter, scene, "--out", out, "--device", "cpu")
    assert code == 0 and said.split() == [str(out), str(out.with_suffix(".geojson"))]
    predictor = load_predictor(segmenter, "cpu")
    with rasterio.open(scene) as dataset:
        pixels, place = dataset.read(), (dataset.crs, dataset.transform)
    known = (pixels != 7).any(0)
    total, share = np.zeros((3, 150, 210)), np.zeros((150, 210))
    tops, lefts = [0, 29, 57, 86], [0, 29, 58, 88, 117, 146]
    for top in tops:
        for left in lefts:
            part = np.s_[top : top + 64, left : left + 64]
            seen = (torch.from_numpy(pixels[(slice(None), *part)].astype(np.float32)) / 255 - 0.4) / 0.2
            seen *= torch.from_numpy(pixels[(slice(None), *part)] != 7)  # the mean where a band has no data
            scores = predictor.logits(seen[None])[0].numpy()
            ramp = 1 - np.abs(2 * (np.arange(64) + 0.5) / 64 - 1) + 1 / 64
            total[(slice(None), *part)] += scores * np.outer(ramp, ramp)
            share[part] += np.outer(ramp, ramp)
    stitched = (total / share).argmax(0)
    stitched[~known] = 255
    with rasterio.open(out) as dataset:
        written = dataset.read(1)
        assert (dataset.crs, dataset.transform) == place and dataset.nodata == 255
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert json.loads(dataset.tags()["classes"]) == ["water", "roof", "tree"]
    close = np.sort(total / share, 0)
    sure = (close[-1] - close[-2] > 1e-4) | ~known
    np.testing.assert_array_equal(written[sure], stitched[sure])
    assert sure.mean() > 0.99 and len(np.unique(written)) >= 3
    np.testing.assert_array_equal(predictor(scene), written)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mask.geojson", "mask.tif"]


def test_outlines_cover_what_the_mask_says(scene, segmenter, tmp_path, monkeypatch, capsys):
    run(monkeypatch, capsys, segmenter, scene, "--out", tmp_path / "mask.tif", "--device", "cpu")
    with rasterio.open(tmp_path / "mask.tif") as dataset:
        mask = dataset.read(1)
    features = json.loads((tmp_path / "mask.geojson").read_text())["features"]
    for number, name in enumerate(["water", "roof", "tree"]):
        assert (
            sum(f["properties"]["pixels"] for f in features if f["properties"]["class"] == name)
            == (mask == number).sum()
        )
    for one in features:
        outer, *holes = (np.array(ring) for ring in one["geometry"]["coordinates"])
        assert turns_left(outer) and not any(turns_left(hole) for hole in holes)
        assert (outer[:, 0] > 14.9).all() and (outer[:, 0] < 15.1).all() and (np.abs(outer[:, 1] - 45.15) < 0.1).all()


@pytest.mark.parametrize(("shape", "size", "overlap"), [((50, 61), 16, 0.5), ((16, 40), 16, 0.0), ((9, 7), 16, 0.5)])
def test_rows_come_once_and_blend_everything(shape, size, overlap):
    rng = np.random.default_rng(0)
    field = rng.random((2, *shape))
    rows = list(sliding_window_logits(shape, size, overlap, lambda boxes: np.stack(
        [field[:, t : t + h, left : left + w] for left, t, w, h in boxes]).astype(np.float32)))  # fmt: skip
    assert [top for top, _ in rows] == [0, *np.cumsum([part.shape[1] for _, part in rows])[:-1]]
    np.testing.assert_allclose(np.concatenate([part for _, part in rows], 1), field, atol=1e-5)
    assert (blend_weights(5, 8) > 0).all() and blend_weights(4, 4)[0, 0] < blend_weights(4, 4)[1, 1]
    starts = strip_starts(shape[1], size, overlap)
    assert starts[0] == 0 and starts[-1] == max(0, shape[1] - size)
    assert all(b - a <= max(1, size * (1 - overlap)) + 0.5 for a, b in pairwise(starts))


def test_classes_of_scenes_as_csv_and_geojson(tmp_path, monkeypatch, capsys):
    model = make_model(tmp_path / "m", "classify", bands=3, image_size=32, inference={"center_crop": 0.5})
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for n, channel in enumerate((RED, BLUE)):
        write_raster(folder / f"{n}.tif", noise(rng, 40, 50, channel).transpose(2, 0, 1), west=500_000 + 1000 * n)
    predictor = load_predictor(model)
    one = predictor(folder / "0.tif")
    assert one.confidence == max(one.probabilities.values()) and sum(one.probabilities.values()) == pytest.approx(1)
    with rasterio.open(folder / "0.tif") as dataset:
        middle = torch.from_numpy(dataset.read()[:, 10:30, 15:35].astype(np.float32))  # half of the shorter side
    seen = torch.nn.functional.interpolate(middle[None] / 255, (32, 32), mode="bicubic", antialias=True)
    seen = seen.clamp(middle.min() / 255, middle.max() / 255)
    by_hand = predictor.logits((seen - 0.4) / 0.2).softmax(1)[0]
    np.testing.assert_allclose(list(one.probabilities.values()), by_hand, atol=1e-4)
    code, _, _ = run(monkeypatch, capsys, model, folder, "--out", tmp_path / "o.csv")
    rows = list(csv.DictReader((tmp_path / "o.csv").open()))
    assert code == 0 and [row["image"][-5:] for row in rows] == ["0.tif", "1.tif"]
    assert rows[0]["class"] == one.label and float(rows[0]["confidence"]) == pytest.approx(one.confidence, abs=1e-4)
    run(monkeypatch, capsys, model, folder, "--out", tmp_path / "o.geojson")
    features = json.loads((tmp_path / "o.geojson").read_text())["features"]
    assert [f["properties"]["class"] for f in features] == [row["class"] for row in rows]
    assert 14.99 < features[0]["geometry"]["coordinates"][0][0][0] < 15.02


def test_change_between_two_rasters(tmp_path, monkeypatch, capsys):
    model = make_model(tmp_path / "m", "change", ("no change", "change"), 3)
    rng = np.random.default_rng(0)
    pixels = noise(rng, 70, 90).transpose(2, 0, 1)
    for name, values in (("before", pixels), ("after", pixels[:, ::-1].copy())):
        write_raster(tmp_path / f"{name}.tif", values)
    pair = (tmp_path / "before.tif", tmp_path / "after.tif")
    code, _, err = run(monkeypatch, capsys, model, *pair, "--out", tmp_path / "out/change.tif")
    assert code == 0, err
    with rasterio.open(tmp_path / "out/change.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), load_predictor(model)(*pair))
    features = json.loads((tmp_path / "out/change.geojson").read_text())["features"]
    assert {f["properties"]["class"] for f in features} <= {"change"}


def test_a_scene_is_classified_window_by_window(scene, tmp_path, monkeypatch, capsys):
    model = make_model(tmp_path / "m", "classify", image_size=32)
    window = ("--window-size", 60, "--device", "cpu")
    for name in ("map.tif", "map2.geojson", "map.csv"):
        assert run(monkeypatch, capsys, model, scene, "--out", tmp_path / name, *window)[0] == 0
    with rasterio.open(scene) as dataset:
        pixels, place = dataset.read(), (dataset.crs, dataset.transform)
    known, expected = (pixels != 7).any(0), np.full((150, 210), 255, np.uint8)
    predictor, sure = load_predictor(model, "cpu"), []
    for top, low in ((0, 0), (60, 60), (90, 120)):  # the last ones end with the scene
        for left, first in ((0, 0), (60, 60), (120, 120), (150, 180)):
            part = np.s_[top : top + 60, left : left + 60]
            seen = (torch.from_numpy(pixels[(slice(None), *part)].astype(np.float32)) / 255 - 0.4) / 0.2
            seen *= torch.from_numpy(pixels[(slice(None), *part)] != 7)
            small = torch.nn.functional.interpolate(seen[None], (32, 32), mode="bicubic", antialias=True)
            shares = predictor.logits(small.clamp(seen.min(), seen.max()))[0].softmax(0)
            expected[low : top + 60, first : left + 60] = shares.argmax()
            sure.append(float(shares.max()))
    expected[~known] = 255
    with rasterio.open(tmp_path / "map.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
        assert (dataset.crs, dataset.transform) == place and len(np.unique(expected)) >= 3
    features = json.loads((tmp_path / "map2.geojson").read_text())["features"]
    rows = list(csv.DictReader((tmp_path / "map.csv").open()))
    assert [f["properties"]["class"] for f in features] == [row["class"] for row in rows]
    np.testing.assert_allclose([f["properties"]["confidence"] for f in features], sure, atol=2e-3)
    assert [rows[3][k] for k in ("left", "top", "width", "height")] == ["180", "0", "30", "60"]
    west, north = place[1] * (180, 0)
    (x,), (y,) = transform(place[0], "EPSG:4326", [west], [north])
    ring = np.array(features[3]["geometry"]["coordinates"][0])
    assert np.abs(ring - [x, y]).max(1).min() < 1e-7 and ring[:, 0].min() > x - 1e-4 and ring[:, 1].max() < y + 1e-4
    whole = load_predictor(model, "cpu").classify_windows(BandStack((scene,)), 20)
    assert [n for n, (_, found) in enumerate(whole) if found is None] == [0]  # 20 x 30 pixels have no data


def test_mistakes_are_one_line_and_leave_nothing(scene, segmenter, tmp_path, monkeypatch, capsys):
    rgb = write_raster(tmp_path / "rgb.tif", np.zeros((3, 20, 20), np.uint8))
    broken = tmp_path / "broken.tif"
    broken.write_bytes(scene.read_bytes()[:700])
    change = make_model(tmp_path / "change", "change", ("no change", "change"), 3)
    detector = make_detector(tmp_path / "detector")
    classifier = make_model(tmp_path / "classifier", "classify", bands=3, image_size=32)
    far = write_raster(tmp_path / "far.tif", np.zeros((3, 20, 20), np.uint8), west=600_000)
    small = write_raster(tmp_path / "small.tif", np.zeros((3, 10, 20), np.uint8))
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "o/mask.tif"
    for arguments, why in [
        ((empty, scene), "no config.json in it"),
        ((segmenter, rgb), "has 3 bands, 4 are needed"),
        ((segmenter, tmp_path / "no.tif"), "does not exist"),
        ((segmenter, broken), "broken.tif"),
        ((segmenter, scene, "--device", "abacus"), "there is no device 'abacus'"),
        ((segmenter, scene, rgb), "is one file, but there are 2 images"),
        ((change, rgb), "BEFORE and AFTER"),
        ((change, rgb, rgb, "--min-score", 0.5), "--min-score is not for"),
        ((segmenter, scene, "--window-size", 64), "--window-size is not for"),
        ((segmenter, scene, "--out", tmp_path / "mask.doc"), "masks are written as .tif, or into a folder"),
        ((classifier, rgb), "scene classes are written as .csv or .geojson"),
        ((classifier, rgb, small, "--window-size", 10), "is one file, but there are 2 images"),
        ((detector, rgb), "objects are written as .geojson, as .jsonl, or into a folder"),
        ((change, rgb, far), "does not cover the same area"),
        ((change, rgb, small), "differ in size: 20 x 20 and 20 x 10"),
    ]:
        where = () if "--out" in arguments else ("--out", out)
        code, said, err = run(monkeypatch, capsys, *arguments, *where)
        assert code == 2 and why in err and err.strip().count("\n") == 0 and not said, (arguments, err)
        assert not out.parent.exists() or not list(out.parent.iterdir())


def test_a_stopped_folder_goes_on_and_other_images_are_done_again(scene, segmenter, tmp_path, monkeypatch, capsys):
    folder, out = tmp_path / "images", tmp_path / "masks"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.tif").write_bytes(scene.read_bytes())
    arguments = (segmenter, folder, "--out", out, "--device", "cpu")
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(whole) == ["a.geojson", "a.tif", "b.geojson", "b.tif"]
    written = (out / "a.tif").stat().st_mtime_ns
    (out / "a.geojson").unlink()  # stopped after the first mask
    (out / "b.tif").unlink()
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert (out / "a.tif").stat().st_mtime_ns == written

    flat = write_raster(tmp_path / "flat.tif", np.full((4, 60, 60), 9, np.uint8))
    (folder / "a.tif").write_bytes(flat.read_bytes())
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    assert (out / "a.tif").read_bytes() != whole["a.tif"] and (out / "a.geojson").read_bytes() != whole["a.geojson"]
    again = (out / "b.tif").stat().st_mtime_ns
    other = make_model(tmp_path / "other", "segment", image_size=32)
    assert run(monkeypatch, capsys, other, *arguments[1:])[0] == 0
    assert (out / "b.tif").stat().st_mtime_ns != again


def test_images_are_never_written_over(scene, segmenter, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    copies = [folder / name for name in ("a.tif", "b.tif")]
    for copy in copies:
        copy.write_bytes(scene.read_bytes())
    for images, out in ((folder, folder), (copies[0], copies[0]), (copies[0], folder / ".." / "images" / "a.tif")):
        code, _, err = run(monkeypatch, capsys, segmenter, images, "--out", out)
        assert code == 2 and "is one of the images" in err
    assert all(copy.read_bytes() == scene.read_bytes() for copy in copies)
    assert sorted(folder.iterdir()) == copies


def test_two_classes_are_both_outlined_and_no_change_is_not(tmp_path, monkeypatch, capsys):
    image = write_raster(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, (3, 40, 40)).astype(np.uint8))
    mask = np.zeros((40, 40), np.uint8)
    mask[10:20, 10:20] = 1
    monkeypatch.setattr("lhrs.downstream.predict.Predictor.iter_mask_strips", lambda *_: iter([(0, mask)]))
    for kind, images, expected in (
        ("segment", [image], {"water": 1500, "roof": 100}), ("change", [image, image], {"roof": 100}),
    ):  # fmt: skip
        model = make_model(tmp_path / kind, kind, ("water", "roof"), 3)
        assert run(monkeypatch, capsys, model, *images, "--out", tmp_path / f"{kind}.tif")[0] == 0
        features = json.loads((tmp_path / f"{kind}.geojson").read_text())["features"]
        assert {f["properties"]["class"]: f["properties"]["pixels"] for f in features} == expected


def test_outlines_across_the_antimeridian_and_off_the_earth(tmp_path):
    mask = np.full((40, 60), 1, np.uint8)
    mask[10:20, 20:50] = 0  # a hole that crosses, too
    pixels = {"crs": "EPSG:32660", "transform": rasterio.transform.from_origin(798_000, 1_000_000, 1000, 1000)}
    for name, place in (("crosses", pixels), ("inside", {**pixels, "crs": "EPSG:32633"})):
        with rasterio.open(tmp_path / f"{name}.tif", "w", driver="GTiff", count=1, height=40, width=60, dtype="uint8",
                           **place) as out:  # fmt: skip
            out.write(mask, 1)
        where = BandStack((tmp_path / f"{name}.tif",)).georeference
        assert polygonize_mask(tmp_path / f"{name}.tif", where, ["a", "b"], tmp_path / "o.geojson", 1) == 1
        (feature,) = json.loads((tmp_path / "o.geojson").read_text())["features"]
        found = shapely.from_geojson(json.dumps(feature["geometry"]))
        assert found.is_valid and (found.geom_type == "MultiPolygon") == (name == "crosses")
        for part in getattr(found, "geoms", [found]):
            west, _, east, _ = part.bounds
            assert east - west < 1 and west >= -180 and east <= 180
        if name == "crosses":
            both = found.area
            assert {np.sign(part.centroid.x) for part in found.geoms} == {1, -1}
        else:  # the same shape elsewhere on the globe
            assert both == pytest.approx(found.area, rel=1e-3)
    off = outline_feature([np.array([[0, 0], [np.nan, 1], [1, 1], [0, 0]])], {})
    assert off["geometry"] is None


def test_a_finished_model_needs_no_folder_of_its_backbones_name(segmenter, tmp_path, monkeypatch):
    (tmp_path / "test_resnet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_predictor(segmenter).config.encoder.name == "test_resnet"


def test_a_broken_model_folder_is_told(segmenter, tmp_path):
    copy = tmp_path / "m"
    copy.mkdir()
    config = json.loads((segmenter / "config.json").read_text())
    of = config["normalization"]
    for change, why in (
        ({"task": "paint"}, "task"),
        ({"normalization": {**of, "mean": [0.4], "std": [0.2]}}, "not of 4 bands"),
        ({"normalization": {**of, "mean": [0.4]}}, "mean has 1 bands, std 4"),
        ({"classes": ["water"]}, "only one class"),
        ({"normalization": {**of, "bands": [1, 2]}}, "2 bands are read"),
        ({"inference": {"overlap": 1}}, "overlap: "),
        ({"head_args": {"color": 1}}, "does not describe a network"),
        ({}, "cannot be read"),
    ):
        (copy / "config.json").write_text(json.dumps({**config, **change}))
        (copy / "model.safetensors").write_bytes(b"nothing")
        with pytest.raises(LHRSError, match=why) as error:
            load_predictor(copy)
        assert "\n" not in str(error.value)


def test_bands_of_several_files_lie_over_each_other(tmp_path):
    fine = write_raster(tmp_path / "a.tif", np.arange(64, dtype=np.uint8).reshape(1, 8, 8))
    coarse = np.array([[[0, 100], [0, 100]]], np.uint8)
    with rasterio.open(tmp_path / "b.tif", "w", driver="GTiff", count=1, height=2, width=2, dtype="uint8") as out:
        out.write(coarse)
    stack = BandStack((fine, tmp_path / "b.tif"))
    assert stack.shape == (8, 8)
    whole = stack.read()
    assert whole.shape == (2, 8, 8) and whole[1, 0, 0] == 0 and whole[1, 0, 7] == 100
    np.testing.assert_array_equal(stack.read((2, 3, 4, 5))[0], whole[0, 3:8, 2:6])


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparent_pixels_have_no_class_in_images_as_in_rasters(tmp_path, kind):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 60, 3), np.uint8)
    alpha = np.full((40, 60), 255, np.uint8)
    alpha[:, :25] = 0
    image = Image.fromarray(np.dstack([pixels, alpha]))
    if kind == "LA":
        image = image.convert("LA")
    elif kind == "P":
        image = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE, colors=200)
        indices = np.array(image)
        indices[:, :25] = 255
        palette = image.getpalette()
        image = Image.fromarray(indices, "P")
        image.putpalette(palette + [0] * (768 - len(palette)))
        image.info["transparency"] = 255
    image.save(tmp_path / "a.png")
    mask = load_predictor(make_model(tmp_path / "m", "segment", bands=3), "cpu")(tmp_path / "a.png")
    assert (mask[:, :25] == 255).all() and (mask[:, 25:] < 3).all()
