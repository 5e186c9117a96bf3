"""Georeferenced images with GeoJSON (RFC 7946) of the same name: shapes drawn in a GIS become boxes in pixels."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.data.dataset import UNKNOWN_LICENSE, Dataset, ObjectPolygon, box_corners, read_json
from lhrs.data.image_files import list_files, list_folder_images
from lhrs.errors import DataError
from lhrs.imagery.reader import open_source
from lhrs.schema import Box, Sample

_NAMES = ("label", "class", "class_name", "category", "type", "name")
_WGS_84 = "EPSG:4326"
_SUFFIXES = (".geojson",)


class GeojsonBoxes(Dataset):
    """One sample per pair of `NAME.tif` and `NAME.geojson`; labels are a property called `label`, `class` or the like.

    Format: coordinates are longitude and latitude (WGS 84), as the standard says, unless the file has the member `crs`
    of older ones. The image is placed by its transform, ground control points or rational polynomials. Boxes are cut at
    the image's edge; features outside it and without geometry are left out.
    """

    homepage = "https://datatracker.ietf.org/doc/html/rfc7946"
    license = UNKNOWN_LICENSE
    layout = "a folder of georeferenced images, each with NAME.geojson next to it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        if split is not None:
            raise DataError(f"{self.root} has no splits.")
        self._pairs = _pairs(self.root)
        if not self._pairs:
            raise DataError(f"{self.root} contains no image with a GeoJSON of its name. Expected {self.layout}.")
        paired = {path for pair in self._pairs for path in pair}
        for path in sorted({*list_folder_images(self.root), *list_files(self.root, *_SUFFIXES)} - paired):
            is_labels = path.suffix.lower() in _SUFFIXES
            self.drop("GeoJSON files without an image" if is_labels else "images without a GeoJSON file", path.name)

    def __len__(self) -> int:
        return len(self._pairs)

    def load(self, index: int) -> Sample:
        image, labels = self._pairs[index]
        return Sample(
            id=image.stem,
            images=[str(image)],
            boxes=[box for box, _ in self._objects(image, labels)],
            source=self.root.name,
            license=self.license,
        )

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the points of each feature in pixels; the corners of the box of one that leaves the image."""
        return [ObjectPolygon(box.label, points) for box, points in self._objects(*self._pairs[index])]

    def _objects(self, image: Path, labels: Path) -> list[tuple[Box, np.ndarray]]:
        """Return the box and the points of each feature that is on the image."""
        content = read_json(labels)
        if not isinstance(content, dict) or not isinstance(content.get("features"), list):
            raise DataError(f"{labels} is not a GeoJSON collection of features.")
        reader = open_source(image)
        georeference, size = reader.georeference, (reader.width, reader.height)
        if georeference is None:
            raise DataError(f"{image} is not georeferenced, so the shapes of {labels.name} have no place on it.")
        crs, objects = _crs(content, labels), []
        for number, feature in enumerate(content["features"]):
            name = f"{labels.name}#{number}"
            geometry = (feature.get("geometry") if isinstance(feature, dict) else None) or {}
            points = np.array(list(_points(_coordinates(geometry))))
            if not len(points):
                self.drop("features without geometry", name)
                continue
            if crs == _WGS_84 and (np.abs(points) > (360, 90)).any():
                raise DataError(
                    f"{labels}: {points[0].tolist()} is no longitude and latitude, and no member `crs` says what."
                )
            pixels = georeference.to_pixels(points, crs)
            if np.isnan(pixels).any():  # the image's CRS has no such place
                self.drop("features outside their image", name)
                continue
            low, high = pixels.min(0).clip(0, size).tolist(), pixels.max(0).clip(0, size).tolist()
            if high[0] > low[0] and high[1] > low[1]:
                box = Box(label=_label(feature), xyxy=(low[0], low[1], high[0], high[1]))
                is_inside = ((pixels >= 0) & (pixels <= size)).all()
                objects.append((box, pixels if is_inside else box_corners(box.xyxy)))
            else:
                is_point = (np.ptp(pixels, 0) == 0).any()
                self.drop("features without area" if is_point else "features outside their image", name)
        return objects

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_pairs(root))


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    labels = {path.stem: path for path in list_files(root, *_SUFFIXES)}
    return [(image, labels[image.stem]) for image in list_folder_images(root) if image.stem in labels]


def _crs(content: dict[str, Any], labels: Path) -> Any:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    named = content.get("crs")
    if named is None:
        return _WGS_84
    try:
        return CRS.from_user_input(named["properties"]["name"])
    except (TypeError, KeyError, ValueError, CRSError):
        raise DataError(f"{labels}: its member `crs` is none that is known: {json.dumps(named)[:200]}.") from None


def _coordinates(geometry: dict[str, Any]) -> Any:
    """Return the coordinates of a geometry, or of the members of a collection."""
    if geometry.get("type") == "GeometryCollection":
        return [_coordinates(part) for part in geometry.get("geometries") or []]
    return geometry.get("coordinates")


def _points(coordinates: Any) -> Any:
    """Yield (x, y) of coordinates nested to any depth."""
    if isinstance(coordinates, list) and coordinates and isinstance(coordinates[0], int | float):
        yield coordinates[0], coordinates[1]
    elif isinstance(coordinates, list):
        for part in coordinates:
            yield from _points(part)


def _label(feature: dict[str, Any]) -> str:
    properties = feature.get("properties") or {}
    return next((str(properties[name]) for name in _NAMES if properties.get(name)), "object")
