"""Fetch the public sets behind the first recipes of lhrs-nano with torchgeo, and lay them out as the recipes expect.

    pip install torchgeo
    python examples/get_nano_data.py data/nano
    lhrs train recipes/lhrs-nano-0-vision.yaml data.root=data/nano

EuroSAT and UC Merced come from torchgeo. The building tiles and the Dubai masks have no loader there: take imagery from
OpenAerialMap with OpenStreetMap buildings as GeoJSON, and the Dubai aerial tiles, in the layout that
docs/embedded-model.md shows, or remove these sources from the recipes.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torchgeo.datasets import EuroSAT, UCMerced

REFLECTANCE_OF_WHITE = 2750
"""Sentinel-2 digital number shown as 255 in the published RGB version of EuroSAT."""


def write_eurosat(root: Path, cache: Path) -> None:
    """Write `eurosat/{train,test}/<class>/<n>.png` from the red, green and blue bands."""
    for ours, theirs in (("train", ("train", "val")), ("test", ("test",))):
        for split in theirs:
            data = EuroSAT(cache, split=split, bands=("B04", "B03", "B02"), download=True)
            for n, sample in enumerate(data):
                pixels = sample["image"].numpy() * 255 / REFLECTANCE_OF_WHITE
                folder = root / "eurosat" / ours / data.classes[int(sample["label"])]
                save(pixels, folder / f"{split}-{n:05}.png")


def write_ucmerced(root: Path, cache: Path) -> None:
    """Write `ucmerced/<class>/<n>.png` and the `index.jsonl` that names label and split of each."""
    rows = []
    for ours, theirs in (("train", ("train", "test")), ("val", ("val",))):
        for split in theirs:
            data = UCMerced(cache, split=split, download=True)
            for n, sample in enumerate(data):
                label = data.classes[int(sample["label"])]
                file = f"{label}/{split}-{n:05}.png"
                save(sample["image"].numpy(), root / "ucmerced" / file)
                rows.append({"file": file, "label": label, "split": ours})
    write_lines(root / "ucmerced" / "index.jsonl", (json.dumps(row) for row in rows))


def save(pixels: np.ndarray, path: Path) -> None:
    """Write `(3, H, W)` numbers of 0-255 as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8).transpose(1, 2, 0)).save(path)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write one text a line."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    options = parser.parse_args()
    write_eurosat(options.root, options.root / "download")
    write_ucmerced(options.root, options.root / "download")
