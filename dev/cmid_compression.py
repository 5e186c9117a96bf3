"""How much a backbone leans on the way its images were compressed.

    python dev/cmid_compression.py held runs/a/backbone runs/b/backbone --sizes 64,96,128
    python dev/cmid_compression.py webp eurosat/test runs/eurosat-test-webp

EuroSAT's images here: training as WebP of quality 90, test as the original JPEG of quality 100. WebP took fine detail
away. `held` never looks at the test images. It puts such detail back: what the same WebP takes from
uncompressed Sentinel-2 tiles (`rsvqa_unlabelled/LR_*.tif`) is added to 3,000 held-back training images, each with a
tile, a turn and no chance but its number; the linear probe and 20-NN learn from 5,000 others as they are.
`webp` writes class folders again as the training images were written.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lhrs.cmid.load import load_probe
from lhrs.cmid.probes import knn_accuracy, labelled_folder, linear_accuracy
from lhrs.imagery.open import open_image

DATA = Path(__file__).parents[2] / "shared/data"
QUALITY = 90
SIDE = 64


def as_webp(pixels: np.ndarray) -> np.ndarray:
    """Return what remains of `(H, W, 3)` uint8."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=QUALITY)
    return np.asarray(Image.open(buffer).convert("RGB"))


def lost_detail() -> list[np.ndarray]:
    """Return what WebP takes from each 64-pixel part of the uncompressed tiles, float64."""
    parts = []
    for file in sorted((DATA / "rsvqa_unlabelled").glob("LR_*.tif")):
        tile = open_image(file).pixels
        for y in range(0, tile.shape[0] - SIDE + 1, SIDE):
            for x in range(0, tile.shape[1] - SIDE + 1, SIDE):
                part = np.ascontiguousarray(tile[y : y + SIDE, x : x + SIDE])
                parts.append(part.astype(float) - as_webp(part))
    return parts


def with_detail(number: int, pixels: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Return image `number` with the detail of one part, turned."""
    rng = np.random.default_rng(number)
    detail = np.rot90(parts[rng.integers(len(parts))], rng.integers(4))
    return (pixels + detail).round().clip(0, 255).astype(np.uint8)


def held(backbones: list[Path], sizes: list[int]) -> None:
    files, labels, _ = labelled_folder(DATA / "eurosat/train")
    order = np.random.default_rng(123).permutation(len(files))
    known, kept = order[:5000], order[-3000:]
    parts = lost_detail()
    restored = [with_detail(n, open_image(files[n]).pixels, parts) for n in kept]
    for folder in backbones:
        for size in sizes:
            probe = load_probe(folder, size)
            learned = probe.pooled([files[n] for n in known])
            plain = probe.pooled([files[n] for n in kept])
            batches = (restored[n : n + 64] for n in range(0, len(restored), 64))
            detailed = torch.cat([probe.maps(batch).mean((2, 3)) for batch in batches])
            row = [
                f"{name}: 20-NN {knn_accuracy(*told).mean():.4f} linear {linear_accuracy(*told).mean():.4f}"
                for name, told in (
                    ("as stored", (learned, labels[known], plain, labels[kept])),
                    ("detail put back", (learned, labels[known], detailed, labels[kept])),
                )
            ]
            print(folder, size, *row, sep="  ", flush=True)


def webp(source: Path, out: Path) -> None:
    files, _, _ = labelled_folder(source)
    for file in files:
        target = out / file.parent.name / f"{file.stem}.webp"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("RGB").save(target, quality=QUALITY)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("held")
    sub.add_argument("backbones", nargs="+", type=Path)
    sub.add_argument("--sizes", default="64,96,128")
    sub = commands.add_parser("webp")
    sub.add_argument("source", type=Path)
    sub.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.command == "held":
        held(options.backbones, [int(size) for size in options.sizes.split(",")])
    else:
        webp(options.source, options.out)
