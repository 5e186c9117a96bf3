"""Draw, show and export the windows that were judged by eye (`results/lhrs-nano/gold`).

    python dev/gold_windows.py draw   --data ../shared/data             # writes windows.jsonl and held_back.jsonl
    python dev/gold_windows.py presence                         # windows.jsonl + window_labels.csv -> presence.jsonl
    python dev/gold_windows.py sheets --data ../shared/data --out DIR   # numbered contact sheets of the windows
    python dev/gold_windows.py export --data ../shared/data --out DIR   # a PNG a window; GeoTIFF where bands exist

A window is `[left, top, width, height]` in pixels of its file. Rows of `oscd` name the red band of one date. Their
PNG is true color (B04, B03, B02), stretched jointly over the whole scene (percentiles 0.5 and 99.5). Their GeoTIFF has
the 13 bands at 10 m as uint16. Every draw derives from (seed, index); no image content takes part in it.
"""

import argparse
import csv
import json
from collections import Counter, defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image, ImageDraw
from rasterio.enums import Resampling
from rasterio.windows import Window

GOLD = Path(__file__).parents[1] / "results/lhrs-nano/gold"
SEED = 21
ATTRIBUTES = ("water", "forest", "buildings", "road", "fields")
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
OSCD_WINDOWS = {"bercy": 4, "bordeaux": 8, "paris": 4, "rennes": 8}
"""Windows for each date of a scene."""
FARMLAND = ("limpopo", "zambia", "ptuj", "temara", "denmark_no_drought")
"""Images of `s2_pins` that more windows are from, because the first 226 windows show too few fields."""

Row = dict[str, Any]


def read_rows(file: Path) -> list[Row]:
    """Return the objects of a JSON Lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def write_rows(file: Path, rows: list[Row]) -> None:
    """Write one object a line."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def overlaps(a: list[int], b: list[int]) -> bool:
    """Return whether two windows share a pixel."""
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


class Sampler:
    """Draws windows from images; windows of one place never overlap, whatever the date."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.taken: dict[str, list[list[int]]] = defaultdict(list)

    def draw(self, dataset: str, file: str, place: str, size: tuple[int, int], sides: tuple[int, ...]) -> None:
        """Add one window with a side out of `sides` of an image of `size` (width, height)."""
        rng = np.random.default_rng([SEED, len(self.rows)])
        for _ in range(1000):
            side = int(rng.choice([s for s in sides if s <= min(size)]))
            left, top = int(rng.integers(size[0] - side + 1)), int(rng.integers(size[1] - side + 1))
            window = [left, top, side, side]
            if not any(overlaps(window, other) for other in self.taken[place]):
                break
        else:
            raise ValueError(f"no free window in {file}")
        self.taken[place].append(window)
        self.rows.append({"id": len(self.rows) + 1, "set": dataset, "file": file, "window": window})


def place_of(row: Row) -> str:
    """Return a name that all dates of a place share."""
    if "pair" in row or "mask" in row:
        return str(row["file"]).replace("_t2.", "_t1.")
    return str(row.get("location_id") or f"{row['lat']:.1f} {row['lon']:.1f}")


def choose(groups: list[Any], count: int, index: int) -> list[Any]:
    """Return `count` of the groups, in an order that depends on (seed, index)."""
    order = np.random.default_rng([SEED, 1000 + index]).permutation(len(groups))
    return [groups[i] for i in order[:count]]


def draw_windows(data: Path) -> tuple[list[Row], list[Row]]:
    """Return the windows, and the files of the places that they are from (every date), which training must not see."""
    sampler, held_back = Sampler(), []

    for scene, count in OSCD_WINDOWS.items():
        for date in (1, 2):
            with rasterio.open(data / f"oscd/{scene}/{date}_B04.tif") as raster:
                size = raster.width, raster.height
            for _ in range(count):
                sampler.draw("oscd", f"{scene}/{date}_B04.tif", f"oscd/{scene}", size, (64, 80, 96))
        held_back.append({"set": "oscd", "file": f"{scene}/"})

    for index, (dataset, key, per_group, count, sides) in enumerate(
        (
            ("oscd_rgb", "scene", 2, 2, (64, 80, 96, 128)),
            ("urban_trees_naip", "place", 6, 1, (160, 200, 256)),
            ("mass_roads", "tile", 1, 1, (128, 192, 256)),
            ("s2_pins", "theme", 3, 2, (96, 128, 160)),
        )
    ):
        images = [row for row in read_rows(data / dataset / "index.jsonl") if row.get("true_color", True)]
        groups: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
        for row in images:
            groups[row[key]][place_of(row)].append(row)
        names = sorted(groups)
        if dataset == "mass_roads":
            names = choose(names, 30, index)
        for name in names:
            wanted = 5 if name == "Urban" else per_group
            for place in choose(sorted(groups[name]), wanted, 100 * index + len(sampler.rows)):
                if f"{dataset}/{place}" in sampler.taken:
                    continue
                dates = [row for row in images if place_of(row) == place]
                held_back += [{"set": dataset, "file": row["file"]} for row in dates]
                for number in range(count):
                    row = dates[(number + len(sampler.rows)) % len(dates)]
                    with Image.open(data / dataset / row["file"]) as image:
                        size = image.size
                    sampler.draw(dataset, row["file"], f"{dataset}/{place}", size, sides)
    images = read_rows(data / "oscd_rgb/index.jsonl")
    for scene in ("saclay_e", "saclay_w", "nantes", "valencia", "beihai"):
        places = sorted({place_of(row) for row in images if row["scene"] == scene})
        free = [place for place in places if f"oscd_rgb/{place}" not in sampler.taken]
        for place in choose(free, 4, 900):
            dates = [row for row in images if place_of(row) == place]
            held_back += [{"set": "oscd_rgb", "file": row["file"]} for row in dates]
            row = dates[len(sampler.rows) % len(dates)]
            sampler.draw("oscd_rgb", row["file"], f"oscd_rgb/{place}", (256, 256), (64, 80, 96))
    for row in read_rows(data / "s2_pins/index.jsonl"):
        if any(name in row["file"] for name in FARMLAND) and row["true_color"]:
            with Image.open(data / "s2_pins" / row["file"]) as image:
                size = image.size
            for _ in range(2):
                sampler.draw("s2_pins", row["file"], f"s2_pins/{place_of(row)}", size, (64, 80, 96))
    return sampler.rows, held_back


def balance(windows: list[Row], labels: list[dict[str, str]]) -> list[Row]:
    """Return presence rows, for each attribute as many "yes" as "no".

    All rows of the rarer answer are taken. Of the other, each set gives as many as it has of the rarer one, so that the
    set says little about the answer; what is then missing is drawn from the rest.
    """
    rows: list[Row] = []
    for index, attribute in enumerate(ATTRIBUTES):
        answers: dict[str, list[Row]] = {"yes": [], "no": [], "unclear": []}
        for window, label in zip(windows, labels, strict=True):
            answers[label[attribute]].append(window)
        rare, common = sorted(("yes", "no"), key=lambda answer: len(answers[answer]))
        wanted = Counter(window["set"] for window in answers[rare])
        first, rest = [], []
        for window in choose(answers[common], len(answers[common]), 500 + index):
            if wanted[window["set"]] > 0:
                wanted[window["set"]] -= 1
                first.append(window)
            else:
                rest.append(window)
        chosen = (first + rest)[: len(answers[rare])]
        for answer, part in ((rare, answers[rare]), (common, chosen)):
            rows += [{**window, "attribute": attribute, "answer": answer} for window in part]
    return sorted(rows, key=lambda row: (ATTRIBUTES.index(row["attribute"]), row["id"]))


@lru_cache(4)
def true_color(data: Path, scene: str, date: str) -> np.ndarray:
    """Return a whole OSCD scene as uint8 [height, width, 3]."""
    bands = []
    for band in ("B04", "B03", "B02"):
        with rasterio.open(data / f"oscd/{scene}/{date}_{band}.tif") as raster:
            bands.append(raster.read(1))
    values = np.stack(bands, -1).astype(np.float32)
    low, high = np.percentile(values, (0.5, 99.5))
    return (np.clip((values - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)


def read_window(data: Path, row: Row) -> Image.Image:
    """Return the window as an 8-bit RGB image at native resolution."""
    left, top, width, height = row["window"]
    box = (left, top, left + width, top + height)
    if row["set"] == "oscd":
        scene, name = row["file"].split("/")
        return Image.fromarray(true_color(data, scene, name[0])).crop(box)
    with Image.open(data / row["set"] / row["file"]) as image:
        return image.convert("RGB").crop(box)


def write_geotiff(data: Path, row: Row, file: Path) -> None:
    """Write the 13 bands of a window of `oscd` as uint16 at 10 m, with band names and georeference."""
    scene, name = row["file"].split("/")
    left, top, width, height = row["window"]
    with rasterio.open(data / f"oscd/{scene}/{name[0]}_B04.tif") as red:
        window = Window(left, top, width, height)
        profile = {
            "driver": "GTiff", "dtype": "uint16", "count": len(BANDS), "width": width, "height": height,
            "crs": red.crs, "transform": red.window_transform(window),
        }  # fmt: skip
        shape = red.shape
    with rasterio.open(file, "w", **profile) as out:
        for number, band in enumerate(BANDS, 1):
            with rasterio.open(data / f"oscd/{scene}/{name[0]}_{band}.tif") as raster:
                values = raster.read(1, out_shape=shape, resampling=Resampling.nearest)
            out.write(values[top : top + height, left : left + width].astype(np.uint16), number)
            out.set_band_description(number, band)


def write_sheets(data: Path, rows: list[Row], folder: Path, per_sheet: int = 12, side: int = 384) -> None:
    """Write contact sheets with four windows a line, each with its id drawn on it."""
    for start in range(0, len(rows), per_sheet):
        part = rows[start : start + per_sheet]
        sheet = Image.new("RGB", (4 * (side + 4), -(-len(part) // 4) * (side + 4)), "white")
        for position, row in enumerate(part):
            image = read_window(data, row).resize((side, side), Image.Resampling.BICUBIC)
            draw = ImageDraw.Draw(image)
            draw.rectangle((0, 0, 12 + 13 * len(str(row["id"])), 24), fill="black")
            draw.text((5, 1), str(row["id"]), fill="yellow", font_size=20)
            sheet.paste(image, (position % 4 * (side + 4), position // 4 * (side + 4)))
        sheet.save(folder / f"sheet_{part[0]['id']:03d}.png")


def export(data: Path, rows: list[Row], folder: Path) -> None:
    """Write each window as PNG, and as GeoTIFF if its bands exist."""
    for row in rows:
        read_window(data, row).save(folder / f"{row['id']:03d}.png")
        if row["set"] == "oscd":
            write_geotiff(data, row, folder / f"{row['id']:03d}.tif")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("draw", "presence", "sheets", "export"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--windows", type=Path, default=GOLD / "windows.jsonl", help="rows with id, set, file, window")
    parser.add_argument("--out", type=Path, help="folder for sheets or windows")
    options = parser.parse_args()
    if options.action == "draw":
        windows, held_back = draw_windows(options.data)
        write_rows(options.windows, windows)
        write_rows(GOLD / "held_back.jsonl", held_back)
        return
    if options.action == "presence":
        with (GOLD / "window_labels.csv").open(encoding="utf-8", newline="") as file:
            labels = list(csv.DictReader(file))
        write_rows(GOLD / "presence.jsonl", balance(read_rows(options.windows), labels))
        return
    if options.out is None:
        parser.error(f"{options.action} needs --out")
    options.out.mkdir(parents=True, exist_ok=True)
    write = write_sheets if options.action == "sheets" else export
    write(options.data, read_rows(options.windows), options.out)


if __name__ == "__main__":
    main()
