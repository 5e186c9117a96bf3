"""Drawings of colored squares whose places are known, for `lhrs check-boxes`."""

from dataclasses import dataclass

import numpy as np

from lhrs.boxes import Size, common_area

_SIZES_WH: tuple[Size, ...] = (
    (322, 210), (210, 406), (518, 294), (350, 602), (770, 434), (434, 966), (1162, 630), (574, 322),
)  # fmt: skip
"""No image is square. Each side is an odd multiple of 14: where a processor rounds sides to multiples of 28 or 32, the
coordinates of the resized image differ from those of the file by up to 7 %."""
_COLORS = {
    "red": (220, 20, 30), "green": (20, 160, 50), "blue": (30, 60, 220), "yellow": (250, 220, 30),
    "black": (10, 10, 10), "white": (250, 250, 250),
}  # fmt: skip
_SQUARES = 3
_SIDES = (0.25, 0.45)
"""Smallest and largest side of a square, as a fraction of the shorter side of the image."""


@dataclass(frozen=True)
class Drawing:
    """An image with squares on gray ground, one of which is asked for."""

    pixels: np.ndarray
    """uint8 `(H, W, 3)`."""
    color: str
    """Color of the square; no other square of the image has it."""
    xyxy: tuple[int, int, int, int]
    """Box of the square in pixels."""

    @property
    def size_wh(self) -> Size:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def unit_box(self) -> np.ndarray:
        """The box as fractions of the image, float64 `(4,)`."""
        return np.array(self.xyxy) / np.tile(self.size_wh, 2)


def draw(count: int, seed: int = 0) -> list[Drawing]:
    """Return drawings; each depends on the seed and its number only.

    Args:
        count: number of drawings.
        seed: of places, sides and colors.
    """
    return [_draw(_SIZES_WH[index % len(_SIZES_WH)], np.random.default_rng([seed, index])) for index in range(count)]


def _draw(size_wh: Size, rng: np.random.Generator) -> Drawing:
    width, height = size_wh
    pixels = rng.integers(118, 139, (height, width, 3), dtype=np.uint8)  # flat ground looks like no image to encoders
    boxes: list[tuple[int, int, int, int]] = []
    while len(boxes) < _SQUARES:
        side = int(rng.uniform(*_SIDES) * min(size_wh))
        left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        box = (left, top, left + side, top + side)
        if not any(common_area(box, other) for other in boxes):
            boxes.append(box)
    colors = [str(color) for color in rng.permutation(list(_COLORS))[:_SQUARES]]
    for color, (x1, y1, x2, y2) in zip(colors, boxes, strict=True):
        pixels[y1:y2, x1:x2] = _COLORS[color]
    return Drawing(pixels, colors[0], boxes[0])
