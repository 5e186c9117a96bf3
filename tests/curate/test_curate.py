"""`lhrs curate` as a user runs it: what goes, what stays, what is written."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.align.world import World, write_scene
from tests.cli.conftest import run
from tests.curate.models import write_model
from tests.curate.scenes import blurred, jpeg, scene, told, write_samples

from lhrs.align.build import CaptionDatasetConfig, build_caption_dataset
from lhrs.align.table import read_table
from lhrs.curate.pipeline import CurationConfig, curate
from lhrs.data.dataset import open_dataset
from lhrs.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Ten places, and what is wrong with the others."""
    folder = tmp_path_factory.mktemp("mixed")
    for n in range(10):
        scene(n).save(folder / f"{n}.png")
    shutil.copy(folder / "0.png", folder / "copy.png")
    jpeg(scene(1), folder / "near.jpg", 50)
    scene(2, 96).resize((192, 192)).save(folder / "large.png")
    blurred(scene(3)).save(folder / "soft.png")
    half = np.array(scene(20))
    half[:60] = 0
    Image.fromarray(half).save(folder / "half.png")
    (folder / "broken.png").write_bytes((folder / "4.png").read_bytes()[:900])
    texts = [f"There are {n + 2} houses and a {word} here." for n, word in enumerate("abcdefghij")]
    rows = [told(n, [f"{n}.png"], text) for n, text in enumerate(texts)]
    rows += [told("again", ["5.png"], texts[5]), told("other words", ["5.png"], "Another text about it, as is usual.")]
    copies = {"copy": "copy.png", "near": "near.jpg", "large": "large.png"}
    rows += [told(name, [file], text) for (name, file), text in zip(copies.items(), texts, strict=False)]
    rows += [told(name, [f"{name}.png"], "Nothing is wrong here.") for name in ("soft", "half", "broken")]
    rows += [told("none", [], "Nothing to see, but something to say.")]
    return write_samples(folder, rows)


def reasons(out):
    return {row["id"]: row["reason"] for row in pq.read_table(out / "scores.parquet").to_pylist()}


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def curated(mixed, tmp_path_factory):
    out = tmp_path_factory.mktemp("curated") / "out"
    return out, curate(CurationConfig(data=mixed, out=out, min_sharpness=60.0))


def test_everything_goes_for_its_reason(curated):
    out, told_ = curated
    wanted = {"again": "duplicate", "copy": "duplicate", "near": "near-duplicate", "2": "near-duplicate",
              "soft": "blur", "half": "nodata", "broken": "unreadable"}  # fmt: skip
    assert {k: v for k, v in reasons(out).items() if v} == wanted  # the larger of two stays: not 2, but its enlargement
    assert told_["num_samples"] == 19 and told_["num_accepted"] == 12
    assert told_["dropped"] == {"unreadable": 1, "nodata": 1, "blur": 1, "duplicate": 2, "near-duplicate": 2}
    rows = {row["id"]: row for row in pq.read_table(out / "scores.parquet").to_pylist()}
    assert rows["copy"]["resembles"] == "0" and rows["copy"]["hash_bits"] == 0
    assert rows["near"]["resembles"] == "1" and rows["2"]["resembles"] == "large"
    assert (
        rows["half"]["nodata_fraction"] > 0.5 and rows["broken"]["sharpness"] is None and rows["none"]["image"] is None
    )
    assert all(row["accepted"] == (row["reason"] is None) for row in rows.values())


def test_what_is_kept_is_read_again_as_it_was(curated, mixed):
    out, _ = curated
    before, after = {sample.id: sample for sample in open_dataset(mixed)}, open_dataset(out)
    assert [sample.id for sample in after] == [n for n, reason in reasons(out).items() if reason is None]
    assert all(sample == before[sample.id] for sample in after)
    assert json.loads((out / "manifest.json").read_text())["curated"]["settings"]["min_sharpness"] == 60.0
    assert sum(json.loads((out / "manifest.json").read_text())["dropped"].values()) == 7
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "report.html", "samples.jsonl", "scores.parquet"]


def test_workers_and_a_second_run_give_the_same_bytes(curated, mixed, tmp_path, monkeypatch):
    import lhrs.curate.pipeline as module

    monkeypatch.setattr(module, "_BLOCK_SIZE", 4)
    out, _ = curated
    curate(CurationConfig(data=mixed, out=tmp_path / "pool", min_sharpness=60.0), num_workers=2)
    assert content(tmp_path / "pool") == content(out)


def test_stopped_and_run_again_measures_nothing_twice(curated, mixed, tmp_path, monkeypatch):
    import lhrs.curate.pipeline as module

    calls, real, write = [], module.compute_image_stats, module.write_report
    monkeypatch.setattr(module, "compute_image_stats", lambda block: calls.append(len(block)) or real(block))
    monkeypatch.setattr(module, "write_report", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    job = CurationConfig(data=mixed, out=tmp_path / "out", min_sharpness=60.0)
    with pytest.raises(KeyboardInterrupt):
        curate(job)
    assert calls == [16] and not (tmp_path / "out/manifest.json").exists()
    monkeypatch.setattr(module, "write_report", write)
    curate(job)
    assert calls == [16] and content(tmp_path / "out") == content(curated[0])


def test_the_report_needs_nothing_beside_it(curated):
    page = (curated[0] / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:)|https?://|url\(|@import|<script|<link", page)
    for title in ("The best", *(f"Left out: {reason}" for reason in curated[1]["dropped"])):
        assert f"<h2>{title}</h2>" in page
    assert page.count("data:image/png") == 1 and page.count("data:image/jpeg") >= 15
    assert "what stays 0, 0 bits apart" in page and "the image is damaged" in page


@pytest.mark.parametrize("keep_fraction", [0.5, 0.34, 1.0])
def test_keep_fraction_keeps_the_best_of_what_is_left(mixed, curated, tmp_path, keep_fraction):
    out = tmp_path / "out"
    told_ = curate(CurationConfig(data=mixed, out=out, min_sharpness=60.0, keep_fraction=keep_fraction))
    assert told_["num_accepted"] == {0.5: 6, 0.34: 5, 1.0: 12}[keep_fraction]
    rows = pq.read_table(out / "scores.parquet").to_pylist()
    low = [row["score"] for row in rows if row["reason"] == "low-score"]
    assert max(low, default=-1) <= min(row["score"] for row in rows if row["accepted"])
    assert {k for k, v in reasons(out).items() if v not in (None, "low-score")} == {
        k for k, v in reasons(curated[0]).items() if v
    }


def test_planted_test_images_are_found(mixed, tmp_path):
    jpeg(scene(6).resize((80, 80)), tmp_path / "seen.jpg", 70)
    scene(7).save(tmp_path / "equal.bmp")
    scene(30).save(tmp_path / "new.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "new.png").read_bytes()[:500])
    rows = [told(name, [name], "x") for name in ("new.png", "seen.jpg", "equal.bmp", "cut.png")]
    test = write_samples(tmp_path / "test", [{**row, "images": [f"../{row['id']}"]} for row in rows])
    curate(CurationConfig(data=mixed, out=tmp_path / "out", test_sets=(test,)))
    found = {row["id"]: row for row in pq.read_table(tmp_path / "out/scores.parquet").to_pylist()}
    leaks = {k: row["resembles"] for k, row in found.items() if row["reason"] == "leak"}
    assert leaks == {"6": "seen.jpg", "7": "equal.bmp"}
    curate(CurationConfig(data=mixed, out=tmp_path / "equal only", test_sets=(test,), phash_bits=-1))
    assert [k for k, v in reasons(tmp_path / "equal only").items() if v == "leak"] == ["7"]


def test_models_score_alignment_and_find_near_images(mixed, tmp_path):
    model = write_model(tmp_path / "clip", "clip")
    out = tmp_path / "out"
    curate(
        CurationConfig(
            data=mixed, out=out, phash_bits=-1, embedding=model, embedding_threshold=0.99999, clip_model=model
        )
    )
    rows = {row["id"]: row for row in pq.read_table(out / "scores.parquet").to_pylist()}
    assert all((row["alignment"] is None) == (row["id"] in ("none", "broken")) for row in rows.values())
    assert rows["0"]["alignment"] == rows["copy"]["alignment"] and len({r["alignment"] for r in rows.values()}) > 10
    assert rows["copy"]["reason"] == "duplicate"
    curate(CurationConfig(data=mixed, out=tmp_path / "all", phash_bits=-1, embedding=model, embedding_threshold=-0.999))
    assert set(reasons(tmp_path / "all").values()) == {None, "duplicate", "near-duplicate", "nodata", "unreadable"}
    assert [k for k, v in reasons(tmp_path / "all").items() if v is None][-1] == "none"
    touched = scene(0)
    touched.putpixel((3, 3), (0, 0, 0))
    touched.save(tmp_path / "touched.png")
    files = [f"{mixed.parent}/broken.png", str(tmp_path / "touched.png")]
    test = write_samples(tmp_path / "test", [told(n, [file], "x") for n, file in enumerate(files)])
    curate(
        CurationConfig(
            data=mixed,
            out=tmp_path / "leaks",
            phash_bits=-1,
            embedding=model,
            embedding_threshold=0.9999,
            test_sets=(test,),
        )
    )
    assert {k for k, v in reasons(tmp_path / "leaks").items() if v == "leak"} == {"0", "copy"}


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """An alignment data set; half of its footprints lie east of the middle."""
    folder, rng, world = tmp_path_factory.mktemp("aligned"), np.random.default_rng(0), World()
    for x, y in rng.uniform(-400, 380, (150, 2)):
        world.box(x, y, 12, 12, building=["yes", "house", "church"][int(abs(x)) % 3])
    for x, y in rng.uniform(-400, 300, (12, 2)):
        world.box(x, y, 120, 90, landuse=["forest", "meadow", "industrial"][int(abs(y)) % 3])
    osm = world.write(folder / "town.osm.pbf")
    build_caption_dataset(
        CaptionDatasetConfig(
            osm=osm,
            out=folder / "ds",
            imagery=(write_scene(folder / "scene.tif", world, 400, 2.0),),
            size=64,
            attribution="Me",
        )
    )
    return folder


def test_an_alignment_data_set_stays_one(aligned, tmp_path):
    table = read_table(aligned / "ds")
    told_ = curate(CurationConfig(data=aligned / "ds", out=tmp_path / "out", keep_fraction=0.5))
    kept = open_dataset(tmp_path / "out")
    assert len(kept) == told_["num_accepted"] == -(-len(table) // 2)
    for sample in kept:
        assert Image.open(sample.images[0]).size == (64, 64) and str(tmp_path / "out") in sample.images[0]
    assert len(list((tmp_path / "out/images").rglob("*.png"))) == len(kept)
    ids = read_table(tmp_path / "out")["id"].to_pylist()
    mask = [identity in set(ids) for identity in table["id"].to_pylist()]
    assert read_table(tmp_path / "out").to_pylist() == table.filter(mask).to_pylist()
    old, new = (json.loads((f / "manifest.json").read_text()) for f in (aligned / "ds", tmp_path / "out"))
    assert new["osm"] == old["osm"] and new["settings"] == old["settings"] and new["attribution"] == old["attribution"]
    assert new["num_images"] == sum(new["categories"].values()) == len(kept)
    assert new["curated"]["dropped"] == {"low-score": len(table) - len(kept)}
    assert list(new["dropped"].values()) == [len(table) - len(kept)]  # not the counts of the dataset that it came from
    assert (tmp_path / "out/ATTRIBUTION.txt").read_text() == (aligned / "ds/ATTRIBUTION.txt").read_text()
    scores = pq.read_table(tmp_path / "out/scores.parquet")
    assert set(scores["fact_precision"].to_pylist()) == {1.0} and min(scores["fact_coverage"].to_pylist()) > 0
    shutil.rmtree(tmp_path / "out")  # the images are the data set's own as well
    assert Image.open(open_dataset(aligned / "ds")[0].images[0]).size == (64, 64)


def test_wrong_captions_score_low(aligned, tmp_path):
    shutil.copytree(aligned / "ds", tmp_path / "ds")
    table = read_table(tmp_path / "ds")
    wrong = [n % 3 == 0 for n in range(len(table))]
    captions = [
        "An airport with three runways and two ships in the harbour." if bad else text
        for bad, text in zip(wrong, table["caption"].to_pylist(), strict=True)
    ]
    at = table.schema.get_field_index("caption")
    pq.write_table(table.set_column(at, "caption", pa.array(captions)), tmp_path / "ds/index.parquet")
    curate(CurationConfig(data=tmp_path / "ds", out=tmp_path / "out", keep_fraction=0.6))
    rows = pq.read_table(tmp_path / "out/scores.parquet").to_pylist()
    assert not any(row["accepted"] for row, bad in zip(rows, wrong, strict=True) if bad)


def test_the_ground_of_a_test_set_is_left_out(aligned, tmp_path):
    """Another picture of the same place: no hash would tell."""
    world = World()
    for x in range(20, 400, 40):
        world.box(x, 0, 20, 20, building="yes")
    scene_ = write_scene(tmp_path / "other.tif", world, 64, 2.0, seed=9)
    build_caption_dataset(
        CaptionDatasetConfig(osm=aligned / "town.osm.pbf", out=tmp_path / "test", imagery=(scene_,), size=64)
    )
    told_ = curate(CurationConfig(data=aligned / "ds", out=tmp_path / "out", test_sets=(tmp_path / "test",)))
    assert set(told_["dropped"]) == {"ground"} and 1 <= told_["dropped"]["ground"] <= 4


def test_stated_cloud_and_nodata_go_before_what_is_measured(aligned, tmp_path):
    shutil.copytree(aligned / "ds", tmp_path / "ds")
    table = read_table(tmp_path / "ds")
    for name, values in (("cloud_fraction", [0.9, 0.2]), ("nodata_fraction", [0.0, 0.8])):
        column = pa.array([*values, *[None] * (len(table) - 2)], pa.float64())
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, tmp_path / "ds/index.parquet")
    curate(CurationConfig(data=tmp_path / "ds", out=tmp_path / "out"))
    assert list(reasons(tmp_path / "out").values()) == ["cloud", "nodata", *[None] * (len(table) - 2)]


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"data": "nothing"}, DataError, "does not exist"),
        ({"test_sets": ("nothing",)}, DataError, "does not exist"),
        ({"split": "val"}, DataError, "no split"),
        ({"format": "nonsense"}, ConfigError, "nonsense"),
        ({"clip_model": "/no/such/model"}, ConfigError, "cannot be loaded"),
        ({"min_sharpness": 1e9, "max_nodata": 0.0}, DataError, "nothing of .* is left: 1 unreadable, "),
    ],
)
def test_wrong_inputs_are_one_line_and_leave_nothing(mixed, tmp_path, changes, error, line):
    made = {k: Path(v) if k == "data" else tuple(map(Path, v)) if k == "test_sets" else v for k, v in changes.items()}
    rows = tmp_path / "images only.jsonl"
    lines = [line for line in mixed.read_text().splitlines(True) if '"none"' not in line]
    rows.write_text("".join(lines).replace('["', f'["{mixed.parent}/'))
    with pytest.raises(error, match=line) as caught:
        curate(CurationConfig(**{"data": rows, "out": tmp_path / "out", **made}))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out/manifest.json").exists() and not (tmp_path / "out/scores.parquet").exists()


def test_broken_and_silent_data_are_refused(mixed, tmp_path):
    broken = write_samples(tmp_path / "broken", [told(n, [f"{mixed.parent}/broken.png"], "x") for n in range(2)])
    with pytest.raises(DataError, match=r"no image of .* can be opened: .*damaged"):
        curate(CurationConfig(data=broken, out=tmp_path / "out"))
    silent = write_samples(tmp_path / "silent", [{"id": "1", "images": [f"{mixed.parent}/1.png"]}])
    with pytest.raises(ConfigError, match="has none"):
        curate(CurationConfig(data=silent, out=tmp_path / "other", keep_fraction=0.5))
    curate(CurationConfig(data=silent, out=tmp_path / "other"))
    assert len(open_dataset(tmp_path / "other")) == 1


def test_a_folder_with_other_things_is_not_touched(mixed, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="exists already"):
        curate(CurationConfig(data=mixed, out=tmp_path))
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_the_command(mixed, tmp_path):
    done = run("curate", mixed, "--out", tmp_path / "out", "--phash-bits", "8", "--min-sharpness", "60")
    assert "12 of 19 samples kept" in done.stderr and "1 blurred images (soft)" in done.stderr
    again = run("curate", mixed, "--out", tmp_path / "out", code=2)
    assert again.stderr.count("\n") == 1 and "exists already" in again.stderr
    lost = run("curate", mixed, "--out", tmp_path / "x", "--embedding-threshold", "0.9", code=2)
    assert "name a model with --embedding" in lost.stderr and not (tmp_path / "x").exists()


def test_real_aerial_images_are_not_near_by_chance(shared_data, tmp_path):
    """UC Merced has one image twice, and nothing else that is near."""
    curate(CurationConfig(data=shared_data / "ucmerced", out=tmp_path / "out", split="train"))
    rows = [row for row in pq.read_table(tmp_path / "out/scores.parquet").to_pylist() if row["reason"]]
    assert {(os.path.basename(row["image"]), row["reason"]) for row in rows} == {("airplane02.jpg", "duplicate")}
