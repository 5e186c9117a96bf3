"""Changes of the rendering of an image, each alone, under which scene classes are asked again.

A change takes and returns uint8 `(H, W, 3)`; sides may differ.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

Change = Callable[[np.ndarray], np.ndarray]


def stretch(pixels: np.ndarray, per_band: bool) -> np.ndarray:
    """Return the image stretched from its percentiles 2 and 98 to 0 and 255, of each band or of all together."""
    values = pixels.astype(np.float32)
    low, high = np.percentile(values, (2, 98), axis=(0, 1) if per_band else None)
    return _uint8((values - low) / np.maximum(high - low, 1) * 255)


def brighten(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Return the image multiplied by a factor."""
    return _uint8(pixels * np.float32(factor))


def gamma(pixels: np.ndarray, exponent: float) -> np.ndarray:
    """Return the image to the power of an exponent, on the scale 0 to 1."""
    return _uint8(255 * (pixels / np.float32(255)) ** exponent)


def haze(pixels: np.ndarray) -> np.ndarray:
    """Return the image with 35 % of bluish white laid over it."""
    return _uint8(0.65 * pixels + 0.35 * np.array([220, 225, 235], np.float32))


def gray(pixels: np.ndarray) -> np.ndarray:
    """Return the luma in all bands."""
    return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))


def compress(pixels: np.ndarray, kind: str) -> np.ndarray:
    """Return the image after it was written with quality 30."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, quality=30)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))


def blur(pixels: np.ndarray) -> np.ndarray:
    """Return the image after a Gaussian blur of one pixel."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)))


def scale(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Return the image resampled to a factor of its size."""
    size = max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor))
    how = Image.Resampling.BOX if factor < 1 else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def border(pixels: np.ndarray) -> np.ndarray:
    """Return the image inside a black border of an eighth of its longer side."""
    width = max(pixels.shape[:2]) // 8
    return np.pad(pixels, ((width, width), (width, width), (0, 0)))


def turn(pixels: np.ndarray, quarters: int, mirrored: bool) -> np.ndarray:
    """Return the image mirrored left to right if asked for, then turned by quarters counterclockwise."""
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters))


def _uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


CHANGES: dict[str, Change] = {
    "as it is": lambda x: x,
    "stretch 2-98 % per band": lambda x: stretch(x, True),
    "stretch 2-98 % joint": lambda x: stretch(x, False),
    "brightness x0.5": lambda x: brighten(x, 0.5),
    "brightness x0.7": lambda x: brighten(x, 0.7),
    "brightness x1.3": lambda x: brighten(x, 1.3),
    "brightness x1.6": lambda x: brighten(x, 1.6),
    "gamma 0.7": lambda x: gamma(x, 0.7),
    "gamma 1.4": lambda x: gamma(x, 1.4),
    "haze": haze,
    "gray": gray,
    "JPEG 30": lambda x: compress(x, "JPEG"),
    "WebP 30": lambda x: compress(x, "WEBP"),
    "blur": blur,
    "scale x0.25": lambda x: scale(x, 0.25),
    "scale x4": lambda x: scale(x, 4),
    "black border": border,
    "turned 90": lambda x: turn(x, 1, False),
    "turned 180": lambda x: turn(x, 2, False),
    "turned 270": lambda x: turn(x, 3, False),
    "mirrored": lambda x: turn(x, 0, True),
    "mirrored, turned 90": lambda x: turn(x, 1, True),
    "mirrored, turned 180": lambda x: turn(x, 2, True),
    "mirrored, turned 270": lambda x: turn(x, 3, True),
}
"""The first is the image itself; it and the last seven are the eight symmetries."""
