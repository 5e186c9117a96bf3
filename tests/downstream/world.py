"""Tiny labeled images on disk: colors that any network tells apart."""

import json
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageDraw
from rasterio.transform import from_origin

from lhrs.metrics.iou import oriented_corners

RED, BLUE = 0, 2


def noise(rng, high, wide, channel=None, strength=150):
    pixels = rng.integers(0, 60, (high, wide, 3))
    if channel is not None:
        pixels[..., channel] += strength
    return pixels.astype(np.uint8)


def write_scenes(root: Path, per_class: int = 12) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", per_class), ("test", 5)):
        for name, channel in (("blue", BLUE), ("red", RED)):
            (root / split / name).mkdir(parents=True)
            for k in range(count):
                Image.fromarray(noise(rng, 32, 32, channel)).save(root / split / name / f"{name}{k}.png")
    return root


def write_masks(root: Path, count: int = 4, side: int = 80) -> Path:
    """A red square on blue is class 1; the top rows are unlabeled."""
    rng = np.random.default_rng(1)
    for split, many in (("train", count), ("test", 2)):
        (root / split).mkdir(parents=True)
        for k in range(many):
            pixels, mask = noise(rng, side, side + 10, BLUE), np.zeros((side, side + 10), np.uint8)
            top, left = rng.integers(5, side // 2, 2)
            part = np.s_[top : top + side // 2, left : left + side // 2]
            pixels[part], mask[part] = noise(rng, side // 2, side // 2, RED), 1
            mask[:4] = 2
            Image.fromarray(pixels).save(root / split / f"{k}.png")
            Image.fromarray(mask).save(root / split / f"{k}_mask.png")
    (root / "classes.json").write_text(json.dumps(["water", "roof", "unlabeled"]))
    return root


def write_pairs(root: Path, count: int = 4, side: int = 64) -> Path:
    """A red square appears."""
    rng = np.random.default_rng(2)
    for split, many in (("train", count), ("test", 2)):
        for name in ("A", "B", "label"):
            (root / split / name).mkdir(parents=True)
        for k in range(many):
            before = noise(rng, side, side, BLUE)
            after, mask = before.copy(), np.zeros((side, side), np.uint8)
            top, left = rng.integers(0, side // 2, 2)
            part = np.s_[top : top + side // 2, left : left + side // 2]
            after[part], mask[part] = noise(rng, side // 2, side // 2, RED), 255
            for name, pixels in (("A", before), ("B", after), ("label", mask)):
                Image.fromarray(pixels).save(root / split / name / f"{k}.png")
    return root


def write_objects(root: Path, count: int = 6, side: int = 96) -> Path:
    """Red and blue bars that lie any way on gray, as DOTA has them: `bar` is red, `boat` is blue."""
    rng = np.random.default_rng(3)
    for split, many in (("train", count), ("test", 2)):
        for name in ("images", "labelTxt"):
            (root / split / name).mkdir(parents=True)
        for k in range(many):
            image, lines = Image.fromarray(noise(rng, side, side)), []
            for n, (x, y) in enumerate([(26, 26), (66, 30), (40, 68)]):
                w = rng.uniform(24, 34)
                corners = oriented_corners(np.array([x, y, w, w * 0.45, rng.uniform(-1.5, 1.5)]))[0]
                ImageDraw.Draw(image).polygon([tuple(p) for p in corners], fill=[(220, 40, 40), (40, 40, 220)][n % 2])
                lines.append(f"{' '.join(f'{v:.2f}' for v in corners.ravel())} {['bar', 'boat'][n % 2]} 0\n")
            image.save(root / split / "images" / f"{split}{k}.png")
            (root / split / "labelTxt" / f"{split}{k}.txt").write_text("".join(lines))
    return root


def write_raster(path: Path, pixels: np.ndarray, nodata=None, west=500_000.0) -> Path:
    """Write `(bands, H, W)` in UTM 33 N at 10 m."""
    count, high, wide = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": high, "width": wide, "dtype": pixels.dtype,
               "nodata": nodata, "photometric": "MINISBLACK"}  # four bands are no alpha  # fmt: skip
    with rasterio.open(path, "w", crs="EPSG:32633", transform=from_origin(west, 5_000_000, 10, 10), **profile) as out:
        out.write(pixels)
    return path
