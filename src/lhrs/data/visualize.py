"""Visualization of samples: a contact sheet or an HTML page of images with boxes and texts."""

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.imagery.draw_boxes import draw_boxes
from lhrs.imagery.image import open_image
from lhrs.schema import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 512
_MARGIN = 12
_LINE = 19
_MOST_LABELS = 40
"""Maximum number of boxes with labels; above it, only colors are drawn."""


def draw_sample(sample: Sample, side: int = _SIDE) -> "Image":
    """Return the first image with its boxes, `side` pixels on its longer side; a blank image if there is none."""
    from PIL import Image

    boxes = np.array([box.xyxy for box in sample.boxes], float).reshape(-1, 4)
    labels = [box.label for box in sample.boxes]
    if not sample.images:
        extent = max(64.0, float(boxes[:, 2:].max())) if len(boxes) else 64.0
        pixels, scale = np.full((side, side, 3), 40, np.uint8), side / extent
    else:
        opened = open_image(sample.images[0], side)
        pixels, scale = opened.pixels, opened.pixels.shape[1] / opened.width
    few = len(labels) <= _MOST_LABELS
    overlay = draw_boxes(pixels, boxes * scale, labels if few else [""] * len(labels))
    overlay.thumbnail((side, side), Image.Resampling.LANCZOS)
    return overlay


def contact_sheet(samples: Sequence[Sample], columns: int = 3) -> "Image":
    """Return one image of all samples, each with its text below."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(15)
    texts = [textwrap.wrap(_words(sample), 66)[:9] for sample in samples]
    rows = [range(start, min(start + columns, len(samples))) for start in range(0, len(samples), columns)]
    heights = [_SIDE + _LINE * max(len(texts[n]) for n in row) + 2 * _MARGIN for row in rows]
    sheet = Image.new("RGB", (columns * (_SIDE + _MARGIN) + _MARGIN, sum(heights) + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    top = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, n in enumerate(row):
            left = _MARGIN + column * (_SIDE + _MARGIN)
            sheet.paste(draw_sample(samples[n]), (left, top))
            for line, text in enumerate(texts[n]):
                draw.text((left, top + _SIDE + 4 + line * _LINE), text, font=font, fill="black")
        top += height
    return sheet


def html_page(samples: Sequence[Sample], path: Path, title: str) -> None:
    """Write an HTML page with embedded images."""
    cards = []
    for sample in samples:
        buffer = io.BytesIO()
        draw_sample(sample).save(buffer, format="JPEG", quality=85)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        turns = "".join(f"<p><b>{t.role}</b> {html.escape(t.text)}</p>" for t in sample.turns)
        labels = ", ".join(sample.labels)
        cards.append(
            f'<figure><img alt="{html.escape(sample.id)}" src="data:image/jpeg;base64,{encoded}"><figcaption>'
            f"<h2>{html.escape(sample.id)}</h2>{html.escape(labels)}{turns}"
            f"<small>{html.escape(sample.attribution or sample.license)}</small></figcaption></figure>"
        )
    style = (
        "body{font:15px system-ui;margin:1.5rem;background:Canvas;color:CanvasText;color-scheme:light dark}"
        "main{display:grid;grid-template-columns:repeat(auto-fill,minmax(320px,1fr));gap:1rem}"
        "figure{margin:0}img{width:100%}h2{font-size:.9rem;overflow-wrap:anywhere}p{margin:.3rem 0}small{opacity:.7}"
    )
    name = html.escape(title)
    write_atomic(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{name}</title><style>{style}</style><h1>{name}</h1><main>{''.join(cards)}</main></html>\n",
    )


def _words(sample: Sample) -> str:
    answers = [turn.text for turn in sample.turns if turn.role == "assistant"]
    return " / ".join([*sample.labels, *answers])
