"""Whole scenes, read window by window at a chosen ground sampling distance, always scaled alike."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from lhrs.errors import ConfigError, DataError
from lhrs.imagery.image import reduced_size
from lhrs.imagery.raster import COLOUR_TABLE, has_palette, locate, opened, read_mask, read_palette, reason
from lhrs.imagery.rendering import Scaling, choose_bands, choose_scaling, data_mask, stretched
from lhrs.imagery.sensors import TRUE_COLOUR, Formula, SensorView, find_sensor, recognise

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

_LOOK_SIDE = 1024
_CACHE_MIB = 128
"""Of decoded blocks that GDAL keeps: neighbouring windows share them. Its own choice is a twentieth of all memory."""
_BAND_FILE = re.compile(r"(.*?)(?:^|[_.-])B0?([234])$", re.IGNORECASE)
Read = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Numbers `(B, H, W)`, bool of the same shape where they mean something, and bool `(B,)` of which bands 0 is declared
to mean nothing."""


class NowhereError(DataError):
    """A raster that does not say where it lies."""


@dataclass(frozen=True)
class Scene:
    """A georeferenced raster, or three of one extent that hold red, green and blue.

    Pixel coordinates are of the first file: x right, y down, (0, 0) the outer corner of the top-left pixel.
    """

    files: tuple[str, ...]
    """One file, or one for each of red, green and blue."""
    bands: tuple[int, ...]
    """1-based, of red, green and blue in their files, or of what `look` makes a picture from."""
    num_bands: int
    """In all, as far as known: what scaling rests on."""
    width: int
    height: int
    crs: str
    """WKT or `EPSG:n`."""
    transform: tuple[float, float, float, float, float, float]
    """Pixels to CRS, in the order of `affine.Affine`."""
    gsd_m: float
    look: SensorView | None = None
    """Of a known sensor; None shows the bands as they are."""
    palette: bool = False
    """The numbers are codes of colours in the file's table."""
    driver: str | None = None
    """The only one of GDAL's that may read the file; None is all."""

    @cached_property
    def scaling(self) -> Scaling:
        """How values become eight bits, chosen once on the whole scene, so that windows do not differ."""
        if self.look is not None and self.look.limits is not None:
            return Scaling((self.look.limits,) * 3, self.look.words)
        if self.palette:
            return Scaling(None, COLOUR_TABLE)
        size = reduced_size(self.width, self.height, _LOOK_SIDE)
        values, mask, _ = self._values((0, 0, self.width, self.height), size)
        if self.look is not None:
            return stretched(values, mask, self.look.words)
        if len(self.files) > 1 or len(set(self.bands)) > 1:
            return choose_scaling(values, mask, self.num_bands)
        gray = choose_scaling(values[:1], mask[:1], self.num_bands)  # one band may hold class codes
        return gray if gray.limits is None else replace(gray, limits=gray.limits * 3)

    def read(
        self, window: tuple[float, float, float, float] | None = None, size: tuple[int, int] | None = None
    ) -> tuple[np.ndarray, float]:
        """Return uint8 pixels `(H, W, 3)`, black where there is no data, and the share of pixels with data.

        Args:
            window: left, top, width, height in pixels of the scene; None is all.
            size: (width, height) of the pixels returned; None is the window's own.

        Raises:
            DataError: a file cannot be read.
        """
        window = window or (0, 0, self.width, self.height)
        size = size or (max(1, round(window[2])), max(1, round(window[3])))
        values, mask, is_zero = self._values(window, size)
        # Where only some bands hold a nodata of 0 they are dark, as over water.
        known = np.all(mask | (mask.any(0) & is_zero[:, None, None]), axis=0)
        pixels = self.scaling.apply(values).transpose(1, 2, 0) * known[..., None]
        return np.ascontiguousarray(pixels), float(known.mean())

    def _values(self, window: tuple[float, float, float, float], size: tuple[int, int]) -> Read:
        whole = self.width, self.height
        if len(self.files) == 1:
            bands = None if self.palette else list(self.bands)
            found = _read(self.files[0], bands, window, size, whole, self.driver)
        else:
            parts = [_read(f, [band], window, size, whole) for f, band in zip(self.files, self.bands, strict=True)]
            values, mask, is_zero = (np.concatenate(part) for part in zip(*parts, strict=True))
            found = values, mask, is_zero
        return found if self.look is None else _formed(*found, self.look.formula)


def _read(
    file: str,
    bands: list[int] | None,
    window: tuple[float, float, float, float],
    size: tuple[int, int],
    whole: tuple[int, int],
    driver: str | None = None,
) -> Read:
    """Read a window, given in pixels of a `whole` grid, at `size` (width, height); of a palette, None, its colours."""
    with rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=_CACHE_MIB), opened(file, driver) as dataset:
        across, down = dataset.width / whole[0], dataset.height / whole[1]  # bands of another resolution
        wanted = Window(window[0] * across, window[1] * down, window[2] * across, window[3] * down)
        # GDAL would stretch what there is over all that was asked for.
        part = wanted.intersection(Window(0, 0, dataset.width, dataset.height))
        x1, x2 = (
            round((x - wanted.col_off) / wanted.width * size[0]) for x in (part.col_off, part.col_off + part.width)
        )
        y1, y2 = (
            round((y - wanted.row_off) / wanted.height * size[1]) for y in (part.row_off, part.row_off + part.height)
        )
        inside = max(1, x2 - x1), max(1, y2 - y1)
        try:
            read, known, is_zero = (
                _colours(dataset, part, inside) if bands is None else _bands(dataset, bands, part, inside)
            )
        except RasterioError as error:
            raise DataError(f"{file}: the file is damaged, its pixels cannot be read ({reason(error)}).") from error
    if inside == size:
        return read, known, is_zero
    values = np.zeros((len(read), size[1], size[0]), read.dtype)
    mask = np.zeros(values.shape, bool)
    rows, columns = slice(y1, y1 + inside[1]), slice(x1, x1 + inside[0])
    values[:, rows, columns], mask[:, rows, columns] = read, known
    return values, mask, is_zero


def _bands(dataset: "DatasetReader", bands: list[int], window: Window, size: tuple[int, int]) -> Read:
    unique = sorted(set(bands))
    shape = (len(unique), size[1], size[0])
    # GDAL cannot average complex numbers, such as radar's; their amplitude is what is looked at.
    is_complex = any("complex" in dataset.dtypes[band - 1] for band in unique)
    method = Resampling.nearest if is_complex else Resampling.average
    read = dataset.read(unique, window=window, out_shape=shape, resampling=method)
    read = np.abs(read) if is_complex else read
    known = read_mask(dataset, unique, shape, window) & data_mask(read)
    at = [unique.index(band) for band in bands]
    return read[at], known[at], np.array([dataset.nodatavals[band - 1] == 0 for band in bands])


def _colours(dataset: "DatasetReader", window: Window, size: tuple[int, int]) -> Read:
    pixels, known = read_palette(dataset, window, size)
    return pixels.transpose(2, 0, 1), np.stack([known] * 3), np.zeros(3, bool)


def _formed(values: np.ndarray, mask: np.ndarray, is_zero: np.ndarray, formula: Formula) -> Read:
    """Return three channels, made of the bands read; a formula needs all its bands."""
    if formula == "plain":
        return values, mask, is_zero
    numbers = values.astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        if formula == "decibel":
            made = 10 * np.log10(numbers)
            known = mask & (numbers > 0)
        else:
            one = (numbers[0] - numbers[1]) / (numbers[0] + numbers[1])
            made, known = np.stack([one] * 3), np.stack([mask[0] & mask[1] & np.isfinite(one)] * 3)
    return np.where(known, made, 0.0), known, np.zeros(3, bool)


def open_scene(
    files: Sequence[str | Path], num_bands: int | None = None, sensor: str | None = None, view: str | None = None,
    located: bool = True, driver: str | None = None,
) -> Scene:  # fmt: skip
    """Look at one raster, or at three of the same extent that hold red, green and blue.

    Args:
        files: their paths or URLs.
        num_bands: of the scene in all, where the files do not hold all of them.
        sensor: of one raster, see `lhrs.imagery.sensors`; None recognises it by the names of its bands. Where it is not
            known, three bands are chosen as `lhrs ask` does, and stretched over the whole scene.
        view: of the sensor; None is its first.
        located: refuse what is not georeferenced; else its `crs` is empty and its `gsd_m` NaN.
        driver: GDAL's short name of the only format that one raster may have; None is all. See `open_image`.

    Raises:
        ConfigError: there is no such sensor or view.
        NowhereError: a file is not georeferenced.
        DataError: a file cannot be read, or the three do not lie alike.
    """
    names = tuple(str(file) for file in files)
    with rasterio.Env(), opened(names[0], driver) as dataset:
        georeference, gsd_m = locate(dataset)
        placed = georeference is not None and gsd_m is not None and georeference.transform is not None
        if located and not placed:
            raise NowhereError(f"{names[0]} is not georeferenced by an affine transform: nobody knows where it lies.")
        if len(names) == 1:
            look = _look(names[0], dataset, sensor, view, driver)
            chosen = choose_bands([c.name for c in dataset.colorinterp], dataset.descriptions)[0]
            bands = chosen if look is None else list(look.bands)
            num_bands = dataset.count
        else:
            bands, look = [1, 1, 1], None
        bounds = dataset.bounds
        made = Scene(
            names, tuple(bands), num_bands or len(names), dataset.width, dataset.height,
            dataset.crs.to_string() if placed else "", tuple(dataset.transform)[:6],
            gsd_m if placed and gsd_m is not None else math.nan, look,
            len(names) == 1 and look is None and has_palette(dataset), driver,
        )  # fmt: skip
    for name in names[1:]:
        with rasterio.Env(), opened(name) as dataset:
            if not np.allclose(dataset.bounds, bounds, rtol=1e-6):
                raise DataError(f"{name} does not cover the same ground as {names[0]}.")
    return made


def _look(
    file: str, dataset: "DatasetReader", sensor: str | None, view: str | None, driver: str | None
) -> SensorView | None:
    known = (
        recognise(dataset.descriptions, dataset.dtypes[0], lambda: _is_power(file, dataset, driver))
        if sensor is None
        else find_sensor(sensor)
    )
    if known is None:
        check_view(file, view)
        return None
    if len(known.bands) > dataset.count:
        raise ConfigError(f"{file} has {dataset.count} bands, {known.name} has {len(known.bands)}.")
    return known.view(view or next(iter(known.views)))


def check_view(file: str, view: str | None) -> None:
    """Raise ConfigError for a view of a file whose bands nobody knows."""
    if view not in (None, TRUE_COLOUR):
        raise ConfigError(f"{file}: nobody knows its bands, so there is no view {view!r}: name its sensor.")


def _is_power(file: str, dataset: "DatasetReader", driver: str | None) -> bool:
    """Tell whether few numbers are below 0: power only where noise was taken away, decibels nearly everywhere."""
    whole = dataset.width, dataset.height
    size = reduced_size(*whole, _LOOK_SIDE)
    values, mask, _ = _read(file, list(dataset.indexes), (0, 0, *whole), size, whole, driver)
    return bool((values[mask] < 0).sum() <= (values[mask] > 0).sum())


def band_files(files: Sequence[Path]) -> tuple[list[tuple[Path, Path, Path]], list[Path]]:
    """Return red, green and blue files of scenes stored band by band (`..._B04.tif`), and all other files.

    Other bands of such scenes are left out: they are seen through no view.
    """
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    for file in files:
        named = _BAND_FILE.match(file.stem)
        if named:
            found.setdefault((file.parent, named[1]), {})[named[2]] = file
    scenes = {key: bands for key, bands in found.items() if len(bands) == 3}
    taken = {(folder, stem) for folder, stem in scenes}
    alone = re.compile(r"(.*?)(?:^|[_.-])(?:B\d\d?A?|SCL|QA60|CLP)$", re.IGNORECASE)
    rest = [f for f in files if not ((m := alone.match(f.stem)) and (f.parent, m[1]) in taken)]
    return [(bands["4"], bands["3"], bands["2"]) for bands in scenes.values()], rest
