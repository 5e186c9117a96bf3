"""Inputs of the tasks: paths, arrays and PIL images are converted to `GeoImage`."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.geo_image import GeoImage, Rendering
from lhrs.imagery.image import open_image

ImageInput = Any
"""A path, a uint8 array `(H, W, 3)`, a PIL image, or a `GeoImage`."""
OnError = Callable[[DataError], None]
_MAX_SIDE = 1024


@dataclass(frozen=True)
class RenderingOptions:
    """Rendering options of a raster; None is automatic."""

    sensor: str | None = None
    """Name of a sensor; by default it is detected."""
    composite: str | None = None
    """Band composite of the sensor, such as `swir`."""
    gsd_m: float | None = None
    """Meters per pixel of the rendering."""
    max_side: int | None = None
    """Maximum of the longer side in pixels; None is 1,024."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `open_image`, without the side."""
        return {name: value for name, value in asdict(self).items() if value is not None and name != "max_side"}


def open_input(image: ImageInput, options: RenderingOptions = RenderingOptions()) -> tuple[str, GeoImage]:
    """Return the name and the image of a path, an array or a PIL image; a `GeoImage` is returned unchanged."""
    if isinstance(image, GeoImage):
        return "image", image
    if isinstance(image, str | Path):
        opened = open_image(image, options.max_side or _MAX_SIDE, **options.arguments)
        return os.fsencode(image).decode(errors="replace"), opened
    # A copy: runtimes cache the last image, and a caller may modify the array.
    pixels = np.array(image.convert("RGB") if hasattr(image, "convert") else image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise DataError(f"an image array must be uint8 (H, W, 3), got {pixels.dtype} {pixels.shape}.")
    height, width = pixels.shape[:2]
    return "array", GeoImage(pixels, 1.0, width, height, Rendering([1, 2, 3], "uint8 as is", "array"))


def open_inputs(
    images: list[ImageInput], options: RenderingOptions, on_error: OnError | None
) -> list[tuple[str, GeoImage | None]]:
    """Open images; those that cannot be opened are reported to `on_error` and returned as None.

    Raises:
        DataError: an image cannot be opened, and there is no `on_error`.
    """
    opened: list[tuple[str, GeoImage | None]] = []
    for image in images:
        try:
            opened.append(open_input(image, options))
        except DataError as error:
            if on_error is None:
                raise
            on_error(error)
            opened.append((str(image), None))
    return opened
