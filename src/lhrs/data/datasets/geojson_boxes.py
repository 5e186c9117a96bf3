"""Georeferenced images with GeoJSON (RFC 7946) of the same name: shapes drawn in a GIS become boxes in pixels."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lhrs.data.dataset import (
    SPLITS,
    UNKNOWN_LICENSE,
    Dataset,
    ObjectPolygon,
    box_corners,
    filter_split,
    parse_flag,
    read_json,
)
from lhrs.data.image_files import list_files, list_folder_images
from lhrs.data.oriented_boxes import outline_box
from lhrs.errors import DataError
from lhrs.imagery.reader import open_source
from lhrs.schema import Box, Sample

_NAMES = ("label", "class", "class_name", "category", "type", "name")
_WGS_84 = "EPSG:4326"
_ROUNDING_PX = 1e-6
"""Outlines on the image's edge leave it by this much when longitude and latitude are projected."""
_SUFFIXES = (".geojson",)


class _Pair(NamedTuple):
    split: str | None
    image: Path
    labels: Path


class GeojsonBoxes(Dataset):
    """One sample per pair of `NAME.tif` and `NAME.geojson`; labels are a property called `label`, `class` or the like.

    Format: coordinates are longitude and latitude (WGS 84), as the standard says, unless the file has the member `crs`
    of older ones. The image is placed by its transform, ground control points or rational polynomials. Boxes are cut at
    the image's edge; features outside it and without geometry are left out. The properties `confidence`, `iscrowd` and
    `difficult` are read if a feature has them.
    Splits: folders train, val, valid, validation and test.
    """

    homepage = "https://datatracker.ietf.org/doc/html/rfc7946"
    license = UNKNOWN_LICENSE
    layout = "a folder of georeferenced images, each with NAME.geojson next to it, or one such folder for each split"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        pairs = _pairs(self.root)
        if not pairs:
            raise DataError(f"{self.root} contains no image with a GeoJSON of its name. Expected {self.layout}.")
        paired = {path for pair in pairs for path in (pair.image, pair.labels)}
        for folder in sorted({pair.image.parent for pair in pairs}):
            for path in sorted({*list_folder_images(folder), *list_files(folder, *_SUFFIXES)} - paired):
                is_labels = path.suffix.lower() in _SUFFIXES
                reason = "GeoJSON files without an image" if is_labels else "images without a GeoJSON file"
                self.drop(reason, os.path.relpath(path, self.root))
        self._pairs = filter_split(pairs, [pair.split for pair in pairs], split, self.root)

    def __len__(self) -> int:
        return len(self._pairs)

    def load(self, index: int) -> Sample:
        pair = self._pairs[index]
        return Sample(
            id=f"{pair.split}/{pair.image.stem}" if pair.split else pair.image.stem, images=[str(pair.image)],
            boxes=[box for box, _ in self._objects(pair)], source=self.root.name, license=self.license,
            split=pair.split,
        )  # fmt: skip

    def polygons(self, index: int) -> list[ObjectPolygon]:
        """Return the points of each feature in pixels; the corners of the box of one that leaves the image."""
        return [polygon for box, polygon in self._objects(self._pairs[index]) if not box.crowd]

    def _objects(self, pair: _Pair) -> list[tuple[Box, ObjectPolygon]]:
        """Return the box and the outline of each feature that is on the image."""
        _, image, labels = pair
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
            rings = list(_rings(_coordinates(geometry)))
            points = np.array([point for ring in rings for point in ring])
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
                xyxy = low[0], low[1], high[0], high[1]
                is_inside = ((pixels >= -_ROUNDING_PX) & (pixels <= np.array(size) + _ROUNDING_PX)).all()
                objects.append(_object(feature, xyxy, pixels if is_inside else box_corners(xyxy), len(rings), labels))
            else:
                is_point = (np.ptp(pixels, 0) == 0).any()
                self.drop("features without area" if is_point else "features outside their image", name)
        return objects

    @classmethod
    def sniff(cls, root: Path) -> bool:
        return bool(_pairs(root))


def _pairs(root: Path) -> list[_Pair]:
    pairs = []
    for split, folder in ((None, root), *((name, root / name) for name in SPLITS)):
        labels = {path.stem: path for path in list_files(folder, *_SUFFIXES)}
        images = list_folder_images(folder) if labels else []
        pairs += [_Pair(split, image, labels[image.stem]) for image in images if image.stem in labels]
    return pairs


def _object(
    feature: dict[str, Any], xyxy: tuple[float, float, float, float], points: np.ndarray, num_parts: int, labels: Path
) -> tuple[Box, ObjectPolygon]:
    properties = feature.get("properties") or {}
    confidence = properties.get("confidence")
    if confidence is not None and not (isinstance(confidence, int | float) and 0 <= confidence <= 1):
        raise DataError(f"{labels}: the confidence of a feature is not within 0-1: {confidence!r}.")
    outline = points if num_parts == 1 else box_corners(xyxy)
    box = outline_box(_label(feature), outline, xyxy, confidence, parse_flag(properties.get("iscrowd")))
    return box, ObjectPolygon(box.label, points, parse_flag(properties.get("difficult")), num_parts)


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


def _rings(coordinates: Any) -> Iterator[list[tuple[float, float]]]:
    """Yield the lists of points in coordinates nested to any depth."""
    if not isinstance(coordinates, list) or not coordinates:
        return
    if isinstance(coordinates[0], int | float):  # a point alone
        yield [(coordinates[0], coordinates[1])]
    elif all(isinstance(part, list) and part and isinstance(part[0], int | float) for part in coordinates):
        yield [(point[0], point[1]) for point in coordinates]
    else:
        for part in coordinates:
            yield from _rings(part)


def _label(feature: dict[str, Any]) -> str:
    properties = feature.get("properties") or {}
    return next((str(properties[name]) for name in _NAMES if properties.get(name)), "object")
