"""Images unlike anything the embedded model was trained on, for measuring whether it notices.

Noise, flat colours, gradients and rendered text are made here; photographs come from scikit-image and scikit-learn
where they are installed; other sensors from radar, elevation and class-code rasters of the data folder.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from lhrs.errors import DataError, MissingExtraError
from lhrs.imagery.image import open_image

_WORDS = [
    "the",
    "quick",
    "report",
    "of",
    "annual",
    "results",
    "shows",
    "that",
    "total",
    "revenue",
    "grew",
    "while",
    "costs",
    "fell",
    "in",
    "most",
    "regions",
    "of",
    "the",
    "market",
]
_PHOTOS = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "camera",
    "coins",
    "horse",
    "page",
    "text",
    "clock",
    "brick",
    "grass",
    "gravel",
    "cat",
    "hubble_deep_field",
    "immunohistochemistry",
    "retina",
    "colorwheel",
    "logo",
    "moon",
    "cell",
)


def strange_images(data: Path, seed: int = 0) -> dict[str, list[np.ndarray]]:
    """Return uint8 `(H, W, 3)` images by kind; a kind that cannot be had is empty."""
    rng = np.random.default_rng(seed)
    return {
        "noise": [rng.integers(0, 256, (s, s, 3)).astype(np.uint8) for s in (64, 128, 256) for _ in range(20)],
        "flat and gradient": [_gradient(rng) for _ in range(60)],
        "text": [_text(rng) for _ in range(60)],
        "photos": _photos(),
        "other sensors": _sensors(data),
    }


def _gradient(rng: np.random.Generator) -> np.ndarray:
    a, b = rng.integers(0, 256, (2, 1, 1, 3))
    ramp = np.linspace(0, 1, 128)[:, None, None] * (rng.random() < 0.5)
    return np.broadcast_to(a + (b - a) * ramp, (128, 128, 3)).astype(np.uint8)


def _text(rng: np.random.Generator) -> np.ndarray:
    image = Image.new("RGB", (256, 256), tuple(int(v) for v in rng.integers(200, 256, 3)))
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(10, 28))
    for y in range(4, 250, size + 3):
        line = " ".join(_WORDS[int(i)] for i in rng.integers(len(_WORDS), size=12))
        draw.text((4, y), line, fill=tuple(int(v) for v in rng.integers(0, 80, 3)), font_size=size)
    return np.array(image)


def _photos() -> list[np.ndarray]:
    """Return the photographs that scikit-image and scikit-learn carry, whole and in quarters."""
    try:
        from skimage import data as skimage_data
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise MissingExtraError("the photos need scikit-image and scikit-learn: pip install 'lhrs[eval]'") from error
    folder = Path(skimage_data.__file__).parent
    files = sorted(p for p in folder.iterdir() if p.suffix in {".png", ".jpg"} and p.stem in _PHOTOS)
    photos = [*(open_image(path).pixels for path in files), *map(np.asarray, load_sample_images().images)]
    return [crop for photo in photos for crop in _crops(photo)]


def _crops(pixels: np.ndarray) -> list[np.ndarray]:
    """Return the image and its four quarters."""
    h, w = pixels.shape[:2]
    quarters = [pixels[y : y + h // 2, x : x + w // 2] for y in (0, h // 2) for x in (0, w // 2)]
    return [np.ascontiguousarray(p) for p in (pixels, *quarters)]


def _sensors(data: Path) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for folder in ("terramesh/S1RTC", "terramesh/DEM", "terramesh/LULC"):
        for path in sorted((data / folder).glob("*.tif*")):
            found += _crops(open_image(path).pixels)
    for path in sorted((data / "geotiff_fixtures").rglob("*.tif")):
        if path.name.startswith(("sar_", "gpm_", "wind_", "nt_", "goes")):
            try:
                found += _crops(open_image(path).pixels)
            except DataError:
                continue  # a broken fixture is no image
    return found
