"""Writers of predictions: masks as GeoTIFF (COG), polygons and objects as GeoJSON, classes as CSV."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.atomic_io import atomic_write, write_atomic
from lhrs.downstream.detect.dota_io import write_results
from lhrs.downstream.labeled_dataset import IGNORE
from lhrs.downstream.predict import ClassPrediction, DetectedObject, Predictor
from lhrs.errors import ConfigError, DataError
from lhrs.fingerprint import of_config, of_file
from lhrs.imagery.band_stack import BandStack, PixelWindow
from lhrs.imagery.georeference import Georeference, feature, outline_feature, write_geojson
from lhrs.imagery.reader import open_source
from lhrs.imagery.warning_filter import suppress_warnings
from lhrs.metrics.detection import Detections
from lhrs.progress import Bar

# Okabe and Ito's colorblind-safe palette; repeated in darker shades for more classes.
_COLORS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
_BLOCK = 512
Classified = tuple[Path, PixelWindow | None, ClassPrediction]
"""An image, its window or None for the whole image, and the class."""


def write_mask(
    predictor: Predictor, stacks: tuple[BandStack, ...], out: Path, size: int | None = None,
    bar: Bar | None = None, provenance: str = "",
) -> None:  # fmt: skip
    """Write the class of each pixel as a COG with the image's georeference; nodata is 255.

    The image is read, and the mask is written, window by window. The tag `classes` has the names of the classes.

    Args:
        predictor: model for segmentation, change detection or, with `size`, scene classification.
        stacks: result of `Predictor.open_inputs`.
        out: replaced if it exists.
        size: see `Predictor.iter_mask_strips`.
        bar: counts `Predictor.num_strips` strips.
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
    names = predictor.config.classes
    with atomic_write(out) as part:
        strips = part.with_name(f"{part.name}.strips.tif")
        try:
            with suppress_warnings(NotGeoreferencedWarning):
                dataset = rasterio.open(strips, "w", **profile)
            with dataset:
                dataset.write_colormap(1, {n: _color(n) for n in range(len(names))})
                dataset.update_tags(classes=json.dumps(names), provenance=provenance)
                for top, rows in predictor.iter_mask_strips(stacks, size):
                    dataset.write(rows, 1, window=Window(0, top, wide, len(rows)))
                    if bar is not None:
                        bar.update()
            with suppress_warnings(NotGeoreferencedWarning):
                copy(strips, part, driver="COG", compress="deflate", blocksize=_BLOCK, overview_resampling="mode")
        finally:
            strips.unlink(missing_ok=True)


def mask_targets(groups: Sequence[tuple[Path, ...]], out: Path) -> list[Path]:
    """Return the file of each mask: `out`, or files in the folder `out` with the names of the images.

    Raises:
        ConfigError: several masks would be written to one file.
    """
    is_file = out.suffix.lower() in (".tif", ".tiff")
    if is_file and len(groups) > 1:
        raise ConfigError(f"--out {out} is one file, but there are {len(groups)} images; name a folder.")
    targets = [out] if is_file else [out / f"{group[0].stem}.tif" for group in groups]
    if twice := sorted(target for target, count in Counter(targets).items() if count > 1):
        raise ConfigError(f"two images would be written to {twice[0]}; rename one of them.")
    return targets


def write_masks(
    load: Callable[[], Predictor], groups: Sequence[tuple[Path, ...]], targets: Sequence[Path], progress: Any,
    report: Callable[[str], None], size: int | None = None, first_class: int = 0,
) -> list[Path]:  # fmt: skip
    """Write a mask per sample, and its polygons if it is georeferenced; return all files. Current files are kept.

    Args:
        load: returns the model.
        groups: files of each sample.
        targets: result of `mask_targets`.
        progress: see `lhrs.progress`.
        report: receives notes for the user.
        size: see `Predictor.iter_mask_strips`.
        first_class: see `polygonize_mask`.

    Raises:
        ConfigError: a mask would replace an image.
        DataError: an image cannot be read.
    """
    inputs = {path.resolve() for group in groups for path in group}
    if own := next((target for target in targets if target.resolve() in inputs), None):
        raise ConfigError(f"{own} is one of the images: choose another --out.")
    predictor, written = load(), list[Path]()
    counts = [predictor.num_strips(predictor.open_inputs(*group), size) for group in groups]
    with progress("rows of windows", sum(counts)) as bar:
        for group, target, count in zip(groups, targets, counts, strict=True):
            stacks, outlines = predictor.open_inputs(*group), target.with_suffix(".geojson")
            provenance = of_config(
                [
                    predictor.fingerprint,
                    [of_file(file) for path in group for file in open_source(path).list_files()],
                    size,
                ]
            )
            where = stacks[0].georeference
            if mask_is_current(target, provenance):
                bar.update(count)
            else:
                if where is not None:
                    outlines.unlink(missing_ok=True)  # polygons of the replaced mask
                write_mask(predictor, stacks, target, size, bar, provenance)
            written.append(target)
            if where is None:
                report(f"{group[0]} is not georeferenced: no outlines.")
                continue
            if not outlines.exists():
                polygonize_mask(target, where, predictor.config.classes, outlines, first_class)
            written.append(outlines)
    return written


def mask_is_current(out: Path, provenance: str) -> bool:
    """Return whether the file is a mask of `write_mask` with this provenance."""
    try:
        return open_source(out).tags.get("provenance") == provenance
    except DataError:
        return False


def _color(number: int) -> tuple[int, ...]:
    turn, which = divmod(number, len(_COLORS))
    return tuple(round(value * 0.6**turn) for value in _COLORS[which])


def polygonize_mask(mask: Path, where: Georeference, names: Sequence[str], out: Path, first: int = 0) -> int:
    """Write connected pixels of one class as polygons in longitude and latitude; return the number of polygons.

    Args:
        mask: file of `write_mask`; read strip by strip.
        where: georeference of the mask.
        names: names of the classes in the order of their indices.
        out: GeoJSON file to write.
        first: index of the first class with polygons; 1 for change detection, where 0 is `no change`.
    """
    import rasterio
    from rasterio.features import shapes

    from lhrs.imagery.gdal_reader import open_raster

    count = 0
    with atomic_write(out) as part, open_raster(mask) as dataset, part.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        to_pixels = ~dataset.transform
        for outline, number in shapes(rasterio.band(dataset, 1), connectivity=4):
            if not first <= int(number) < IGNORE:
                continue
            rings = [np.array([to_pixels @ point for point in ring]) for ring in outline["coordinates"]]
            area = sum(_area(ring) * (1 if n == 0 else -1) for n, ring in enumerate(rings))
            polygon = outline_feature(
                [where.to_lonlat(ring) for ring in rings], {"class": names[int(number)], "pixels": round(area)}
            )
            file.write((",\n" if count else "\n") + json.dumps(polygon, allow_nan=False))
            count += 1
        file.write("\n]}\n")
    return count


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def write_classes_csv(rows: Iterable[Classified], classes: Sequence[str], out: Path) -> None:
    """Write a row per image or window: path, class, confidence, and the probability of every class.

    Rows of windows also have left, top, width and height.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for n, (path, box, prediction) in enumerate(rows):
        if not n:
            where = () if box is None else ("left", "top", "width", "height")
            writer.writerow(["image", *where, "class", "confidence", *classes])
        probabilities = (round(prediction.probabilities[name], 6) for name in classes)
        writer.writerow([path, *(box or ()), prediction.label, round(prediction.confidence, 6), *probabilities])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, text.getvalue())


def write_classes_geojson(rows: Iterable[Classified], out: Path) -> None:
    """Write a footprint per image or window with its class; without a georeference the geometry is null."""
    features, stack = [], BandStack(())
    for path, box, prediction in rows:
        if stack.files != (path,):
            stack = BandStack((path,))
        where, (left, top, wide, high) = stack.georeference, box or (0, 0, *stack.shape[::-1])
        corners = np.array([left, top]) + np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float64)
        ring = np.full((4, 2), np.nan) if where is None else where.to_lonlat(corners)
        features.append(
            feature(
                ring, {"image": str(path), "class": prediction.label, "confidence": round(prediction.confidence, 6)}
            )
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_geojson(out, features)


def write_objects_geojson(rows: Iterable[tuple[Path, Sequence[DetectedObject]]], out: Path) -> None:
    """Write a polygon in longitude and latitude per object, with image, class and score.

    Raises:
        DataError: an image is not georeferenced, or cannot be read; then nothing is written.
    """
    features = []
    for path, objects in rows:
        where = require_georeference(path)
        for item in objects:
            properties = {"image": str(path), "class": item.label, "score": round(item.score, 6)}
            features.append(feature(where.to_lonlat(item.corners), properties))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_geojson(out, features)


def require_georeference(path: Path) -> Georeference:
    """Return the georeference of an image.

    Raises:
        DataError: the image is not georeferenced.
    """
    where = BandStack((path,)).georeference
    if where is None:
        raise DataError(f"{path} is not georeferenced: name --out .jsonl for pixels, or a folder for DOTA's files.")
    return where


def write_objects_jsonl(rows: Iterable[tuple[Path, Sequence[DetectedObject]]], out: Path) -> None:
    """Write a line per object: image, class, score, and its four corners in pixels of the image, x right, y down."""
    lines = [
        json.dumps({"image": str(path), "class": item.label, "score": round(item.score, 6),
                    "corners": item.corners.round(2).tolist()})
        for path, objects in rows
        for item in objects
    ]  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, "".join(f"{line}\n" for line in lines))


def write_objects_dota(
    rows: Iterable[tuple[Path, Sequence[DetectedObject]]], classes: Sequence[str], out: Path
) -> None:
    """Write a folder of DOTA's files, a line per object in the file of its class; see `write_results`.

    Raises:
        DataError: an image cannot be read, or its name is not allowed in these files; then nothing is written.
    """
    rows, detections = list(rows), dict[str, Detections]()
    require_dota_names([path for path, _ in rows])
    for path, objects in rows:
        corners = np.array([item.corners for item in objects]).reshape(-1, 4, 2)
        labels = np.array([classes.index(item.label) for item in objects], np.int64)
        detections[path.stem] = Detections(corners, np.array([item.score for item in objects]), labels)
    write_results(out, detections, classes)


def require_dota_names(files: Sequence[Path]) -> None:
    """Check that the names of images are allowed in DOTA's files.

    Raises:
        DataError: two images have one name, or a name has spaces.
    """
    count = Counter(path.stem for path in files)
    for path in files:
        if count[path.stem] > 1 or len(path.stem.split()) != 1:
            why = "two images have this name" if count[path.stem] > 1 else "a name must have no spaces"
            raise DataError(f"{path} cannot be written to DOTA's files: {why}.")
