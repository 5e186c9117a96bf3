"""Georeferenced images with GeoJSON (RFC 7946) of the same name: things drawn in a GIS become boxes in pixels."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.data.dataset import UNSTATED, Dataset, read_json
from lhrs.errors import DataError
from lhrs.imagery.georeference import Georeference
from lhrs.imagery.open import IMAGE_SUFFIXES
from lhrs.schema import Box, Sample

_NAMES = ("label", "class", "class_name", "category", "type", "name")
_WGS_84 = "EPSG:4326"


class GeojsonBoxes(Dataset):
    """One sample per pair of `NAME.tif` and `NAME.geojson`; labels are a property called `label`, `class` or the like.

    Coordinates are longitude and latitude (WGS 84), as the standard says, unless the file has the member `crs` of older
    ones. What lies outside the image is left out.
    """

    homepage = "https://datatracker.ietf.org/doc/html/rfc7946"
    licence = UNSTATED
    layout = "a folder of georeferenced images, each with NAME.geojson beside it"

    def __init__(self, root: str | os.PathLike[str], split: str | None = None) -> None:
        super().__init__(root, split)
        if split is not None:
            raise DataError(f"{self.root} has no splits.")
        self._pairs = _pairs(self.root)
        if not self._pairs:
            raise DataError(f"{self.root} holds no image with a GeoJSON of its name. Expected {self.layout}.")

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, index: int) -> Sample:
        image, labels = self._pairs[index]
        return Sample(
            id=image.stem, images=[str(image)], boxes=_read(image, labels), source=self.root.name, licence=self.licence
        )

    @classmethod
    def fits(cls, root: Path) -> bool:
        return bool(_pairs(root))


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    if not root.is_dir():
        return []
    drawn = {path.stem: path for path in sorted(root.glob("*.geojson"))}
    images = sorted(path for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
    return [(image, drawn[image.stem]) for image in images if image.stem in drawn]


def _read(image: Path, labels: Path) -> list[Box]:
    import rasterio
    from rasterio.errors import RasterioError

    content = read_json(labels)
    if not isinstance(content, dict) or not isinstance(content.get("features"), list):
        raise DataError(f"{labels} is not a GeoJSON collection of features.")
    try:
        with rasterio.open(image) as dataset:
            georeference, size = Georeference(dataset.crs, dataset.transform), (dataset.width, dataset.height)
    except RasterioError as error:
        raise DataError(f"{image} cannot be read: {' '.join(str(error).split())}.") from None
    if georeference.crs is None:
        raise DataError(f"{image} is not georeferenced, so the shapes of {labels.name} have no place on it.")
    crs, found = _crs(content, labels), []
    for feature in content["features"]:
        points = np.array(list(_points((feature.get("geometry") or {}).get("coordinates"))))
        if not len(points):
            continue
        if crs == _WGS_84 and (np.abs(points) > (360, 90)).any():
            raise DataError(
                f"{labels}: {points[0].tolist()} is no longitude and latitude, and no member `crs` says what."
            )
        pixels = georeference.to_pixels(points, crs)
        if np.isnan(pixels).any():  # the image's CRS has no such place
            continue
        low, high = pixels.min(0).clip(0, size).tolist(), pixels.max(0).clip(0, size).tolist()
        if high[0] > low[0] and high[1] > low[1]:
            found.append(Box(label=_label(feature), xyxy=(low[0], low[1], high[0], high[1])))
    return found


def _crs(content: dict[str, Any], labels: Path) -> Any:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    named = content.get("crs")
    if named is None:
        return _WGS_84
    try:
        return CRS.from_user_input(named["properties"]["name"])
    except (TypeError, KeyError, CRSError):
        raise DataError(f"{labels}: its member `crs` is none that is known: {json.dumps(named)[:200]}.") from None


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
