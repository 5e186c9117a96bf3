"""Scenes, read window by window at a given ground sampling distance, with one scaling for all windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lhrs.errors import DataError
from lhrs.imagery.composites import Fitted, Plan, fit_composite, plan_composite
from lhrs.imagery.geo_image import reduced_size
from lhrs.imagery.reader import PixelWindow, RasterReader, open_source
from lhrs.imagery.rendering import Scaling

_SAMPLE_SIDE = 1024
"""Longer side in pixels at which a scene is read to fit its scaling."""
_MAX_ERROR_PX = 0.5


class NotGeoreferencedError(DataError):
    """A raster that is not georeferenced."""


@dataclass(frozen=True)
class Scene:
    """A georeferenced raster with one rendering. It holds no file handle.

    Pixel coordinates are x right, y down, (0, 0) the outer corner of the top left pixel.
    """

    reader: RasterReader
    plan: Plan
    crs: str
    """WKT or `EPSG:n`."""
    transform: tuple[float, float, float, float, float, float]
    """Pixels to CRS, in the order of `affine.Affine`."""
    gsd_m: float

    @property
    def files(self) -> tuple[str, ...]:
        """One file, or one per band."""
        return self.reader.files

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return self.reader.width

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return self.reader.height

    @property
    def scaling(self) -> Scaling:
        """The scaling to 8-bit, fitted once on the whole scene, so that it is the same in all windows."""
        return self.fitted.scaling

    @cached_property
    def fitted(self) -> Fitted:
        """The rendering, chosen once on the whole scene."""
        if self.reader.native is not None:
            empty = np.zeros((3, 1, 1), np.uint8)
            return fit_composite(self.plan, self.reader, empty, empty > 0)
        whole = (0, 0, self.width, self.height)
        return fit_composite(self.plan, self.reader, *self._read(whole, reduced_size(*whole[2:], _SAMPLE_SIDE)))

    def read(self, window: PixelWindow | None = None, size: tuple[int, int] | None = None) -> tuple[np.ndarray, float]:
        """Return uint8 pixels `(H, W, 3)`, black where there is no data, and the fraction of pixels with data.

        Args:
            window: left, top, width, height in pixels of the scene; None is all.
            size: (width, height) of the pixels returned; None is the window's own.

        Raises:
            DataError: a file cannot be read.
        """
        fitted = self.fitted
        zero_nodata = self.reader.has_zero_nodata[[band - 1 for band in self.plan.bands]]
        pixels, has_data = fitted.render(*self._read(window, size), zero_nodata)
        return pixels, float(has_data.mean())

    def _read(self, window: PixelWindow | None, size: tuple[int, int] | None) -> tuple[np.ndarray, np.ndarray]:
        return self.reader.read(window, size, self.plan.bands)


def make_scene(reader: RasterReader, sensor: str | None = None, composite: str | None = None) -> Scene:
    """Return the scene of a georeferenced raster.

    Ground control points and RPC models are accepted if an affine transform fits them within half a pixel.

    Args:
        reader: of the raster.
        sensor: see `lhrs.imagery.composites.plan_composite`.
        composite: of the sensor; None is its first.

    Raises:
        ConfigError: there is no such sensor or composite.
        NowhereError: the raster is not georeferenced.
        DataError: no affine transform fits the georeference.
    """
    georeference = reader.georeference
    if georeference is None:
        raise NotGeoreferencedError(f"{reader.name} is not georeferenced.")
    placed = georeference.as_affine(reader.width, reader.height, _MAX_ERROR_PX)
    if placed is None or placed.transform is None or reader.gsd_m is None:
        kind = "ground control points" if georeference.gcps else "an RPC model"
        raise DataError(
            f"{reader.name} is placed by {kind} that no affine transform fits within {_MAX_ERROR_PX} pixels: "
            f"gdalwarp '{reader.name}' it to a map first."
        )
    plan = plan_composite(reader, sensor, composite)
    return Scene(reader, plan, placed.crs.to_string(), tuple(placed.transform)[:6], reader.gsd_m)  # type: ignore[arg-type]


def open_scene(
    files: Sequence[str | Path], sensor: str | None = None, composite: str | None = None, driver: str | None = None
) -> Scene:
    """Open one raster, or several files with the same extent whose bands are concatenated, as a scene.

    Args:
        files: paths or URLs.
        sensor: see `make_scene`.
        composite: see `make_scene`.
        driver: see `open_source`.

    Raises:
        DataError: see `make_scene` and `open_source`.
        ConfigError: there is no such sensor or composite.
    """
    source = files[0] if len(files) == 1 else files
    return make_scene(open_source(source, driver=driver), sensor, composite)
