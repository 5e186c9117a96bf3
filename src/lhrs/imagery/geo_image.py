"""What opening a picture or a raster gives: pixels to look at, how they were made, and where they lie."""

from dataclasses import dataclass, field

import numpy as np

from lhrs.imagery.georeference import Georeference


@dataclass(frozen=True)
class Rendering:
    """Which bands of a file are shown and how their values became eight bits."""

    bands: list[int]
    """1-based bands shown as red, green and blue; the same band three times for gray."""
    scaling: str
    """For people: "uint8 as is", "Sentinel-2 reflectance 0-3000", "2-98 percentile of all bands", "color table"."""
    chosen_by: str
    """For people, what the choice of bands rests on: "declared colors", "band names", "Sentinel-2 band order"."""


@dataclass(frozen=True)
class GeoBounds:
    """A rectangle on the ground."""

    bbox: tuple[float, float, float, float]
    """West, south, east, north in the CRS; east of west, also across the antimeridian (170 to 190)."""
    crs: str = "EPSG:4326"
    """With longitude, or easting, first whatever the authority says."""


@dataclass(frozen=True)
class GeoImage:
    """An image reduced to what a model or a person looks at.

    Pixel coordinates are x right, y down, with (0, 0) the outer corner of the top-left pixel, always of the file
    (`width` x `height`; a photograph turned upright), not of the reduced `pixels`.
    """

    pixels: np.ndarray
    """uint8 `(H, W, 3)`, possibly smaller than the file; black where there is no data."""
    valid_fraction: float
    """Share of pixels with data, 0-1."""
    width: int
    """Width of the file in pixels."""
    height: int
    """Height of the file in pixels."""
    rendering: Rendering
    gsd_m: float | None = None
    """Metres on the ground per pixel of the file, at the image center; None if not georeferenced."""
    georeference: Georeference | None = field(default=None, repr=False)
    offset: tuple[int, int] = (0, 0)
    """Column and row in the file of the top-left pixel, where only a part of it was opened: then `width`, `height` and
    all pixel coordinates are the part's."""

    def to_lonlat(self, points: np.ndarray) -> np.ndarray | None:
        """Return float64 `(N, 2)` WGS 84 longitude and latitude in degrees of `(N, 2)` xy pixels, or None.

        None means that the file is not georeferenced; a row of NaN means that this point does not lie on the Earth, as
        at the corners of a full-disc image.
        """
        return None if self.georeference is None else self.georeference.to_lonlat(points)


def reduced_size(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Return the (width, height) that keeps the aspect and has at most `max_side` pixels on the longer side."""
    scale = 1.0 if max_side is None else min(1.0, max_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
