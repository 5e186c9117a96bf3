"""Open any image or raster as 8-bit RGB of bounded size."""

import math
import os

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.composites import check_valid, fit_composite, plan_composite
from lhrs.imagery.geo_image import GeoBounds, GeoImage, Rendering, reduced_size
from lhrs.imagery.locations import IMAGE_SUFFIXES, list_images
from lhrs.imagery.reader import PixelWindow, RasterReader, open_source

__all__ = ["DEFAULT_MAX_SIDE", "IMAGE_SUFFIXES", "list_images", "open_image"]

DEFAULT_MAX_SIDE = 1024
_MAX_DECODED = 2_000_000_000
"""Maximum number of decoded pixels per band: about 15 seconds per band of compressed data."""
_MAX_RETURNED = 2**28


def open_image(
    path: str | os.PathLike[str],
    max_side: int | None = DEFAULT_MAX_SIDE,
    area: GeoBounds | None = None,
    driver: str | None = None,
    *,
    sensor: str | None = None,
    composite: str | None = None,
    gsd_m: float | None = None,
) -> GeoImage:
    """Open an image or raster of any type, size, band count and georeference, and render it as 8-bit RGB.

    8-bit images are read with Pillow and rotated upright by their EXIF orientation. All others are read with GDAL. The
    supported inputs are those of `lhrs.imagery.reader.open_source`.

    Args:
        path: the file, or any input of `open_source`.
        max_side: maximum of the longer side of the returned pixels; None keeps the full size. Rasters are read at the
            reduced size from their overviews, so that a file larger than memory opens quickly.
        area: render only this part of a georeferenced raster.
        driver: GDAL short name of the only format to try; None is all. Some formats refer to other files, which must
            not be opened for an untrusted client.
        sensor: of the image, see `lhrs.imagery.sensors`; None recognizes it by band names and values.
        composite: of the sensor, such as `swir`; None is true color. For an unknown sensor, `per-band` stretches each
            band by itself.
        gsd_m: meters per pixel at which a georeferenced image is rendered, as far as `max_side` allows. For an image
            without a georeference it is the pixel size of the file, and nothing is resampled.

    Raises:
        DataError: the file is missing, damaged, not an image, has no valid pixel, does not intersect `area`, or is too
            large to be read in reasonable time.
        ConfigError: there is no such sensor or composite, or the image is not of that sensor.
    """
    reader = open_source(path, driver=driver, keep_open=True)
    window = (0, 0, reader.width, reader.height) if area is None else _window(reader, area)
    left, top, width, height = window
    scale = 1.0
    if gsd_m is not None:
        if not (math.isfinite(gsd_m) and gsd_m > 0):
            raise DataError(f"{path}: a ground sampling distance of {gsd_m} m is not a positive number.")
        scale = 1.0 if reader.gsd_m is None else reader.gsd_m / gsd_m
    size = reduced_size(max(1, round(width * scale)), max(1, round(height * scale)), max_side)
    _check_effort(reader, window, size)
    plan = plan_composite(reader, sensor, composite)
    distinct = sorted(set(plan.bands))
    values, valid = reader.read(window, size, distinct)
    at = [distinct.index(band) for band in plan.bands]
    if at != list(range(len(distinct))):
        values, valid = values[at], valid[at]
    fitted = fit_composite(plan, reader, values, valid)
    pixels, has_data = fitted.render(values, valid, reader.has_zero_nodata[[band - 1 for band in plan.bands]])
    check_valid(reader, has_data)
    view = reader.native or Rendering(list(plan.bands), fitted.scaling.description, plan.chosen_by)
    georeference, own_gsd_m = reader.georeference, reader.gsd_m if reader.gsd_m is not None else gsd_m
    if georeference is not None and area is not None:
        georeference = georeference.shifted(left, top)
        own_gsd_m = georeference.gsd_m(width, height)
    return GeoImage(pixels, float(has_data.mean()), width, height, view, own_gsd_m, georeference, (left, top))


def _window(reader: RasterReader, area: GeoBounds) -> tuple[int, int, int, int]:
    """Return the pixels that intersect an area."""
    georeference = reader.georeference
    if georeference is None:
        raise DataError(f"{reader.name} is not georeferenced, so the area has no place in it.")
    west, south, east, north = area.bbox
    if not (west < east and south < north):
        raise DataError(f"the area {list(area.bbox)} is empty: give west, south, east, north.")
    along = np.linspace(0, 1, 21)  # edges may be curves in the image
    x, y = west + along * (east - west), south + along * (north - south)
    edges = [(x, 0 * x + south), (x, 0 * x + north), (0 * y + west, y), (0 * y + east, y)]
    points = georeference.to_pixels(np.concatenate([np.stack(edge, 1) for edge in edges]), area.crs)
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        raise DataError(f"the area {list(area.bbox)} in {area.crs} has no place in the image's own CRS.")
    limits = np.array([reader.width, reader.height])
    # Rounding moves a bound off the pixel edge that it specifies.
    first = np.clip(np.floor(points.min(0) + 1e-3), 0, limits)
    last = np.clip(np.ceil(points.max(0) - 1e-3), 0, limits)
    if not (last > first).all():
        raise DataError(f"the area {list(area.bbox)} in {area.crs} does not touch the image.")
    (left, top), (width, height) = first.astype(int).tolist(), (last - first).astype(int).tolist()
    return left, top, width, height


def _check_effort(reader: RasterReader, window: PixelWindow, size: tuple[int, int]) -> None:
    """Raise DataError if the requested pixels, or those to be decoded for them, are too many."""
    width, height = window[2:]
    if size[0] * size[1] > _MAX_RETURNED:
        raise DataError(f"{reader.name}: {width} x {height} pixels do not fit in memory; set max_side.")
    if reader.decoded_pixels(window, size) > _MAX_DECODED:
        raise DataError(
            f"{reader.name}: {width} x {height} pixels without overviews take too long to read; "
            f"add overviews: gdaladdo -r average '{reader.name}'"
        )
