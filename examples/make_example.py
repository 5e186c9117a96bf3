"""Render `examples/river.tif`: a made-up satellite view of a river between fields, as a small georeferenced GeoTIFF.

Haze and contrast were chosen so that the embedded model recognizes the river (dev/LOG.md). No real imagery is involved,
so the file may be shared freely. `python examples/make_example.py` writes the same bytes again.
"""

import shutil
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image, ImageFilter
from rasterio.transform import from_origin

SIDE = 256
GSD_M = 10.0
"""As Sentinel-2 sees it."""
HAZE = np.array([95, 105, 110])
"""Color of the air between satellite and ground."""


def smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return noise in [-1, 1] that varies over SIDE / cells pixels."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), float) / 127.5 - 1


def fields(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return an RGB mosaic of fields: the color of the nearest of some random points."""
    points = rng.uniform(-20, SIDE + 20, (34, 2))
    palette = np.array([[74, 92, 62], [96, 104, 70], [116, 108, 82], [82, 100, 66], [64, 84, 58], [108, 116, 76]])
    tilted = np.stack([x + 0.35 * y, y - 0.35 * x], -1)
    distance = np.abs(tilted[:, :, None] - points).max(-1)
    return palette[rng.integers(len(palette), size=len(points))][distance.argmin(-1)].astype(float)


def render(seed: int = 3) -> np.ndarray:
    """Return uint8 `(SIDE, SIDE, 3)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    image = fields(rng, x, y)
    woods = smooth_noise(rng, 7) > 0.42
    image[woods] = [48, 68, 52]
    image += 6 * smooth_noise(rng, 48)[..., None] + rng.normal(0, 4, (SIDE, SIDE, 1))
    center = 128 + 46 * np.sin(y / 44 + 0.6) + 16 * np.sin(y / 19) + 6 * smooth_noise(rng, 12)
    width = 21 + 4 * np.sin(y / 31)
    bank = np.clip((width + 9 - np.abs(x - center)) / 6, 0, 1)[..., None]
    water = np.clip((width - np.abs(x - center)) / 3, 0, 1)[..., None]
    image = image * (1 - bank) + np.array([58, 78, 56]) * bank
    image = image * (1 - water) + (np.array([52, 76, 88]) + 3 * smooth_noise(rng, 30)[..., None]) * water
    mean = image.mean((0, 1))
    image = 0.7 * (mean + 1.3 * (image - mean)) + 0.3 * HAZE
    rendered = Image.fromarray(image.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(rendered)


def main() -> None:
    """Write the GeoTIFF, here and for the web page, and a PNG twin for the README."""
    pixels = render()
    folder = Path(__file__).parent
    profile = {
        "driver": "GTiff", "width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8", "crs": "EPSG:32633",
        "transform": from_origin(500000, 5200000, GSD_M, GSD_M), "compress": "deflate", "photometric": "rgb",
    }  # fmt: skip
    with rasterio.open(folder / "river.tif", "w", **profile) as out:
        out.write(pixels.transpose(2, 0, 1))
        out.update_tags(licence="CC0-1.0", note="made up by examples/make_example.py, not a real place")
    shutil.copy(folder / "river.tif", folder.parent / "src/lhrs/resources/web/examples")  # for the page of `lhrs serve`
    Image.fromarray(pixels).resize((512, 512), Image.Resampling.LANCZOS).save(folder / "river.png")


if __name__ == "__main__":
    main()
