"""Predictions as files: masks as GeoTIFF (COG), outlines and objects as GeoJSON, classes as CSV."""

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
from lhrs.fingerprint import of_config, of_files
from lhrs.imagery.band_stack import BandStack, PixelWindow
from lhrs.imagery.georeference import Georeference, feature, outline_feature, write_geojson
from lhrs.imagery.reader import open_source
from lhrs.imagery.warning_filter import suppress_warnings
from lhrs.metrics.detection import Detections
from lhrs.progress import Bar

# Okabe and Ito's colors, which people with color blindness tell apart; darker for more classes.
_COLORS = [(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)]
_BLOCK = 512
Classified = tuple[Path, PixelWindow | None, ClassPrediction]
"""An image, the window of it if it is not all of it, and its class."""


def write_mask(
    predictor: Predictor, stacks: tuple[BandStack, ...], out: Path, size: int | None = None,
    bar: Bar | None = None, provenance: str = "",
) -> None:  # fmt: skip
    """Write the class of each pixel as a COG, 255 where there is no data, georeferenced as the image is.

    The image is read, and the mask written, window by window. Classes are named in the tag `classes`.

    Args:
        predictor: of semantic segmentation, of change or, with `size`, of scenes.
        stacks: of `Predictor.open_inputs`.
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
    """Return the file of each mask: `out`, or files in the folder `out` called as the images are.

    Raises:
        ConfigError: several masks would be written to one file.
    """
    is_file = out.suffix.lower() in (".tif", ".tiff")
    if is_file and len(groups) > 1:
        raise ConfigError(f"--out {out} is one file, but there are {len(groups)} images; name a folder.")
    targets = [out] if is_file else [out / f"{group[0].stem}.tif" for group in groups]
    if twice := sorted(target for target, count in Counter(targets).items() if count > 1):
        raise ConfigError(f"two images would be written to {twice[0]}; give them other names.")
    return targets


def write_masks(
    load: Callable[[], Predictor], groups: Sequence[tuple[Path, ...]], targets: Sequence[Path], progress: Any,
    report: Callable[[str], None], size: int | None = None, first_class: int = 0,
) -> list[Path]:  # fmt: skip
    """Write a mask per sample and, of what is georeferenced, its polygons; current files are kept. Return all files.

    Args:
        load: returns the model.
        groups: files of each sample.
        targets: of `mask_targets`.
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
        raise ConfigError(f"{own} is one of the images: name another --out.")
    predictor, written = load(), list[Path]()
    counts = [predictor.num_strips(predictor.open_inputs(*group), size) for group in groups]
    with progress("rows of windows", sum(counts)) as bar:
        for group, target, count in zip(groups, targets, counts, strict=True):
            stacks, outlines = predictor.open_inputs(*group), target.with_suffix(".geojson")
            provenance = of_config(
                [predictor.fingerprint, [of_files(open_source(path).list_files()) for path in group], size]
            )
            where = stacks[0].georeference
            if mask_is_current(target, provenance):
                bar.update(count)
            else:
                if where is not None:
                    outlines.unlink(missing_ok=True)  # of another mask
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
    """Tell whether `write_mask` has written this very mask already."""
    try:
        return open_source(out).tags.get("provenance") == provenance
    except DataError:
        return False


def _color(number: int) -> tuple[int, ...]:
    turn, which = divmod(number, len(_COLORS))
    return tuple(round(value * 0.6**turn) for value in _COLORS[which])


def polygonize_mask(mask: Path, where: Georeference, names: Sequence[str], out: Path, first: int = 0) -> int:
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
    write_atomic(out, text.getvalue())


def write_classes_geojson(rows: Iterable[Classified], out: Path) -> None:
    """Write a footprint per image or window with its class; one that is not georeferenced has no geometry."""
    features, stack = [], BandStack(())
    for path, box, found in rows:
        if stack.files != (path,):
            stack = BandStack((path,))
        where, (left, top, wide, high) = stack.georeference, box or (0, 0, *stack.shape[::-1])
        corners = np.array([left, top]) + np.array([[0, 0], [wide, 0], [wide, high], [0, high]], np.float64)
        ring = np.full((4, 2), np.nan) if where is None else where.to_lonlat(corners)
        features.append(
            feature(ring, {"image": str(path), "class": found.label, "confidence": round(found.confidence, 6)})
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_geojson(out, features)


def write_objects_geojson(rows: Iterable[tuple[Path, Sequence[DetectedObject]]], out: Path) -> None:
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
    where = BandStack((path,)).georeference
    if where is None:
        raise DataError(f"{path} is not georeferenced: name --out .jsonl for pixels, or a folder for DOTA's files.")
    return where


def write_objects_jsonl(rows: Iterable[tuple[Path, Sequence[DetectedObject]]], out: Path) -> None:
    """Write a line per object: image, class, score, and its four corners in pixels of the image, x right, y down."""
    lines = [
        json.dumps({"image": str(path), "class": one.label, "score": round(one.score, 6),
                    "corners": one.corners.round(2).tolist()})
        for path, found in rows
        for one in found
    ]  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, "".join(f"{line}\n" for line in lines))


def write_objects_dota(
    rows: Iterable[tuple[Path, Sequence[DetectedObject]]], classes: Sequence[str], out: Path
) -> None:
    """Write a folder of DOTA's files, a line per object in the file of its class; see `write_results`.

    Raises:
        DataError: an image cannot be read, or has a name that these files cannot hold; nothing is written then.
    """
    rows, made = list(rows), dict[str, Detections]()
    require_dota_names([path for path, _ in rows])
    for path, found in rows:
        corners = np.array([one.corners for one in found]).reshape(-1, 4, 2)
        labels = np.array([classes.index(one.label) for one in found], np.int64)
        made[path.stem] = Detections(corners, np.array([one.score for one in found]), labels)
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
