"""Any raster that GDAL knows, read at the size it is looked at: overviews are used, big files are never read whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.image import Area, OpenedImage, View, reduced_size
from lhrs.imagery.quiet import ignored
from lhrs.imagery.rendering import choose_bands, data_mask, to_uint8

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_MAX_DECODED = 2_000_000_000
"""Pixels of one band that may be decoded to look at an image: some 15 seconds a band of compressed data."""
_MAX_RETURNED = 2**28
COLOUR_TABLE = "colour table"
"""How codes of a palette become eight bits, for people."""


def read_raster(path: Path, max_side: int | None, area: Area | None = None, driver: str | None = None) -> OpenedImage:
    """Open a raster with at most `max_side` pixels on the longer side; see `lhrs.imagery.open.open_image`."""
    # The environment routes GDAL's messages to the `rasterio` loggers for as long as the file is in use, and turns them
    # into errors; those of its own decoding threads would escape to stderr, and a cut JPEG 2000 would pass for whole.
    with rasterio.Env(GDAL_NUM_THREADS="1"), opened(path, driver) as dataset:
        window = _window(path, dataset, area)
        left, top, width, height = map(int, window.flatten())
        size = reduced_size(width, height, max_side)
        _check_effort(path, dataset, window, size)
        try:
            pixels, mask, view = _render(dataset, window, size)
        except RasterioError as error:
            raise DataError(f"{path}: the file is damaged, its pixels cannot be read ({reason(error)}).") from error
        if not mask.any():
            raise DataError(f"{path} holds no valid pixel: everything is nodata, masked or NaN.")
        georeference, gsd_m = locate(dataset)
        if georeference is not None and area is not None:
            georeference = georeference.moved(left, top)
            gsd_m = georeference.gsd_m(width, height)
        pixels[~mask] = 0
        return OpenedImage(pixels, float(mask.mean()), width, height, view, gsd_m, georeference, (left, top))


def _window(path: Path, dataset: "DatasetReader", area: Area | None) -> Window:
    """Return the pixels to look at: all, or those that touch an area."""
    if area is None:
        return Window(0, 0, dataset.width, dataset.height)
    georeference, _ = locate(dataset)
    if georeference is None:
        raise DataError(f"{path} is not georeferenced: nobody knows which part of it lies in the area.")
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
    limits = np.array([dataset.width, dataset.height])
    # A bound that is meant to be a pixel's edge comes back a hair beside it.
    first = np.clip(np.floor(points.min(0) + 1e-3), 0, limits)
    last = np.clip(np.ceil(points.max(0) - 1e-3), 0, limits)
    if not (last > first).all():
        raise DataError(f"the area {list(area.bbox)} in {area.crs} does not touch the image.")
    (left, top), (width, height) = first.astype(int).tolist(), (last - first).astype(int).tolist()
    return Window(left, top, width, height)


@contextmanager
def opened(path: str | Path, driver: str | None = None) -> "Iterator[DatasetReader]":
    """Open a raster.

    Args:
        path: the file.
        driver: GDAL's short name of the only format to try, for files that must not refer to others; None is all.

    Raises:
        DataError: it cannot be, has no bands of its own, or refers to another file while `driver` is given.
    """
    try:
        with ignored(NotGeoreferencedWarning):
            dataset = rasterio.open(path, driver=driver)
    except RasterioError as error:
        raise DataError(f"{path} is not an image or raster that can be read ({reason(error)}).") from error
    with dataset:
        if not dataset.count:
            first = f", for example {dataset.subdatasets[0]}" if dataset.subdatasets else ""
            raise DataError(f"{path} has no bands of its own; convert one of its parts to GeoTIFF{first}.")
        if driver is not None and dataset.tags(ns="OVERVIEWS"):  # a GeoTIFF may name another file as its overviews
            raise DataError(f"{path} refers to another file.")
        yield dataset


def reason(error: BaseException) -> str:
    """Return the first message down the chain that says something, on one line."""
    while "previous exception" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".")


def _check_effort(path: Path, dataset: "DatasetReader", window: Window, size: tuple[int, int]) -> None:
    """Raise DataError if the pixels asked for, or those to be decoded for them, are absurdly many."""
    if size[0] * size[1] > _MAX_RETURNED:
        raise DataError(f"{path}: {window.width} x {window.height} pixels do not fit in memory; set max_side.")
    ratio = max(window.width / size[0], window.height / size[1])
    factor = max((f for f in dataset.overviews(1) if f <= ratio), default=1)  # the overview that GDAL will read
    if window.width * window.height / factor**2 > _MAX_DECODED:
        raise DataError(
            f"{path}: {window.width} x {window.height} pixels without overviews take too long to read; "
            f"add overviews: gdaladdo -r average '{path}'"
        )


def _render(dataset: "DatasetReader", window: Window, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, View]:
    """Return uint8 pixels `(H, W, 3)`, bool mask of data `(H, W)`, and the view, at `size` (width, height)."""
    if has_palette(dataset):
        pixels, mask = read_palette(dataset, window, size)
        return pixels, mask, View([1, 1, 1], COLOUR_TABLE, "single band")
    bands, chosen_by = choose_bands([c.name for c in dataset.colorinterp], dataset.descriptions)
    read = sorted(set(bands))
    shape = (len(read), size[1], size[0])
    is_complex = any("complex" in dataset.dtypes[band - 1] for band in read)
    # GDAL averages over valid pixels only; it cannot average complex numbers.
    resampling = Resampling.nearest if is_complex else Resampling.average
    values = dataset.read(read, out_shape=shape, window=window, resampling=resampling)
    if is_complex:
        values = np.abs(values)
    mask = read_mask(dataset, read, shape, window) & data_mask(values)
    scaled, scaling = to_uint8(values, mask, dataset.count)
    pixels = np.stack([scaled[read.index(band)] for band in bands], -1)
    return pixels, mask.any(0), View(bands, f"amplitude, {scaling}" if is_complex else scaling, chosen_by)


def has_palette(dataset: "DatasetReader") -> bool:
    """Tell whether the numbers are codes of colours in the file's table."""
    return bool(dataset.colorinterp[0] == ColorInterp.palette)


def read_palette(dataset: "DatasetReader", window: Window, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 colours `(H, W, 3)` and bool mask of data `(H, W)` at `size` (width, height)."""
    codes = dataset.read(1, out_shape=size[::-1], window=window)  # nearest: codes have no mean
    table = np.zeros((np.iinfo(codes.dtype).max + 1, 4), np.uint8)
    for code, rgba in dataset.colormap(1).items():
        table[code] = rgba
    rgba = table[codes]
    mask = read_mask(dataset, [1], (1, *codes.shape), window)[0] & (rgba[..., 3] > 0)
    return rgba[..., :3].copy(), mask


def read_mask(
    dataset: "DatasetReader", bands: list[int], shape: tuple[int, ...], window: Window | None = None
) -> np.ndarray:
    """Return bool `(B, H, W)`, False at nodata, transparent and masked pixels."""
    if all(MaskFlags.all_valid in dataset.mask_flag_enums[band - 1] for band in bands):
        mask = np.ones(shape, bool)  # GDAL would fill a mask of the full image to answer this
    else:
        mask = dataset.read_masks(bands, out_shape=shape, window=window) > 0
    if ColorInterp.alpha in dataset.colorinterp:  # GDAL by itself heeds alpha only in images of two or four bands
        alpha = dataset.colorinterp.index(ColorInterp.alpha) + 1
        mask &= dataset.read(alpha, out_shape=shape[1:], window=window) > 0
    return mask


def locate(dataset: "DatasetReader") -> tuple[Georeference | None, float | None]:
    """Return where the raster lies and its metres per pixel; None, None if that is unknown or not on the Earth."""
    gcps, gcps_crs = dataset.gcps
    if dataset.crs and not dataset.transform.is_identity:
        georeference = Georeference(dataset.crs, dataset.transform)
    elif gcps and gcps_crs:
        georeference = Georeference(gcps_crs, gcps=tuple(gcps))
    else:
        return None, None
    gsd_m = georeference.gsd_m(dataset.width, dataset.height)
    # Another planet or a local grid: a picture all the same, only without longitude and latitude.
    return (None, None) if gsd_m is None else (georeference, gsd_m)
