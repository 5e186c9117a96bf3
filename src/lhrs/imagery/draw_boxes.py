"""Draw boxes and labels on an image, legible at any size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

_MIN_SIDE = 512
# The Okabe-Ito palette, safe for color blindness. Yellow comes first: it has the best contrast on land and water.
_COLORS = ["#f0e442", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#0072b2", "#ffffff"]


def color(n: int) -> tuple[int, int, int]:
    """Return the n-th color as red, green, blue, 0-255. Colors repeat, darker, after the last."""
    from PIL import ImageColor

    shade = 0.75 ** (n // len(_COLORS))
    red, green, blue = ImageColor.getrgb(_COLORS[n % len(_COLORS)])[:3]
    return round(red * shade), round(green * shade), round(blue * shade)


def draw_boxes(pixels: np.ndarray, boxes: np.ndarray, labels: Sequence[str] | None = None) -> "Image":
    """Return the image with boxes and labels, one color for each different label.

    Args:
        pixels: uint8 `(H, W, 3)`. Enlarged by a whole factor if its longer side is under 512 pixels, so that text can
            be read; the returned image is then larger than the input.
        boxes: `(N, 4)` xyxy in pixels of `pixels`.
        labels: N texts; an empty one leaves its box without a label.
    """
    from PIL import Image, ImageDraw, ImageFont

    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    labels = [""] * len(boxes) if labels is None else labels
    height, width = pixels.shape[:2]
    factor = -(-_MIN_SIDE // max(height, width))
    image = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(image)
    line = max(2, round(max(image.size) / 400))
    font = ImageFont.load_default(max(12, round(max(image.size) / 45)))
    color_of = {label: _COLORS[i % len(_COLORS)] for i, label in enumerate(dict.fromkeys(labels))}
    scaled = [[round(float(v)) for v in box * factor] for box in boxes]
    for box, label in zip(scaled, labels, strict=True):
        x1, y1, x2, y2 = box
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=line + 2)  # for light backgrounds
        draw.rectangle((x1, y1, x2, y2), outline=color_of[label], width=line)
    for box, label in zip(scaled, labels, strict=True):  # after all lines, so that no line crosses a label
        if label:
            _draw_label(image, draw, font, box, label, color_of[label])
    return image


def _draw_label(
    image: "Image", draw: "ImageDraw", font: "FreeTypeFont | ImageFont", box: list[int], label: str, color: str
) -> None:
    """Draw the label on a filled background above the box, or inside its top edge if there is no room above."""
    from PIL import ImageColor

    left, top, right, bottom = draw.textbbox((0, 0), label, font=font)
    pad = 3
    width, height = right - left + 2 * pad, bottom - top + 2 * pad
    x = max(0, min(box[0], image.width - width))
    y = box[1] - height if box[1] >= height else min(box[1], image.height - height)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=color, outline="black")
    red, green, blue = ImageColor.getrgb(color)[:3]
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 110
    draw.text((x + pad - left, y + pad - top), label, font=font, fill="white" if dark else "black")
