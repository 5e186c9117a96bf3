"""Export to GeoJSON next to georeferenced images."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lhrs.data.box_export import BoxExporter, ExportedImage, ExportedObject, Feature
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError
from lhrs.imagery.georeference import Georeference, outline_feature, write_geojson
from lhrs.imagery.locations import projection_file, world_files
from lhrs.imagery.reader import open_source


class Geojson(BoxExporter):
    """Writes `NAME.geojson` (RFC 7946: WGS 84 longitude and latitude) next to each image.

    Images without a georeference are left out. A feature is a polygon with the properties `label`, `confidence`,
    `iscrowd` and `difficult`, as far as the object has them.
    """

    homepage = "https://datatracker.ietf.org/doc/html/rfc7946"
    keeps: ClassVar[frozenset[Feature]] = frozenset(["corners", "outline", "crowd", "confidence", "difficult"])

    def image_place(self, image: ExportedImage) -> str:
        return image.place

    def select(self, images: list[ExportedImage], dropped: Dropped) -> list[ExportedImage]:
        kept = []
        for image in images:
            if open_source(image.source).georeference is None:
                dropped.add("images that are not georeferenced", image.name)
            else:
                kept.append(image)
        if not kept:
            raise ConfigError(f"no image is georeferenced, the first is {images[0].source}; choose another --for.")
        return kept

    def place_image(self, image: ExportedImage, target: Path) -> None:
        super().place_image(image, target)
        name = str(image.source)
        side_files = [*world_files(name), str(projection_file(name) or ""), f"{name}.aux.xml"]
        for path in (Path(path) for path in dict.fromkeys(side_files) if Path(path).is_file()):
            shutil.copyfile(path, target.with_name(target.stem + path.name.removeprefix(image.source.stem)))

    def write_annotations(self, images: Sequence[ExportedImage], folder: Path) -> None:
        for image in images:
            georeference = open_source(image.source).georeference
            assert georeference is not None
            path = (folder / image.place).with_name(f"{image.stem}.geojson")
            write_geojson(path, [_feature(obj, georeference) for obj in image.objects])


def _feature(obj: ExportedObject, georeference: Georeference) -> dict[str, Any]:
    points = obj.corners if obj.outline is None else obj.outline
    ring = georeference.to_lonlat(np.concatenate([points, points[:1]]))
    properties: dict[str, Any] = {"label": obj.box.label}
    if obj.box.confidence is not None:
        properties["confidence"] = obj.box.confidence
    properties |= {"iscrowd": 1} if obj.box.crowd else {}
    properties |= {"difficult": 1} if obj.difficult else {}
    return outline_feature([ring], properties)
