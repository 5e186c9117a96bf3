"""Any raster that GDAL knows, read at the size it is looked at: overviews are used, big files are never read whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.image import OpenedImage, View, reduced_size
from lhrs.imagery.quiet import ignored
from lhrs.imagery.rendering import choose_bands, data_mask, to_uint8

if TYPE_CHECKING:
    from rasterio.io import DatasetReader
    from rasterio.windows import Window

_MAX_DECODED = 2_000_000_000
"""Pixels of one band that may be decoded to look at an image: some 15 seconds a band of compressed data."""
_MAX_RETURNED = 2**28


def read_raster(path: Path, max_side: int | None) -> OpenedImage:
    """Open a raster with at most `max_side` pixels on the longer side; see `lhrs.imagery.open.open_image`."""
    # The environment routes GDAL's messages to the `rasterio` loggers for as long as the file is in use, and turns them
    # into errors; those of its own decoding threads would escape to stderr, and a cut JPEG 2000 would pass for whole.
    with rasterio.Env(GDAL_NUM_THREADS="1"), opened(path) as dataset:
        size = reduced_size(dataset.width, dataset.height, max_side)
        _check_effort(path, dataset, size)
        try:
            pixels, mask, view = _render(dataset, size)
        except RasterioError as error:
            raise DataError(f"{path}: the file is damaged, its pixels cannot be read ({reason(error)}).") from error
        if not mask.any():
            raise DataError(f"{path} holds no valid pixel: everything is nodata, masked or NaN.")
        georeference, gsd_m = locate(dataset)
        pixels[~mask] = 0
        return OpenedImage(pixels, float(mask.mean()), dataset.width, dataset.height, view, gsd_m, georeference)


@contextmanager
def opened(path: str | Path) -> "Iterator[DatasetReader]":
    """Open a raster.

    Raises:
        DataError: it cannot be, or has no bands of its own.
    """
    try:
        with ignored(NotGeoreferencedWarning):
            dataset = rasterio.open(path)
    except RasterioError as error:
        raise DataError(f"{path} is not an image or raster that can be read ({reason(error)}).") from error
    with dataset:
        if not dataset.count:
            first = f", for example {dataset.subdatasets[0]}" if dataset.subdatasets else ""
            raise DataError(f"{path} has no bands of its own; convert one of its parts to GeoTIFF{first}.")
        yield dataset


def reason(error: BaseException) -> str:
    """Return the first message down the chain that says something, on one line."""
    while "previous exception" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".")


def _check_effort(path: Path, dataset: "DatasetReader", size: tuple[int, int]) -> None:
    """Raise DataError if the pixels asked for, or those to be decoded for them, are absurdly many."""
    if size[0] * size[1] > _MAX_RETURNED:
        raise DataError(f"{path}: {dataset.width} x {dataset.height} pixels do not fit in memory; set max_side.")
    ratio = max(dataset.width / size[0], dataset.height / size[1])
    factor = max((f for f in dataset.overviews(1) if f <= ratio), default=1)  # the overview that GDAL will read
    if dataset.width * dataset.height / factor**2 > _MAX_DECODED:
        raise DataError(
            f"{path}: {dataset.width} x {dataset.height} pixels without overviews take too long to read; "
            f"add overviews: gdaladdo -r average '{path}'"
        )


def _render(dataset: "DatasetReader", size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, View]:
    """Return uint8 pixels `(H, W, 3)`, bool mask of data `(H, W)`, and the view, at `size` (width, height)."""
    if dataset.colorinterp[0] == ColorInterp.palette:
        return _render_palette(dataset, size)
    bands, chosen_by = choose_bands([c.name for c in dataset.colorinterp], dataset.descriptions)
    read = sorted(set(bands))
    shape = (len(read), size[1], size[0])
    is_complex = any("complex" in dataset.dtypes[band - 1] for band in read)
    # GDAL averages over valid pixels only; it cannot average complex numbers.
    values = dataset.read(read, out_shape=shape, resampling=Resampling.nearest if is_complex else Resampling.average)
    if is_complex:
        values = np.abs(values)
    mask = read_mask(dataset, read, shape) & data_mask(values)
    scaled, scaling = to_uint8(values, mask, dataset.count)
    pixels = np.stack([scaled[read.index(band)] for band in bands], -1)
    return pixels, mask.any(0), View(bands, f"amplitude, {scaling}" if is_complex else scaling, chosen_by)


def _render_palette(dataset: "DatasetReader", size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, View]:
    codes = dataset.read(1, out_shape=size[::-1])  # nearest: codes have no mean
    table = np.zeros((np.iinfo(codes.dtype).max + 1, 4), np.uint8)
    for code, rgba in dataset.colormap(1).items():
        table[code] = rgba
    rgba = table[codes]
    mask = read_mask(dataset, [1], (1, *codes.shape))[0] & (rgba[..., 3] > 0)
    return rgba[..., :3].copy(), mask, View([1, 1, 1], "colour table", "single band")


def read_mask(
    dataset: "DatasetReader", bands: list[int], shape: tuple[int, ...], window: "Window | None" = None
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
