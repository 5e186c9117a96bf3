"""Predictions as files: masks as GeoTIFF (COG), outlines and objects as GeoJSON, classes as CSV."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.downstream.detect.dota import write_results
from lhrs.downstream.predict import FoundObject, Predictor, SceneClass
from lhrs.downstream.reader import IGNORE
from lhrs.errors import DataError
from lhrs.files import write_file, written_whole
from lhrs.imagery.georeference import Georeference, feature, outline_feature, write_geojson
from lhrs.imagery.quiet import ignored
from lhrs.imagery.reader import open_source
from lhrs.imagery.stack import Box, Stack
from lhrs.metrics.detection import Detected

# Okabe and Ito's colours, which people with colour blindness tell apart; darker for more classes.
_COLOURS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
_BLOCK = 512
Classified = tuple[Path, Box | None, SceneClass]
"""An image, the window of it if it is not all of it, and its class."""


def write_mask(
    predictor: Predictor, stacks: tuple[Stack, ...], out: Path, side: int | None = None,
    advance: Callable[[], None] = lambda: None, provenance: str = "",
) -> None:  # fmt: skip
    """Write the class of each pixel as a COG, 255 where there is no data, georeferenced as the image is.

    The image is read, and the mask written, window by window. Classes are named in the tag `classes`.

    Args:
        predictor: of classes of pixels, of change, or, with `side`, of scenes.
        stacks: see `Predictor.stacks`.
        out: replaced if it exists.
        side: see `Predictor.masks`.
        advance: called `Predictor.num_strips` times.
        provenance: fingerprint of model and images, for `mask_is_current`.

    Raises:
        DataError: the image cannot be read.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.shutil import copy
    from rasterio.windows import Window

    high, wide = stacks[0].shape
    where = stacks[0].georeference
    placed: dict[str, Any] = {} if where is None else {"crs": where.crs, "transform": where.transform}
    if where is not None and where.transform is None:
        placed = {"gcps": list(where.gcps), "crs": where.crs}
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": high, "width": wide, "nodata": IGNORE,
               "tiled": True, "blockxsize": _BLOCK, "blockysize": _BLOCK, "compress": "deflate", "BIGTIFF": "IF_SAFER",
               **placed}  # fmt: skip
    names = predictor.card.classes
    with written_whole(out) as part:
        strips = part.with_name(f"{part.name}.strips.tif")
        try:
            with ignored(NotGeoreferencedWarning):
                dataset = rasterio.open(strips, "w", **profile)
            with dataset:
                dataset.write_colormap(1, {n: _colour(n) for n in range(len(names))})
                dataset.update_tags(classes=json.dumps(names), provenance=provenance)
                for top, rows in predictor.masks(stacks, side):
                    dataset.write(rows, 1, window=Window(0, top, wide, len(rows)))
                    advance()
            with ignored(NotGeoreferencedWarning):
                copy(strips, part, driver="COG", compress="deflate", blocksize=_BLOCK, overview_resampling="mode")
        finally:
            strips.unlink(missing_ok=True)


def mask_is_current(out: Path, provenance: str) -> bool:
    """Tell whether `write_mask` has written this very mask already."""
    try:
        return open_source(out).tags.get("provenance") == provenance
    except DataError:
        return False


def _colour(number: int) -> tuple[int, ...]:
    turn, which = divmod(number, len(_COLOURS))
    return tuple(round(value * 0.6**turn) for value in _COLOURS[which])


def write_outlines(mask: Path, where: Georeference, names: Sequence[str], out: Path, first: int = 0) -> int:
    """Write connected pixels of one class as polygons in longitude and latitude; return how many there are.

    Args:
        mask: of `write_mask`; read strip by strip.
        where: of the mask.
        names: of classes, by number.
        out: GeoJSON.
        first: classes of lower numbers have no polygons, as 0, no change, should not.
    """
    import rasterio
    from rasterio.features import shapes

    from lhrs.imagery.gdal_reader import opened

    count = 0
    with written_whole(out) as part, opened(mask) as dataset, part.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        to_pixels = ~dataset.transform
        for outline, number in shapes(rasterio.band(dataset, 1), connectivity=4):
            if not first <= int(number) < IGNORE:
                continue
            rings = [np.array([to_pixels @ point for point in ring]) for ring in outline["coordinates"]]
            area = sum(_area(ring) * (1 if n == 0 else -1) for n, ring in enumerate(rings))
            one = outline_feature(
                [where.to_lonlat(ring) for ring in rings], {"class": names[int(number)], "pixels": round(area)}
            )
            file.write((",\n" if count else "\n") + json.dumps(one, allow_nan=False))
            count += 1
        file.write("\n]}\n")
    return count


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def write_classes_csv(rows: Iterable[Classified], classes: Sequence[str], out: Path) -> None:
    """Write a line per image or window: the path, the window's left, top, width and height if it is one, class,
    confidence, and the probability of every class."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for n, (path, box, found) in enumerate(rows):
        if not n:
            where = () if box is None else ("left", "top", "width", "height")
            writer.writerow(["image", *where, "class", "confidence", *classes])
        numbers = (round(found.probabilities[name], 6) for name in classes)
        writer.writerow([path, *(box or ()), found.label, round(found.confidence, 6), *numbers])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, text.getvalue())


def write_classes_geojson(rows: Iterable[Classified], out: Path) -> None:
    """Write a footprint per image or window with its class; one that is not georeferenced has no geometry."""
    features, stack = [], Stack(())
    for path, box, found in rows:
        if stack.files != (path,):
            stack = Stack((path,))
        where, (left, top, wide, high) = stack.georeference, box or (0, 0, *stack.shape[::-1])
        corners = np.array([left, top]) + np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float64)
        ring = np.full((4, 2), np.nan) if where is None else where.to_lonlat(corners)
        features.append(
            feature(ring, {"image": str(path), "class": found.label, "confidence": round(found.confidence, 6)})
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_geojson(out, features)


def write_objects_geojson(rows: Iterable[tuple[Path, Sequence[FoundObject]]], out: Path) -> None:
    """Write a polygon in longitude and latitude per object, with image, class and score.

    Raises:
        DataError: an image is not georeferenced, or cannot be read; nothing is written then.
    """
    features = []
    for path, found in rows:
        where = require_georeference(path)
        for one in found:
            properties = {"image": str(path), "class": one.label, "score": round(one.score, 6)}
            features.append(feature(where.to_lonlat(one.corners), properties))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_geojson(out, features)


def require_georeference(path: Path) -> Georeference:
    """Return where an image lies.

    Raises:
        DataError: it does not say.
    """
    where = Stack((path,)).georeference
    if where is None:
        raise DataError(f"{path} is not georeferenced: name --out .jsonl for pixels, or a folder for DOTA's files.")
    return where


def write_objects_jsonl(rows: Iterable[tuple[Path, Sequence[FoundObject]]], out: Path) -> None:
    """Write a line per object: image, class, score, and its four corners in pixels of the image, x right, y down."""
    lines = [
        json.dumps({"image": str(path), "class": one.label, "score": round(one.score, 6),
                    "corners": one.corners.round(2).tolist()})
        for path, found in rows
        for one in found
    ]  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, "".join(f"{line}\n" for line in lines))


def write_objects_dota(rows: Iterable[tuple[Path, Sequence[FoundObject]]], classes: Sequence[str], out: Path) -> None:
    """Write a folder of DOTA's files, a line per object in the file of its class; see `write_results`.

    Raises:
        DataError: an image cannot be read, or has a name that these files cannot hold; nothing is written then.
    """
    rows, made = list(rows), dict[str, Detected]()
    require_dota_names([path for path, _ in rows])
    for path, found in rows:
        corners = np.array([one.corners for one in found]).reshape(-1, 4, 2)
        labels = np.array([classes.index(one.label) for one in found], np.int64)
        made[path.stem] = Detected(corners, np.array([one.score for one in found]), labels)
    write_results(out, made, classes)


def require_dota_names(files: Sequence[Path]) -> None:
    """Check that DOTA's files can hold what is found on images.

    Raises:
        DataError: two have one name, or a name has spaces.
    """
    count = Counter(path.stem for path in files)
    for path in files:
        if count[path.stem] > 1 or len(path.stem.split()) != 1:
            why = "two images have this name" if count[path.stem] > 1 else "a name must have no spaces"
            raise DataError(f"{path} cannot be told apart in DOTA's files: {why}.")
