"""Conversion of pixels to longitude and latitude, and of these to GeoJSON (RFC 7946)."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.imagery import locations
from lhrs.log import warn_once

if TYPE_CHECKING:
    from affine import Affine
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.io import DatasetReader
    from rasterio.rpc import RPC

_WGS84_A = 6378137.0
_WGS84_E2 = 0.00669437999014
_NEAR_POLE = math.radians(89)


@dataclass(frozen=True)
class Georeference:
    """Where the pixels of a raster are located: an affine transform, ground control points or an RPC model."""

    crs: "CRS"
    transform: "Affine | None" = None
    gcps: "tuple[GroundControlPoint, ...]" = ()
    """Used if there is no transform; a polynomial is fitted to them."""
    rpcs: "RPC | None" = None
    """Used if there are neither; the height is the mean of the model."""
    to_stored: "Affine | None" = None
    """Transform from pixels of the image to those of the control points and RPC model; None is the identity."""
    middle: tuple[float, float] | None = None
    """Pixel at the center of the raster. Longitudes are wrapped to within 180 degrees of its longitude."""

    def to_lonlat(self, points: np.ndarray) -> np.ndarray:
        """Return float64 `(N, 2)` longitude and latitude (WGS 84 degrees) of `(N, 2)` xy pixels; NaN off the Earth."""
        import rasterio

        points = np.asarray(points, np.float64).reshape(-1, 2)
        if not len(points):
            return np.empty((0, 2))
        with rasterio.Env():
            lonlat = _to_wgs84(self.crs, self._to_crs(points))
        beyond = np.abs(lonlat[:, 0]) > 180  # grids that count longitude from 0 to 360
        lonlat[beyond, 0] = (lonlat[beyond, 0] + 180) % 360 - 180
        return lonlat

    def to_pixels(self, points: np.ndarray, crs: "str | CRS") -> np.ndarray:
        """Return float64 `(N, 2)` xy pixels of `(N, 2)` points in a CRS, easting first; NaN off the Earth."""
        import rasterio

        with rasterio.Env():
            placed = _between(crs, self.crs, np.asarray(points, np.float64))
            if self.middle is not None and self.crs.is_geographic:
                center = self._to_crs(np.array([self.middle]))[0, 0]
                placed[:, 0] += 360 * np.round((center - placed[:, 0]) / 360)
            east, north = placed.T
            if self.transform is not None:
                return _apply(~self.transform, east, north)
            with self._transformer() as transformer:
                rows, columns = transformer.rowcol(east, north, op=lambda value: value)
            pixels = np.stack([columns, rows], 1)
            return pixels if self.to_stored is None else _apply(~self.to_stored, *pixels.T)

    def _to_crs(self, points: np.ndarray) -> np.ndarray:
        x, y = points.T
        if self.transform is not None:
            return _apply(self.transform, x, y)
        if self.to_stored is not None:
            x, y = _apply(self.to_stored, x, y).T
        with self._transformer() as transformer:
            return np.stack(transformer.xy(y, x, offset="ul"), 1)

    def _transformer(self) -> "Any":
        from rasterio.transform import GCPTransformer, RPCTransformer

        if self.gcps:
            return GCPTransformer(self.gcps)
        assert self.rpcs is not None
        return RPCTransformer(self.rpcs, RPC_HEIGHT=self.rpcs.height_off)

    def before(self, matrix: "Affine") -> "Georeference":
        """Return the georeference of an image; `matrix` maps its pixel coordinates to those of this one."""
        middle = None if self.middle is None else (~matrix) @ self.middle
        if self.transform is not None:
            return replace(self, transform=self.transform @ matrix, middle=middle)
        inner = matrix if self.to_stored is None else self.to_stored @ matrix
        return replace(self, to_stored=inner, middle=middle)

    def shifted(self, left: int, top: int) -> "Georeference":
        """Return the georeference of the part of the raster that starts at a column and row."""
        from affine import Affine

        return self.before(Affine.translation(left, top))

    def around(self, width: int, height: int) -> "Georeference":
        """Return the georeference with longitudes wrapped around the center of a `width` x `height` raster."""
        return replace(self, middle=(width / 2, height / 2))

    def as_affine(self, width: int, height: int, max_error_px: float = 0.5) -> "Georeference | None":
        """Return the georeference as an affine transform, or None if none fits within `max_error_px` everywhere.

        Control points are fitted in their own CRS, then in the UTM zone of the center; RPC models only in the latter.
        """
        if self.transform is not None:
            return self
        import rasterio
        from affine import Affine
        from rasterio.crs import CRS

        x, y = (axis.ravel() for axis in np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9)))
        pixels = np.stack([x, y], 1)
        candidates = [self.crs] if self.gcps else []
        lonlat = self.to_lonlat(pixels)
        if np.isfinite(lonlat).all():
            longitude, latitude = lonlat[len(lonlat) // 2]
            zone = min(int((longitude + 180) // 6) + 1, 60)
            candidates.append(CRS.from_epsg((32600 if latitude >= 0 else 32700) + zone))
        for crs in candidates:
            if crs == self.crs:
                with rasterio.Env():
                    placed = self._to_crs(pixels)
            else:
                placed = reproject(lonlat, crs.to_string())
            (a, d), (b, e), (c, f) = np.linalg.lstsq(np.stack([x, y, np.ones(len(x))], 1), placed, rcond=None)[0]
            transform = Affine(a, b, c, d, e, f)
            if transform.determinant and np.abs(_apply(~transform, *placed.T) - pixels).max() <= max_error_px:
                return Georeference(crs, transform).around(width, height)
        return None

    def gsd_m(self, width: int, height: int) -> float | None:
        """Return meters on the ground per pixel at the center of a `width` x `height` image; None if off the Earth.

        The value is the square root of a pixel's area on the WGS 84 ellipsoid. It is valid for degrees, feet, rotated
        grids and Mercator. If the pixel size in the projection is within 0.2 % of it (such as in UTM), that size is
        returned.
        """
        x, y = width / 2, height / 2
        lonlat = self.to_lonlat(np.array([[x, y], [x + 1, y], [x, y + 1]]))
        if not np.isfinite(lonlat).all():
            return None
        across, down = lonlat[1:] - lonlat[0]
        latitude = math.radians(lonlat[0, 1])
        if abs(latitude) > _NEAR_POLE:  # at the poles, longitude differences are not distances
            return math.sqrt(np.linalg.norm(np.cross(*np.diff(_to_ecef(lonlat)[[1, 0, 2]], axis=0)))) or None
        curve = 1 - _WGS84_E2 * math.sin(latitude) ** 2
        per_degree = np.radians([math.cos(latitude), (1 - _WGS84_E2) / curve]) * _WGS84_A / math.sqrt(curve)
        across[0], down[0] = (across[0] + 180) % 360 - 180, (down[0] + 180) % 360 - 180
        gsd_m = math.sqrt(abs(np.linalg.det(np.stack([across, down]) * per_degree)))
        if not gsd_m:
            return None
        if self.transform is not None and self.crs.is_projected:
            nominal_m = math.sqrt(abs(self.transform.determinant)) * self.crs.linear_units_factor[1]
            if abs(nominal_m / gsd_m - 1) < 0.002:
                return nominal_m
        return gsd_m


def _to_ecef(lonlat: np.ndarray) -> np.ndarray:
    """Return earth-centered (ECEF) coordinates in meters `(N, 3)` of longitude and latitude on the ellipsoid."""
    longitude, latitude = np.radians(lonlat).T
    radius = _WGS84_A / np.sqrt(1 - _WGS84_E2 * np.sin(latitude) ** 2)
    across = radius * np.cos(latitude)
    up = radius * (1 - _WGS84_E2) * np.sin(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), up], 1)


def _apply(matrix: "Affine", x: np.ndarray, y: np.ndarray) -> np.ndarray:
    a, b, c, d, e, f = matrix[:6]
    return np.stack([a * x + b * y + c, d * x + e * y + f], 1)


def read_georeference(dataset: "DatasetReader", name: str | None = None) -> Georeference | None:
    """Return where a raster is located, or None if it has no georeference.

    Args:
        dataset: an open file.
        name: of the file, to read a world file and a `.prj` next to it that GDAL does not; None ignores them.
    """
    from rasterio.crs import CRS

    gcps, gcps_crs = dataset.gcps
    transform = dataset.transform
    if transform.is_identity and name is not None:
        transform = _read_world_file(name) or transform
    if not transform.is_identity:
        crs = dataset.crs or (None if name is None else _read_projection(name))
        if crs:
            return Georeference(crs, transform)
    if gcps and gcps_crs and _can_be_fitted(gcps):
        return Georeference(gcps_crs, gcps=tuple(gcps))
    if dataset.rpcs is not None:
        return Georeference(CRS.from_epsg(4326), rpcs=dataset.rpcs)
    return None


def _can_be_fitted(gcps: "Sequence[GroundControlPoint]") -> bool:
    """Return whether a transform can be fitted to control points: there are enough, not all on one line."""
    import rasterio
    from rasterio._err import CPLE_BaseError  # its exception has no public name
    from rasterio.transform import GCPTransformer

    try:
        with rasterio.Env(), GCPTransformer(gcps):
            return True
    except CPLE_BaseError:
        return False


def _read_world_file(name: str) -> "Affine | None":
    """Return the transform of the world file of an image, which refers to the centers of pixels."""
    from affine import loadsw

    for path in locations.world_files(name):
        try:
            return loadsw(Path(path).read_text())
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            warn_once(f"{path} is ignored: it is not a world file of six numbers ({error}).")
    return None


def _read_projection(name: str) -> "CRS | None":
    """Return the CRS of the `.prj` file of an image, in ESRI's or OGC's WKT."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    file = locations.projection_file(name)
    if file is None:
        return None
    try:
        wkt = file.read_text(encoding="utf-8-sig", errors="replace").strip()
        if wkt.upper().startswith("EPSG:"):
            return CRS.from_user_input(wkt)
        return CRS.from_wkt(wkt, morph_from_esri_dialect=True)
    except (OSError, CRSError) as error:
        reason = " ".join(str(error).split())
        CRS.from_epsg(4326)  # clears GDAL's error, which its next call would raise
        warn_once(f"{file} is ignored: it names no known coordinate reference system ({reason}).")
        return None


def reproject(points: np.ndarray, crs: str) -> np.ndarray:
    """Return float64 `(N, 2)` points in a CRS of `(N, 2)` longitude and latitude (degrees); NaN off the Earth."""
    import rasterio

    with rasterio.Env():
        return _between("EPSG:4326", crs, np.asarray(points, np.float64))


def _to_wgs84(crs: "CRS", points: np.ndarray) -> np.ndarray:
    return _between(crs, "EPSG:4326", points)


def _between(source: "str | CRS", target: "str | CRS", points: np.ndarray) -> np.ndarray:
    from rasterio._err import CPLE_BaseError  # the exception of `transform` has no public name
    from rasterio.warp import transform

    try:
        moved = np.stack(transform(source, target, *points.T)[:2], 1)
    except CPLE_BaseError:
        # One point off the Earth fails the whole batch: transform the points one by one.
        if len(points) == 1:
            return np.full((1, 2), np.nan)
        return np.concatenate([_between(source, target, point) for point in points[:, None]])
    return np.where(np.isfinite(moved).all(1, keepdims=True), moved, np.nan)


def _counter_clockwise(ring: np.ndarray) -> list[list[float]]:
    x, y = ring.T
    if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) < 0:
        ring = ring[::-1]
    return np.concatenate([ring, ring[:1]]).tolist()


def _west_of(ring: np.ndarray, longitude: float) -> np.ndarray:
    """Return the part of a convex `(N, 2)` ring west of a meridian."""
    kept: list[np.ndarray] = []
    for a, b in zip(ring, np.roll(ring, -1, 0), strict=True):
        if a[0] <= longitude:
            kept.append(a)
        if (a[0] < longitude) != (b[0] < longitude) and a[0] != longitude and b[0] != longitude:
            kept.append(a + (b - a) * (longitude - a[0]) / (b[0] - a[0]))
    return np.array(kept)


def feature(ring: np.ndarray, properties: dict[str, Any]) -> dict[str, Any]:
    """Return a GeoJSON Feature of one convex polygon.

    Args:
        ring: `(N, 2)` longitude and latitude in degrees, not closed, either direction. A ring wider than 180 degrees
            crosses the antimeridian and is split there into two polygons (RFC 7946, 3.1.9). A ring with a corner off
            the Earth (NaN) has a null geometry.
        properties: JSON-serializable values.
    """
    return {"type": "Feature", "geometry": _geometry(np.asarray(ring, np.float64)), "properties": properties}


def _geometry(ring: np.ndarray) -> dict[str, Any] | None:
    if not np.isfinite(ring).all():
        return None
    if np.ptp(ring[:, 0]) <= 180:
        return {"type": "Polygon", "coordinates": [_counter_clockwise(ring)]}
    turn = np.array([360.0, 0.0])
    mirror = np.array([-1.0, 1.0])
    unwrapped = np.where(ring[:, :1] < 0, ring + turn, ring)
    west = _west_of(unwrapped, 180)
    east = _west_of(unwrapped * mirror, -180) * mirror - turn
    parts = [[_counter_clockwise(part)] for part in (west, east) if len(part) >= 3]
    return {"type": "MultiPolygon", "coordinates": parts}


def outline_feature(rings: Sequence[np.ndarray], properties: dict[str, Any]) -> dict[str, Any]:
    """Return a GeoJSON Feature of any polygon; see `feature` for the antimeridian and corners off the Earth.

    Args:
        rings: `(N, 2)` longitude and latitude in degrees, closed, either direction; the first is the outer one, the
            others are holes.
        properties: JSON-serializable values.
    """
    geometry: dict[str, Any] | None = None
    if all(np.isfinite(ring).all() for ring in rings):
        if np.ptp(rings[0][:, 0]) <= 180:
            geometry = {"type": "Polygon", "coordinates": [_directed(ring, n == 0) for n, ring in enumerate(rings)]}
        else:
            geometry = _cut_at_antimeridian(rings)
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _directed(ring: np.ndarray, is_outer: bool) -> list[list[float]]:
    """Return the outer ring counter-clockwise, a hole clockwise (RFC 7946, 3.1.6)."""
    x, y = (ring - ring[0]).T
    is_left = float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) > 0
    return (ring if is_left == is_outer else ring[::-1]).tolist()


def _cut_at_antimeridian(rings: Sequence[np.ndarray]) -> dict[str, Any]:
    from shapely import box
    from shapely.affinity import translate
    from shapely.geometry import MultiPolygon, Polygon, mapping
    from shapely.geometry.polygon import orient

    turn = np.array([360.0, 0.0])
    unwrapped = [np.where(ring[:, :1] < 0, ring + turn, ring) for ring in rings]
    whole = Polygon(unwrapped[0], unwrapped[1:]).buffer(0)
    halves = whole & box(0, -90, 180, 90), translate(whole & box(180, -90, 360, 90), -360)
    parts = [part for half in halves for part in getattr(half, "geoms", [half]) if isinstance(part, Polygon)]
    return dict(mapping(MultiPolygon([orient(part) for part in parts if not part.is_empty])))


def write_geojson(path: Path, features: Iterable[dict[str, Any]]) -> None:
    """Write a FeatureCollection in longitude and latitude to `path`, atomically.

    Raises:
        DataError: The file cannot be written.
    """
    text = json.dumps({"type": "FeatureCollection", "features": list(features)}, allow_nan=False)
    write_atomic(path, text + "\n")
