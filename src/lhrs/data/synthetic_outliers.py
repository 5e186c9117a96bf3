"""Images that no optical sensor takes by day, made from those that one did: radar and night lights.

A detector of unfamiliar images learns from them where distance from the training images is not enough: an image of
radar has the structure of an optical one under its speckle. All parameters come from the generator argument.
"""

import numpy as np
from PIL import Image, ImageFilter

_NIGHT_PX = 256


def radar(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 `(h, w, 3)` with speckle of 1 to 8 looks (gamma distributed), on a log or root scale.

    Args:
        pixels: uint8 `(h, w, 3)`.
        rng: random generator.
    """
    gray = pixels.astype(np.float32) @ rng.dirichlet([1, 1, 1]).astype(np.float32) / 255
    if rng.random() < 0.4:
        gray = 1 - gray
    gray = gray ** rng.uniform(0.5, 3)
    looks = int(rng.choice([1, 1, 2, 4, 8]))
    power = gray * rng.gamma(looks, 1 / looks, gray.shape) + 1e-3
    corners = rng.random(gray.shape) < rng.uniform(0, 0.01)
    power = np.where(corners, power * rng.uniform(2, 20), power)
    values = np.log(power) if rng.random() < 0.6 else np.sqrt(power)
    low, high = np.quantile(values, [0.02, 0.98])
    image = Image.fromarray((((values - low) / (high - low + 1e-6)).clip(0, 1) * 255).astype(np.uint8))
    blur = 0.4 * int(rng.integers(0, 3))
    first = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)) if blur else image, np.float32)
    if rng.random() < 0.7:
        return np.repeat(first[..., None].astype(np.uint8), 3, 2)
    second = first * rng.gamma(4, 1 / 4, gray.shape)  # two polarizations and their ratio
    ratio = 255 * first / (second + 1)
    return np.stack([first, second, ratio], -1).clip(0, 255).astype(np.uint8)


def night_lights(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 `(256, 256, 3)`: what is brighter than its surroundings as lights on a dark ground.

    Args:
        pixels: uint8 `(h, w, 3)`.
        rng: random generator.
    """
    small = Image.fromarray(pixels).convert("L").resize((_NIGHT_PX, _NIGHT_PX))
    relief = np.asarray(small, np.float32) - np.asarray(small.filter(ImageFilter.GaussianBlur(8)), np.float32)
    is_light = relief > np.quantile(relief, rng.uniform(0.8, 0.995))
    power = Image.fromarray((is_light * rng.gamma(1, 60, relief.shape)).clip(0, 255).astype(np.uint8))
    glow = np.zeros_like(relief)
    for radius in (rng.uniform(0.6, 1.5), rng.uniform(3, 12)):
        blurred = np.asarray(power.filter(ImageFilter.GaussianBlur(radius)), np.float32)
        glow += blurred / (blurred.max() + 1e-6) * rng.uniform(0.3, 1)
    tint = np.array([1, rng.uniform(0.7, 1), rng.uniform(0.3, 1)])
    ground = rng.uniform(0, [0.08, 0.08, 0.15])
    values = ground + glow[..., None] / (glow.max() + 1e-6) * tint
    return (values.clip(0, 1) * 255).astype(np.uint8)
