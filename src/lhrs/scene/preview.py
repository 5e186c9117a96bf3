"""Preview image of a scene with its answers."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.imagery.draw_boxes import color, draw_boxes
from lhrs.scene.result import Result, class_code

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 1280
_TINT = 0.45
_LEGEND = 16
"""Maximum number of names in a legend."""


def draw(result: Result, names: Sequence[str], path: Path) -> None:
    """Write the scene with boxes, or tinted by answers with a legend.

    Args:
        result: the answers.
        names: answers in the order of their codes; an empty list disables tints.
        path: PNG to write.
    """
    from PIL import Image

    scene = result.scene
    scale = min(1.0, _SIDE / max(scene.width, scene.height))
    size = max(1, round(scene.width * scale)), max(1, round(scene.height * scale))
    pixels, _ = scene.read(None, size)
    if result.objects is not None:
        image = draw_boxes(pixels, result.objects.boxes * scale)
    else:
        shown = pixels.astype(np.float32)
        for row in result.rows:
            code = class_code(row, names) if names and len(names) <= _LEGEND else 0
            if code:
                left, top, width, height = (v * scale for v in row["core"])
                part = shown[round(top) : round(top + height), round(left) : round(left + width)]
                part += _TINT * (np.array(color(code - 1)) - part)
        image = Image.fromarray(shown.round().astype(np.uint8))
        used = {class_code(row, names) for row in result.rows} if names and len(names) <= _LEGEND else set()
        image = _with_legend(image, [(n, name) for n, name in enumerate(names) if n + 1 in used])
    data = io.BytesIO()
    image.save(data, "PNG")
    write_atomic(path, data.getvalue())


def _with_legend(image: "Image", entries: Sequence[tuple[int, str]]) -> "Image":
    from PIL import Image, ImageDraw, ImageFont

    if not entries:
        return image
    font = ImageFont.load_default(18)
    wide = max(int(font.getlength(name)) for _, name in entries) + 56
    page = Image.new("RGB", (image.width + wide, max(image.height, 28 * len(entries) + 16)), "white")
    page.paste(image, (0, 0))
    on = ImageDraw.Draw(page)
    for place, (n, name) in enumerate(entries):
        top = 12 + 28 * place
        on.rectangle((image.width + 12, top, image.width + 32, top + 18), fill=color(n), outline="black")
        on.text((image.width + 42, top - 2), name, font=font, fill="black")
    return page
