"""Reader of rasters through GDAL: windows, and reduced sizes from overviews."""

import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.enums import Resampling as Method
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from lhrs.errors import DataError
from lhrs.imagery import locations
from lhrs.imagery.base_reader import PixelWindow, RasterReader, Resampling
from lhrs.imagery.geo_image import Rendering
from lhrs.imagery.georeference import read_georeference
from lhrs.imagery.orientation import UPRIGHT, tiff_orientation, to_stored, turn_upright, upright_size
from lhrs.imagery.rendering import data_mask
from lhrs.imagery.warning_filter import suppress_warnings

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_SPECTRAL = re.compile(r"nir|infra|\bb0?8a?\b|sr_b\d", re.IGNORECASE)
"""Names of a fourth band that GDAL may interpret as alpha."""
COLOR_TABLE = "color table"
_HEIC_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1"}
_MAX_MEMBERS = 5
"""Members of an archive that an error lists."""
_CACHE_MIB = 128
"""Size of GDAL's block cache, which neighboring windows share. GDAL's default is 5 % of the memory."""


@dataclass(frozen=True)
class GdalReader(RasterReader):
    """Opens the file for each read."""

    orientation: int = UPRIGHT
    palette: bool = False
    """Values are colors of the file's color table."""
    overviews: tuple[int, ...] = ()
    raw: bool = False

    def _read(
        self, window: PixelWindow, size: tuple[int, int], bands: list[int], resampling: Resampling
    ) -> tuple[np.ndarray, np.ndarray]:
        stored_window, stored_size = self._stored(window, size)
        # The environment routes GDAL's messages to the `rasterio` loggers while the file is in use and raises them as
        # errors. Otherwise messages of GDAL's decoding threads go to stderr, and a truncated JPEG 2000 raises nothing.
        is_whole = window == (0, 0, self.width, self.height)
        cache = {} if is_whole else {"GDAL_CACHEMAX": _CACHE_MIB}
        with rasterio.Env(GDAL_NUM_THREADS="1", **cache), self._dataset() as dataset:
            try:
                if self.palette:
                    values, valid = _read_palette(dataset, stored_window, stored_size)
                    values, valid = values[[n - 1 for n in bands]], valid[[n - 1 for n in bands]]
                else:
                    method = Method.nearest if self.is_complex or self.raw else Method[resampling]
                    values, valid = _read_bands(dataset, bands, stored_window, stored_size, method, self.raw)
            except RasterioError as error:
                raise _damaged(self.name, error) from error
        return turn_upright(values, self.orientation), turn_upright(valid, self.orientation)

    def read_mask(self, window: PixelWindow | None = None, bands: Sequence[int] | None = None) -> np.ndarray:
        """Return bool `(B, H, W)`. Unsigned values do not affect validity and are not decoded."""
        left, top, width, height = window or (0, 0, self.width, self.height)
        inside = left >= 0 and top >= 0 and left + width <= self.width and top + height <= self.height
        if self.palette or self.raw or not inside or not self.dtype.startswith("uint"):
            return super().read_mask(window, bands)
        chosen = list(range(1, self.count + 1) if bands is None else bands)
        stored, (wide, high) = self._stored((left, top, width, height), (round(width), round(height)))
        with (
            rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=_CACHE_MIB),
            open_raster(self.name, self.driver) as dataset,
        ):
            try:
                mask = _read_mask(dataset, chosen, (len(chosen), high, wide), stored)
            except RasterioError as error:
                raise _damaged(self.name, error) from error
        return turn_upright(mask, self.orientation)

    def _stored(self, window: PixelWindow, size: tuple[int, int]) -> tuple[Window, tuple[int, int]]:
        if self.orientation == UPRIGHT:
            return Window(*window), size
        width, height = upright_size(self.orientation, self.width, self.height)
        matrix = to_stored(self.orientation, width, height)
        left, top, across, down = window
        (x1, y1), (x2, y2) = matrix @ (left, top), matrix @ (left + across, top + down)
        stored = Window(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))
        return stored, upright_size(self.orientation, *size)

    @contextmanager
    def _dataset(self) -> "Iterator[DatasetReader]":
        """Open the file, or reuse the handle that `open_gdal` keeps open for the first read."""
        stack, dataset = self.__dict__.pop("_held", (None, None))
        if stack is None:
            stack = ExitStack()
            dataset = stack.enter_context(open_raster(self.name, self.driver))
        with stack:
            yield dataset

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_held"}

    def list_files(self) -> list[Path]:
        """Return all files that are read: also those next to a raster, and those that a VRT is made of."""
        with rasterio.Env(), open_raster(self.name, self.driver) as dataset:
            return [Path(file) for file in dataset.files]

    def decoded_pixels(self, window: PixelWindow, size: tuple[int, int]) -> float:
        """Return how many pixels of one band have to be decoded for a read, at the overview that GDAL will read."""
        ratio = max(window[2] / size[0], window[3] / size[1])
        factor = max((f for f in self.overviews if f <= ratio), default=1)
        return window[2] * window[3] / factor**2


def _damaged(name: str, error: RasterioError) -> DataError:
    return DataError(f"{name}: the file is damaged, its pixels cannot be read ({gdal_message(error)}).")


def open_gdal(name: str, driver: str | None, raw: bool, keep_open: bool = False) -> RasterReader:
    """Return the reader of a raster, from its header.

    With `keep_open` the file stays open until the first read, so that it is opened once.

    Raises:
        DataError: GDAL cannot read the file, or it has no bands of its own.
    """
    with rasterio.Env(GDAL_NUM_THREADS="1"), ExitStack() as stack:
        dataset = stack.enter_context(open_raster(name, driver))
        tags = dataset.tags()
        orientation = _orientation(name, tags)
        width, height = upright_size(orientation, dataset.width, dataset.height)
        georeference = read_georeference(dataset, None if driver is not None else name)
        if georeference is not None and orientation != UPRIGHT:
            georeference = georeference.before(to_stored(orientation, dataset.width, dataset.height))
        gsd_m = None if georeference is None else georeference.gsd_m(width, height)
        # Another planet or a local grid: the image has no longitude and latitude.
        georeference = None if gsd_m is None or georeference is None else georeference.around(width, height)
        palette = not raw and dataset.colorinterp[0] == ColorInterp.palette
        is_complex = any("complex" in dtype for dtype in dataset.dtypes)
        count = 3 if palette else dataset.count
        many = [None] * 3 if palette else None
        dtype = "uint8" if palette else "float32" if is_complex else str(np.result_type(*dataset.dtypes))
        reader = GdalReader(
            files=(name,), width=width, height=height, count=count, dtype=dtype,
            band_names=tuple(many or dataset.descriptions),
            colors=("red", "green", "blue") if palette else _colors(dataset),
            nodata=tuple(many or dataset.nodatavals),
            scales=(1.0,) * 3 if palette else tuple(dataset.scales),
            offsets=(0.0,) * 3 if palette else tuple(dataset.offsets),
            georeference=georeference, gsd_m=gsd_m, tags=tags,
            native=Rendering([1, 1, 1], COLOR_TABLE, "single band") if palette else None, is_complex=is_complex,
            driver=driver, orientation=orientation, palette=palette, overviews=tuple(dataset.overviews(1)), raw=raw,
        )  # fmt: skip
        if keep_open:
            reader.__dict__["_held"] = stack.pop_all(), dataset
        return reader


def _colors(dataset: "DatasetReader") -> tuple[str, ...]:
    """Return the color interpretation. A band that is named as near infrared is not alpha, even if GDAL reports it."""
    return tuple(
        "undefined" if color == ColorInterp.alpha and _SPECTRAL.search(name or "") else color.name
        for color, name in zip(dataset.colorinterp, dataset.descriptions, strict=True)
    )


def adds_to_image(name: str) -> bool:
    """Return whether sidecar files of an 8-bit image hold a georeference, a mask or overviews."""
    if any(os.path.exists(name + end) for end in (".msk", ".ovr")):
        return True
    try:
        with rasterio.Env(), open_raster(name) as dataset:
            if any(value is not None for value in dataset.nodatavals) and os.path.exists(f"{name}.aux.xml"):
                return True
            return read_georeference(dataset, name) is not None
    except DataError:  # a format that only Pillow reads
        return False


def _orientation(name: str, tags: dict[str, str]) -> int:
    """Return the orientation that EXIF or a TIFF tag declares."""
    declared = tags.get("EXIF_Orientation", "").strip()
    if declared.isdigit() and 1 <= int(declared) <= 8:
        return int(declared)
    if locations.gdal_name(name) is not None or not os.path.isfile(name):
        return UPRIGHT
    head = locations.read_head(name) or b""
    if head.startswith((b"\x89PNG", b"RIFF")) or head[4:12] == b"ftypavif":
        from lhrs.imagery.pillow_reader import exif_orientation

        return exif_orientation(name)
    return tiff_orientation(name, head)


@contextmanager
def open_raster(name: str | Path, driver: str | None = None) -> "Iterator[DatasetReader]":
    """Open a raster.

    Args:
        name: the file, or GDAL's name of it.
        driver: GDAL short name of the only format to try, for files that must not refer to others; None is all.

    Raises:
        DataError: it cannot be opened, has no bands of its own, or refers to another file although `driver` is set.
    """
    try:
        with suppress_warnings(NotGeoreferencedWarning):
            dataset = rasterio.open(locations.gdal_path(str(name)), driver=driver)
    except RasterioError as error:
        hint = _hint(name) if driver is None else ""
        raise DataError(f"{name} is not an image or raster that can be read ({gdal_message(error)}{hint}).") from error
    with dataset:
        if not dataset.count:
            first = f": name one of its parts, for example {dataset.subdatasets[0]}" if dataset.subdatasets else ""
            raise DataError(f"{name} has no bands of its own{first}.")
        if driver is not None and dataset.tags(ns="OVERVIEWS"):  # a GeoTIFF may name another file as its overviews
            raise DataError(f"{name} refers to another file.")
        yield dataset


def _hint(name: str | Path) -> str:
    """Return a hint on how to open an archive or a HEIC photo."""
    path = str(name).removeprefix("/vsizip/").removeprefix("/vsitar/")
    if not os.path.isfile(path):
        return ""
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return "; HEIC is not supported: convert it first, for example with `heif-convert IN.heic OUT.jpg`"
    for list_members, prefix in ((_zip_members, "/vsizip/"), (_tar_members, "/vsitar/")):
        if (members := list_members(path)) is None:
            continue
        images = [member for member in members if os.path.splitext(member)[1].lower() in locations.IMAGE_SUFFIXES]
        if not images:
            return "; the archive contains no image"
        shown = ", ".join(images[:_MAX_MEMBERS]) + (", ..." if len(images) > _MAX_MEMBERS else "")
        count = f"{len(images)} image" + "s" * (len(images) > 1)
        return f"; the archive has {count} ({shown}): name one as {prefix}{path}/{images[0]}"
    return ""


def _zip_members(path: str) -> list[str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return sorted(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return None


def _tar_members(path: str) -> list[str] | None:
    try:
        with tarfile.open(path) as archive:
            return sorted(archive.getnames())
    except (OSError, tarfile.TarError, EOFError, zlib.error):
        return None


def gdal_message(error: BaseException) -> str:
    """Return the first informative message of GDAL's chain of errors, on one line."""
    while "previous exception" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()).rstrip(".")


def _read_bands(
    dataset: "DatasetReader", bands: list[int], window: Window, size: tuple[int, int], method: Method, raw: bool
) -> tuple[np.ndarray, np.ndarray]:
    unique = sorted(set(bands))
    shape = (len(unique), size[1], size[0])
    # GDAL averages valid pixels only. It cannot average complex numbers, of which the amplitude is rendered.
    values = dataset.read(unique, out_shape=shape, window=window, resampling=method)
    if raw:
        valid = np.ones(shape, bool)
    else:
        values = np.abs(values) if values.dtype.kind == "c" else values
        valid = _read_mask(dataset, unique, shape, window) & data_mask(values)
    at = [unique.index(band) for band in bands]
    return (values, valid) if at == list(range(len(unique))) else (values[at], valid[at])


def _read_palette(dataset: "DatasetReader", window: Window, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 colors `(3, H, W)` and bool of the same shape."""
    codes = dataset.read(1, out_shape=size[::-1], window=window)  # nearest: codes cannot be averaged
    table = np.zeros((np.iinfo(codes.dtype).max + 1, 4), np.uint8)
    for code, rgba in dataset.colormap(1).items():
        table[code] = rgba
    colors = table[codes]
    valid = _read_mask(dataset, [1], (1, *codes.shape), window)[0] & (colors[..., 3] > 0)
    return colors[..., :3].transpose(2, 0, 1), np.stack([valid] * 3)


def _read_mask(dataset: "DatasetReader", bands: list[int], shape: tuple[int, ...], window: Window) -> np.ndarray:
    """Return bool `(B, H, W)`, False at nodata, transparent and masked pixels."""
    flags = [dataset.mask_flag_enums[band - 1] for band in bands]
    has_alpha = ColorInterp.alpha in dataset.colorinterp
    alpha = dataset.colorinterp.index(ColorInterp.alpha) + 1 if has_alpha else None
    if alpha is not None and _SPECTRAL.search(dataset.descriptions[alpha - 1] or ""):
        alpha = None
        flags = [[MaskFlags.all_valid] if MaskFlags.alpha in flag else flag for flag in flags]
    reads_alpha = alpha in bands
    if all(MaskFlags.all_valid in flag for flag in flags):
        mask = np.ones(shape, bool)  # GDAL would compute the mask of the full image for this
    elif reads_alpha and not any(MaskFlags.nodata in flag for flag in flags):
        mask = np.ones(shape, bool)  # a band that is read is not transparency
    else:
        mask = dataset.read_masks(bands, out_shape=shape, window=window) > 0
    if alpha is not None and not reads_alpha:  # GDAL applies alpha only in images with two or four bands
        mask &= dataset.read(alpha, out_shape=shape[1:], window=window) > 0
    return mask
