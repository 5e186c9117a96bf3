"""Write the training data of lhrs-nano in lhrs's own format: `python recipes/lhrs-nano/prepare.py DATA OUT`.

DATA is the folder of the public sets, OUT receives one JSON-lines or COCO file per set. Images stay where they are.
Sets whose license forbids weights are not written. Places that are held out for evaluation have the split `test`.
EuroSAT (class folders) and Dubai (masks) are read as they are and need no file.
"""

import argparse
import hashlib
import json
import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.imagery.reader import open_source
from lhrs.imagery.tiles import parse_xyz
from lhrs.schema import Box, Sample

HELD_OUT_COLUMNS = (386693, 386694)
"""Tile columns of Banepa that are kept for evaluation."""
HELD_OUT_SITE = "3"
"""OpenAerialMap site that is kept for evaluation."""
WINDOWS = Path(__file__).with_name("windows.jsonl")
"""Windows that we judged by eye: what covers each cell of a 4 x 4 grid, which tags are present or absent."""
COVER = {"W": "water", "T": "trees", "G": "grass", "C": "crops", "B": "bare", "H": "building", "P": "paved"}
"""Letters of the grid."""
TREE_CROWN_PX = 10.0
"""Nominal crown diameter of trees that are points: 6 m at 0.6 m."""


@cache
def judged() -> frozenset[tuple[str, str]]:
    """Return the (set, file) of images that were judged by eye for evaluation."""
    lines = (Path(__file__).parents[2] / "results/lhrs-nano/gold/held_back.jsonl").read_text().splitlines()
    return frozenset((row["set"], row["file"]) for row in map(json.loads, lines))


def held_out(folder: str, file: str, place: str) -> bool:
    """Return whether an image is kept for evaluation: all that were judged, and one of seven places by hash."""
    return (folder, file) in judged() or hashlib.sha256(place.encode()).digest()[0] % 7 == 0


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of `index.jsonl`."""
    for line in (folder / "index.jsonl").read_text().splitlines():
        yield json.loads(line)


def sample(data: Path, folder: str, row: dict[str, Any], place: str, **fields: Any) -> Sample:
    """Return a sample of a set with an index; its split is `test` for places that are held out."""
    return Sample(
        id=f"{folder}/{Path(row['file']).stem}", images=[str(data / folder / row["file"])], source=folder,
        license=row.get("licence") or "stated by the set",
        split="test" if held_out(folder, row["file"], place) else "train", **fields,
    )  # fmt: skip


def boxes(row: dict[str, Any], label: str | None = None) -> list[Box]:
    """Return the boxes of a row, all with one label if it is given."""
    return [Box(label=label or b["label"], xyxy=tuple(b["box"])) for b in row["boxes"]]


def ucmerced(data: Path) -> Iterator[Sample]:
    """Scene classes; captions and questions have no licence and are left out."""
    for row in rows(data / "ucmerced"):
        yield Sample(
            id=row["file"], images=[str(data / "ucmerced" / row["file"])], labels=[row["label"]], source="ucmerced",
            license="public domain", split=row["split"],
        )  # fmt: skip


def urban_trees(data: Path) -> Iterator[Sample]:
    """Trees as boxes of a nominal size; the same place of two years is in one split."""
    for row in rows(data / "urban_trees_naip"):
        half = TREE_CROWN_PX / 2
        trees = [
            Box(label="tree", xyxy=(max(x - half, 0), max(y - half, 0), min(x + half, 256), min(y + half, 256)))
            for x, y in row["tree_points"]
        ]
        yield sample(data, "urban_trees_naip", row, row["location_id"], boxes=trees)


def vehicles(data: Path) -> Iterator[Sample]:
    """Vehicles seen from straight above."""
    for row in rows(data / "aerial_cars"):
        if row["view"] == "nadir":
            yield sample(data, "aerial_cars", row, row["file"].rsplit("_", 2)[0], boxes=boxes(row, "vehicle"))


def tree_boxes(data: Path) -> Iterator[Sample]:
    """Tree crowns."""
    for row in rows(data / "neon_trees"):
        yield sample(data, "neon_trees", row, row["file"], boxes=boxes(row, "tree"))


def water_fraction(data: Path, folder: str, key: str) -> Iterator[Sample]:
    """Whether there is water, and vegetation where its fraction is known."""
    for row in rows(data / folder):
        if row.get("bands", "true colour") != "true colour":
            continue
        water, green = row["water_frac"], row.get("veg_frac")
        labels = ["water"] if water > 0.02 else ["no water"] if water < 0.002 else []
        if green is not None:
            labels += ["mostly vegetation"] if green > 0.6 else ["hardly any vegetation"] if green < 0.03 else []
        yield sample(data, folder, row, str(row[key]), labels=labels)


def windows(data: Path, folder: str) -> Iterator[Sample]:
    """Windows that we judged by eye, in the largest square from the top left; a cell may have several covers."""
    for row in map(json.loads, WINDOWS.read_text().splitlines()):
        if row["set"] != folder:
            continue
        source = open_source(data / folder / row["file"])
        side = min(source.width, source.height)
        cells = [
            Box(label="|".join(f"cover {COVER[letter]}" for letter in sorted(cell)),
                xyxy=(x * side / 4, y * side / 4, (x + 1) * side / 4, (y + 1) * side / 4))
            for y, line in enumerate(row["grid"]) for x, cell in enumerate(line.split()) if cell != "?"
        ]  # fmt: skip
        labels = [*row["present"], *(f"no {tag}" for tag in row["absent"])]
        yield Sample(
            id=f"{folder}/{Path(row['file']).stem}", images=[str(data / folder / row["file"])], labels=labels,
            boxes=cells, source=folder, license="labels: ours; image: stated by the set", split="train",
        )  # fmt: skip


def buildings(data: Path, folder: str, pattern: str, labels: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return COCO data of the tiles that are for training and of those that are held out, with building outlines."""
    rings = []
    for feature in json.loads((data / labels).read_text())["features"]:
        shape = feature["geometry"]
        parts = shape["coordinates"] if shape["type"] == "MultiPolygon" else [shape["coordinates"]]
        rings += [np.radians(np.array(part[0], float)[:, :2]) for part in parts]
    files: dict[str, dict[str, Any]] = {}
    for name in ("train", "test"):
        files[name] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "building"}]}
    for path in sorted((data / folder).glob(pattern)):
        x, y, z = parse_xyz(path)
        coco = files["test" if x in HELD_OUT_COLUMNS or f"oam_osm_sites/{HELD_OUT_SITE}" in folder else "train"]
        side = open_source(path).width
        number = len(coco["images"]) + 1
        lat = math.atan(math.sinh(math.pi * (1 - 2 * (y + 0.5) / 2**z)))
        gsd_m = 40075016.686 * math.cos(lat) / 2**z / side
        image = {"id": number, "file_name": str(path), "width": side, "height": side, "gsd_m": round(gsd_m, 4)}
        coco["images"].append(image)
        for ring in rings:
            tile = np.stack([(ring[:, 0] / math.pi + 1) / 2, (1 - np.arcsinh(np.tan(ring[:, 1])) / math.pi) / 2], 1)
            points = (tile * 2**z - [x, y]) * side
            low, high = points.min(0), points.max(0)
            inside_low, inside_high = low.clip(0, side), high.clip(0, side)
            if (inside_high - inside_low).min() < 3:
                continue
            coco["annotations"].append({
                "id": len(coco["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [*inside_low.tolist(), *(inside_high - inside_low).tolist()],
                "segmentation": [points.clip(0, side).round(2).ravel().tolist()],
            })  # fmt: skip
    return files["train"], files["test"]


def main() -> None:
    """Write all files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    data, out = Path(os.path.abspath(options.data)), options.out
    out.mkdir(parents=True, exist_ok=True)
    sets = {
        "ucmerced": ucmerced(data),
        "urban_trees": urban_trees(data),
        "vehicles": vehicles(data),
        "neon_trees": tree_boxes(data),
        "sentinel_water": water_fraction(data, "oscd_rgb", "scene"),
        "wetlands": water_fraction(data, "naip_wetlands", "lon"),
        **{
            f"windows_{folder}": windows(data, folder)
            for folder in ("oscd_rgb", "s2_pins", "rsvqa_unlabelled", "naip_wetlands", "urban_trees_naip")
        },
    }
    for name, samples in sets.items():
        lines = [s.model_dump_json(exclude_defaults=True) for s in samples]
        write_atomic(out / f"{name}.jsonl", "\n".join(lines) + "\n")
        print(f"{name}: {len(lines)}")
    sites = {"banepa": ("banepa/train/oam", "*.tif", "banepa/train/osm.geojson")}
    sites |= {f"site{n}": (f"oam_osm_sites/{n}", "*.png", f"oam_osm_sites/{n}/labels.geojson") for n in "1234"}
    for name, found in sites.items():
        for split, coco in zip(("train", "test"), buildings(data, *found), strict=True):
            if coco["images"]:
                write_atomic(out / f"{name}_{split}.json", json.dumps(coco))
                print(f"{name} {split}: {len(coco['images'])} tiles, {len(coco['annotations'])} buildings")


if __name__ == "__main__":
    main()
