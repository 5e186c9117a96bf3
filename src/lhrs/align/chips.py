"""Image chips of footprints: cropped from scenes, or references to whole images."""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lhrs import fingerprint
from lhrs.align.footprints import Footprint
from lhrs.atomic_io import atomic_write
from lhrs.imagery.discover import ImageSource, open_scene_source
from lhrs.imagery.image import open_image
from lhrs.imagery.reader import open_source
from lhrs.imagery.scene import Scene

_CLOUDS = (3, 8, 9, 10)
"""Sentinel-2's scene classes of cloud shadow, cloud and cirrus."""


@dataclass(frozen=True)
class ImageChip:
    """The image of a footprint."""

    image: str
    """Path relative to the dataset directory if the chip was cropped, else the source file."""
    nodata_fraction: float
    cloud_fraction: float | None


def extract_chip(footprint: Footprint, out: Path) -> ImageChip:
    """Return the image of a footprint with a source. A part of a scene is cropped and saved under `out/images`.

    Raises:
        DataError: the source, or its scene classification, cannot be read.
    """
    source = footprint.source
    assert source is not None
    if footprint.window is None and len(source.files) == 1:
        nodata = 1 - open_image(source.files[0], 256).valid_fraction
        return ImageChip(os.path.abspath(source.files[0]), round(nodata, 4), source.cloud_share)
    scene = _scene(source)
    pixels, valid = scene.read(footprint.window, (footprint.width, footprint.height))
    path = out / "images" / f"{_file_name(footprint.id)}.png"
    if not path.exists():
        from PIL import Image

        with atomic_write(path) as part:
            Image.fromarray(pixels).save(part, format="PNG")
    cloud = source.cloud_share if source.scl is None else _cloud_fraction(source.scl, footprint, scene)
    return ImageChip(path.relative_to(out).as_posix(), round(1 - valid, 4), cloud)


def remove_unlisted_chips(out: Path, listed: Collection[str | None]) -> None:
    """Remove chips that no row of the dataset references: chips of filtered rows and incomplete chips."""
    folder = out / "images"
    for path in sorted(folder.rglob("*")) if folder.exists() else []:
        if path.is_file() and path.relative_to(out).as_posix() not in listed:
            path.unlink()


def _file_name(identity: str) -> str:
    """Return a relative path derived from an id. It is unique to the id and stays inside the folder."""
    parts = [re.sub(r"[^\w.@,-]+", "_", part) for part in identity.split("/") if part.strip(".")]
    plain = "/".join(parts)
    if plain == identity:
        return plain
    return f"{plain or 'image'}-{fingerprint.of_bytes(identity.encode())[:8]}"


@lru_cache(maxsize=8)
def _scene(source: ImageSource) -> Scene:
    scene = open_scene_source(source)
    assert scene is not None  # footprints come from georeferenced sources
    return scene


def _cloud_fraction(scl: str, footprint: Footprint, scene: Scene) -> float:
    left, top, width, height = footprint.window or (0, 0, scene.width, scene.height)
    reader = open_source(scl, raw=True)
    x, y = reader.width / scene.width, reader.height / scene.height
    (classes,), _ = reader.read((left * x, top * y, width * x, height * y), bands=[1])
    return round(float(np.isin(classes, _CLOUDS).mean()), 4) if classes.size else 0.0
