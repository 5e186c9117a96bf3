"""The result of opening an image or raster: rendered pixels, the rendering and the georeference."""

from dataclasses import dataclass, field

import numpy as np

from lhrs.imagery.georeference import Georeference


@dataclass(frozen=True)
class Rendering:
    """The bands of a file that are rendered, and the mapping of their values to 8-bit."""

    bands: list[int]
    """1-based bands shown as red, green and blue; the same band three times for gray."""
    scaling: str
    """Description: "uint8 as is", "Sentinel-2 reflectance 0-3000", "2-98 percentile of all bands", "color table"."""
    chosen_by: str
    """Description of the source of the band selection: "declared colors", "band names", "Sentinel-2 band order"."""


@dataclass(frozen=True)
class GeoBounds:
    """A rectangle on the ground."""

    bbox: tuple[float, float, float, float]
    """West, south, east, north in the CRS. East exceeds west, also across the antimeridian (170 to 190)."""
    crs: str = "EPSG:4326"
    """The axis order is longitude or easting first, whatever the authority specifies."""


@dataclass(frozen=True)
class GeoImage:
    """An image rendered as 8-bit RGB of bounded size.

    Pixel coordinates are x right, y down, with (0, 0) the outer corner of the top-left pixel. They refer to the upright
    image of the file (`width` x `height`), not to the reduced `pixels`.
    """

    pixels: np.ndarray
    """uint8 `(H, W, 3)`, possibly smaller than the file; black where there is no data."""
    valid_fraction: float
    """Fraction of valid pixels, 0-1."""
    width: int
    """Width of the file in pixels."""
    height: int
    """Height of the file in pixels."""
    rendering: Rendering
    gsd_m: float | None = None
    """Meters on the ground per pixel of the file, at the image center; None if not georeferenced."""
    georeference: Georeference | None = field(default=None, repr=False)
    offset: tuple[int, int] = (0, 0)
    """Column and row of the top-left pixel in the file, if only a part was opened. `width`, `height` and all pixel
    coordinates then refer to the part."""

    def to_lonlat(self, points: np.ndarray) -> np.ndarray | None:
        """Return float64 `(N, 2)` WGS 84 longitude and latitude in degrees of `(N, 2)` xy pixels, or None.

        None means that the file is not georeferenced. A row of NaN is a point off the Earth, as at the corners of a
        full-disc image.
        """
        return None if self.georeference is None else self.georeference.to_lonlat(points)


def reduced_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Return the (width, height) that keeps the aspect and has at most `max_side` pixels on the longer side."""
    scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
