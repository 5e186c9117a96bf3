"""Pictures that look like somewhere: blobs, edges and texture, different for every seed."""

import json

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def scene(seed, side=96):
    """A made-up place: smooth ground, fields with edges, grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 200, (5, 5, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(coarse)
    for _ in range(8):
        x, y, w, h = rng.integers(0, side, 4) / (1, 1, 3, 3)
        draw.rectangle([x, y, x + w, y + h], fill=tuple(rng.integers(0, 255, 3).tolist()))
    grain = rng.normal(0, 6, (side, side, 3))
    return Image.fromarray(np.clip(np.array(coarse) + grain, 0, 255).astype(np.uint8))


def jpeg(picture, path, quality):
    picture.save(path, format="JPEG", quality=quality)


def blurred(picture):
    return picture.filter(ImageFilter.GaussianBlur(3))


def write_samples(folder, rows, name="data.jsonl"):
    """Write rows of our schema; what a row leaves out is the same for all."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {"source": "made up", "license": "CC0-1.0"}
    (folder / name).write_text("".join(json.dumps({**common, **row}) + "\n" for row in rows))
    return folder / name


def told(n, images, text, **more):
    turns = [{"role": "user", "text": "Describe the image."}, {"role": "assistant", "text": text}]
    return {"id": str(n), "images": images, "turns": turns, **more}
