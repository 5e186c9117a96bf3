"""The interface of image and raster readers, and a reader that stacks the bands of several files."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.geo_image import Rendering
from lhrs.imagery.georeference import Georeference

PixelWindow = tuple[float, float, float, float]
"""Left, top, width, height in pixels of the upright image."""
Resampling = Literal["average", "bilinear"]


@dataclass(frozen=True)
class RasterReader(ABC):
    """An opened image or raster. It holds no file handle: it can be pickled and read from several threads.

    Pixel coordinates are x right, y down, (0, 0) the outer corner of the top left pixel of the upright image.
    """

    files: tuple[str, ...]
    """One file, or one per band or group of bands."""
    width: int
    height: int
    count: int
    """Number of bands. A color table or an 8-bit image has three: red, green and blue."""
    dtype: str
    """NumPy dtype name of the values."""
    band_names: tuple[str | None, ...]
    colors: tuple[str, ...]
    """Color interpretation of each band as GDAL names it: `red`, `gray`, `alpha`, `undefined` ..."""
    nodata: tuple[float | None, ...]
    scales: tuple[float, ...]
    """Physical value = raw value * scale + offset; 1 and 0 where the file has no such tags."""
    offsets: tuple[float, ...]
    georeference: Georeference | None = field(default=None, repr=False)
    gsd_m: float | None = None
    """Meters on the ground per pixel at the center; None if not georeferenced."""
    tags: dict[str, str] = field(default_factory=dict, repr=False)
    """The file's own metadata."""
    native: Rendering | None = None
    """The rendering of values that are already 8-bit colors; None if it has to be chosen."""
    is_complex: bool = False
    """Values are amplitudes of complex numbers."""
    driver: str | None = None
    """GDAL short name of the only allowed format. It is set for untrusted files: sidecar files are not read."""
    sensor: str | None = None
    """The sensor, from the product name; see `lhrs.imagery.sensors`."""

    @property
    def name(self) -> str:
        """The first file, for messages."""
        return self.files[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.height, self.width

    @property
    def alpha(self) -> int | None:
        """The band that is declared as alpha, 1-based.

        GDAL interprets the fourth band of many files, such as near infrared, as alpha. Alpha is the validity mask
        unless the band itself is read.
        """
        return self.colors.index("alpha") + 1 if "alpha" in self.colors else None

    @property
    def has_zero_nodata(self) -> np.ndarray:
        """Bool `(count,)`: which bands declare 0 as nodata."""
        return np.array([value == 0 for value in self.nodata])

    def read(
        self,
        window: PixelWindow | None = None,
        size: tuple[int, int] | None = None,
        bands: Sequence[int] | None = None,
        resampling: Resampling = "average",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return raw values `(B, H, W)` and bool `(B, H, W)`, False at nodata, masked, transparent and NaN pixels.

        Only the window is decoded, from the overview that fits the size.

        Args:
            window: in pixels of the upright image; None is all. Pixels outside the image are 0 and not valid.
            size: (width, height) of the result; None is the window's own.
            bands: 1-based; None is all.
            resampling: `average` for downsampling, `bilinear` for bands of another resolution.

        Raises:
            DataError: the file is damaged, or has no such band.
        """
        window = window or (0, 0, self.width, self.height)
        size = size or (max(1, round(window[2])), max(1, round(window[3])))
        chosen = list(range(1, self.count + 1) if bands is None else bands)
        if missing := [band for band in chosen if not 1 <= band <= self.count]:
            raise DataError(f"{self.name} has {self.count} bands, there is no band {missing[0]}.")
        left, top, width, height = window
        x1, x2 = max(left, 0), min(left + width, self.width)
        y1, y2 = max(top, 0), min(top + height, self.height)
        if (x1, y1, x2, y2) == (left, top, left + width, top + height):
            return self._read(window, size, chosen, resampling)
        values = np.zeros((len(chosen), size[1], size[0]), self.dtype)
        valid = np.zeros(values.shape, bool)
        if x2 <= x1 or y2 <= y1:
            return values, valid
        columns = [round((x - left) / width * size[0]) for x in (x1, x2)]
        rows = [round((y - top) / height * size[1]) for y in (y1, y2)]
        inside = max(1, columns[1] - columns[0]), max(1, rows[1] - rows[0])
        read, is_valid = self._read((x1, y1, x2 - x1, y2 - y1), inside, chosen, resampling)
        across = slice(min(columns[0], size[0] - inside[0]), min(columns[0], size[0] - inside[0]) + inside[0])
        down = slice(min(rows[0], size[1] - inside[1]), min(rows[0], size[1] - inside[1]) + inside[1])
        values = values.astype(read.dtype)
        values[:, down, across], valid[:, down, across] = read, is_valid
        return values, valid

    def read_mask(self, window: PixelWindow | None = None, bands: Sequence[int] | None = None) -> np.ndarray:
        """Return bool `(B, H, W)`, the second result of `read`, without decoding values where they do not matter."""
        return self.read(window, None, bands, "bilinear")[1]

    @abstractmethod
    def _read(
        self, window: PixelWindow, size: tuple[int, int], bands: list[int], resampling: Resampling
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read a window inside the image."""

    def decoded_pixels(self, window: PixelWindow, size: tuple[int, int]) -> float:
        """Return how many pixels of one band have to be decoded for a read."""
        return window[2] * window[3]

    def list_files(self) -> list[Path]:
        """Return all files that are read: also those next to a raster, and those that a VRT is made of."""
        return [Path(file) for file in self.files]

    def of_sensor(self, sensor: str | None) -> Self:
        """Return the reader with the sensor from the product name."""
        return self if sensor is None else replace(self, sensor=sensor)


def dark_is_valid(valid: np.ndarray, zero_nodata: np.ndarray) -> np.ndarray:
    """Return validity `(B, H, W)` in which a pixel with a nodata of 0 in only some bands is valid, as over water.

    Args:
        valid: as `RasterReader.read` returns it.
        zero_nodata: bool `(B,)`, which bands declare 0 as nodata.
    """
    if not zero_nodata.any():
        return valid
    return np.asarray(valid | (valid.any(0) & zero_nodata[:, None, None]))


@dataclass(frozen=True)
class BandFilesReader(RasterReader):
    """The concatenated bands of several files with the same extent, of one or several resolutions."""

    readers: tuple[RasterReader, ...] = ()

    def _read(
        self, window: PixelWindow, size: tuple[int, int], bands: list[int], resampling: Resampling
    ) -> tuple[np.ndarray, np.ndarray]:
        address = [(n, band) for n, reader in enumerate(self.readers) for band in range(1, reader.count + 1)]
        parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        wanted = [address[band - 1] for band in bands]
        own = {n: list(dict.fromkeys(band for m, band in wanted if m == n)) for n, _ in wanted}
        for n, of_file in own.items():
            reader = self.readers[n]
            across, down = reader.width / self.width, reader.height / self.height
            scaled = window[0] * across, window[1] * down, window[2] * across, window[3] * down
            parts[n] = reader.read(scaled, size, of_file, resampling)
        values = np.stack([parts[n][0][own[n].index(band)] for n, band in wanted])
        return values, np.stack([parts[n][1][own[n].index(band)] for n, band in wanted])

    def list_files(self) -> list[Path]:
        """Return all files that are read."""
        return [file for reader in self.readers for file in reader.list_files()]

    def decoded_pixels(self, window: PixelWindow, size: tuple[int, int]) -> float:
        """Return how many pixels of one band have to be decoded for a read."""
        return max(reader.decoded_pixels(window, size) for reader in self.readers)


def stack_bands(
    readers: Sequence[RasterReader], grid: int | None = None, names: Sequence[str] | None = None
) -> RasterReader:
    """Return one reader of all bands.

    Args:
        readers: one per file.
        grid: which of them has the pixels of the result; None is the largest.
        names: of the bands; they replace those of the files.

    Raises:
        DataError: the files differ in their extent.
    """
    if len(readers) == 1 and names is None:
        return readers[0]
    main = max(readers, key=lambda reader: reader.width * reader.height) if grid is None else readers[grid]
    for reader in readers:
        _check_same_ground(main, reader)
    bands = [(reader, n) for reader in readers for n in range(reader.count)]
    return BandFilesReader(
        files=tuple(file for reader in readers for file in reader.files), width=main.width, height=main.height,
        count=len(bands), dtype=str(np.result_type(*(reader.dtype for reader in readers))),
        band_names=tuple(names) if names is not None else tuple(reader.band_names[n] for reader, n in bands),
        colors=tuple(reader.colors[n] if len(readers) == 1 else "undefined" for reader, n in bands),
        nodata=tuple(reader.nodata[n] for reader, n in bands), scales=tuple(reader.scales[n] for reader, n in bands),
        offsets=tuple(reader.offsets[n] for reader, n in bands), georeference=main.georeference, gsd_m=main.gsd_m,
        tags=main.tags, readers=tuple(readers),
    )  # fmt: skip


def _check_same_ground(main: RasterReader, other: RasterReader) -> None:
    """Raise DataError if the corners of two georeferenced files differ by more than a pixel of the coarser file."""
    a, b = main.georeference, other.georeference
    if a is None or b is None or a.transform is None or b.transform is None or main is other:
        return
    corners = [
        np.array([reader_transform @ corner for corner in ((0, 0), (reader.width, reader.height))])
        for reader, reader_transform in ((main, a.transform), (other, b.transform))
    ]
    pixel = max(abs(t.a) + abs(t.b) for t in (a.transform, b.transform))
    if a.crs != b.crs or np.abs(corners[0] - corners[1]).max() > pixel:
        raise DataError(f"{other.name} does not cover the same ground as {main.name}.")


def with_radiometry(reader: RasterReader, scale: float, offset: float) -> RasterReader:
    """Return the reader with the scale and offset of every band from a catalog."""
    return replace(reader, scales=(scale,) * reader.count, offsets=(offset,) * reader.count)
