"""Scenes larger than a detector sees: cut into tiles, put together again, and DOTA's files of results.

Tiles of 1024 pixels that overlap by 200, merged by suppression, as the DOTA development kit and its users do.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from lhrs.data.boxes import usable_polygons
from lhrs.data.dataset import Dataset, ObjectPolygon
from lhrs.downstream.detect.rotated import from_horizontal, rotated_iou, rotated_nms, smallest_rectangle
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.files import claim_folder, new_folder, write_file
from lhrs.imagery.quiet import ignored
from lhrs.imagery.stack import Box, Stack
from lhrs.metrics.detection import Detected
from lhrs.metrics.overlap import oriented_corners

TILE, GAP = 1024, 200
MERGE_IOU = {5: 0.1, 4: 0.3}
"""By the numbers of a box: horizontal boxes of neighbours meet far more often than oriented ones."""
_LEAST_INSIDE = 0.7
"""Share of an object's area that must lie on a tile for the tile to show it."""
_PREFIX = "Task1_"


def tile_corners(width: int, height: int, tile: int = TILE, gap: int = GAP) -> list[tuple[int, int]]:
    """Return (left, top) of the tiles that cover an image, row by row; the last ones end where the image ends.

    Args:
        width: of the image in pixels.
        height: of the image in pixels.
        tile: side of a tile; a smaller image has one tile that reaches beyond it.
        gap: pixels that neighbours have in common, at least.
    """

    def starts(length: int) -> list[int]:
        count = max(1, math.ceil((length - gap) / (tile - gap)))
        return [max(0, min(n * (tile - gap), length - tile)) for n in range(count)]

    return [(left, top) for top in starts(height) for left in starts(width)]


def tiles(stack: Stack, tile: int = TILE, gap: int = GAP) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (left, top, pixels) with `(bands, tile, tile)` of a scene as its file has them, 0 beyond it.

    Raises:
        DataError: the file cannot be read.
    """
    high, wide = stack.shape
    for left, top in tile_corners(wide, high, tile, gap):
        found = stack.read((left, top, min(tile, wide), min(tile, high)))
        yield left, top, np.pad(found, ((0, 0), (0, tile - found.shape[1]), (0, tile - found.shape[2])))


def merge(parts: Sequence[tuple[int, int, dict[str, Tensor]]], columns: int) -> dict[str, Tensor]:
    """Return the detections of a scene from those of its tiles, best first, in pixels of the scene.

    Where tiles overlap, detections of a class that overlap by more than `MERGE_IOU` are one. A single tile stays as it
    is: its detector has decided already.

    Args:
        parts: left, top and the detections of each tile.
        columns: 5 for oriented boxes, 4 for xyxy.
    """
    boxes, scores, labels = [torch.zeros(0, columns)], [torch.zeros(0)], [torch.zeros(0, dtype=torch.int64)]
    for left, top, found in parts:
        shift = torch.tensor([left, top, 0, 0, 0] if columns == 5 else [left, top, left, top], dtype=torch.float32)
        boxes.append(found["boxes"].float().cpu() + shift)
        scores.append(found["scores"].float().cpu())
        labels.append(found["labels"].cpu())
    every, score, label = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
    if len(parts) < 2:
        return {"boxes": every, "scores": score, "labels": label}
    keep = (rotated_nms if columns == 5 else batched_nms)(every, score, label, MERGE_IOU[columns])
    return {"boxes": every[keep], "scores": score[keep], "labels": label[keep]}


def detect(
    find: Callable[[Tensor], list[dict[str, Tensor]]], shape: tuple[int, int],
    read: Callable[[Box], tuple[Tensor, float]], columns: int = 5, tile: int = TILE, gap: int = GAP, batch: int = 4,
) -> dict[str, Tensor]:  # fmt: skip
    """Return what a detector finds on an image of any size, in its pixels; see `merge`.

    Args:
        find: a detector of normalised `(B, C, H, W)`.
        shape: rows and columns of the image.
        read: a window's pixels as the detector sees them, and how many of them there are per pixel of the image.
        columns: 5 for oriented boxes, 4 for xyxy.
        tile: side of a window in pixels of the image, which may be smaller.
        gap: pixels that neighbouring windows have in common.
        batch: windows at once.

    Raises:
        DataError: the image cannot be read.
    """
    high, wide = shape
    corners = tile_corners(wide, high, tile, gap)
    found: list[tuple[int, int, dict[str, Tensor]]] = []
    for at in range(0, len(corners), batch):
        part = corners[at : at + batch]
        seen = [read((left, top, min(tile, wide), min(tile, high))) for left, top in part]
        for (left, top), (_, scale), one in zip(part, seen, find(torch.stack([x for x, _ in seen])), strict=True):
            sides = torch.tensor([scale] * 4 + [1.0] * (columns - 4))
            found.append((left, top, {**one, "boxes": one["boxes"].float().cpu() / sides}))
    return merge(found, columns)


def cut(
    reader: Dataset,
    out: Path,
    tile: int = TILE,
    gap: int = GAP,
    advance: Callable[[], None] = lambda: None,
    dropped: Dropped | None = None,
) -> int:
    """Write the tiles of images that show objects as a folder in DOTA's layout, and return how many there are.

    An object belongs to a tile that holds 0.7 of it, as in DOTA's usual splits. Spaces in names become hyphens. Tiles
    have the scene's own bands and numbers, as a detector reads them later: PNG of three bands of eight bits, else
    GeoTIFF.

    Args:
        reader: images with outlines, of any size.
        out: a new folder.
        tile: pixels a side.
        gap: pixels that neighbouring tiles have in common.
        advance: called after each image.
        dropped: counts objects that are no usable boxes.

    Raises:
        ConfigError: the folder holds something, or tiles would not get on.
        DataError: an image or its outlines cannot be read.
    """
    if gap >= tile:
        raise ConfigError(f"tiles of {tile} pixels cannot overlap by {gap}.")
    claim_folder(out)
    count, dropped = 0, Dropped() if dropped is None else dropped
    with new_folder(out) as part:
        (part / "images").mkdir()
        (part / "labelTxt").mkdir()
        for index in range(len(reader)):
            sample = reader[index]
            stack = Stack((Path(sample.images[0]),))
            file, size = stack.files[0], (stack.shape[1], stack.shape[0])
            objects = usable_polygons(reader.polygons(index), size, dropped, sample.id)
            for left, top, pixels in tiles(stack, tile, gap):
                kept = _on_tile(objects, left, top, tile)
                if not kept:
                    continue
                name = f"{index:06d}_{file.stem}__{left}_{top}"
                _write_tile(part / "images" / name, pixels)
                lines = [_line(o.points - [left, top], o.label, o.difficult) for o in kept]
                write_file(part / "labelTxt" / f"{name}.txt", "".join(lines))
                count += 1
            advance()
        if not count:
            raise DataError(f"{reader.root} has no image with objects.")
    return count


def _write_tile(stem: Path, pixels: np.ndarray) -> None:
    import rasterio
    from PIL import Image
    from rasterio.errors import NotGeoreferencedWarning

    if pixels.dtype == np.uint8 and len(pixels) == 3:
        Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(f"{stem}.png")
        return
    count, high, wide = pixels.shape
    form = {"driver": "GTiff", "count": count, "height": high, "width": wide, "dtype": pixels.dtype}
    with ignored(NotGeoreferencedWarning), rasterio.open(f"{stem}.tif", "w", compress="deflate", **form) as dataset:
        dataset.write(pixels)


def _on_tile(objects: Sequence[ObjectPolygon], left: int, top: int, tile: int) -> list[ObjectPolygon]:
    """Return the objects that a tile shows enough of."""
    if not objects:
        return []
    boxes = torch.from_numpy(np.stack([smallest_rectangle(o.points) for o in objects]))
    window = from_horizontal(torch.tensor([[left, top, left + tile, top + tile]], dtype=torch.float64))
    overlap = rotated_iou(boxes, window)[:, 0].double()
    area = boxes[:, 2] * boxes[:, 3]
    inside = overlap * (area + tile**2) / (1 + overlap) / area.clamp(min=1e-9)  # intersection by area
    return [o for o, share in zip(objects, inside.tolist(), strict=True) if share >= _LEAST_INSIDE]


def _line(points: np.ndarray, label: str, difficult: bool) -> str:
    corners = points if len(points) == 4 else oriented_corners(smallest_rectangle(points))[0]
    return f"{' '.join(f'{v:.1f}' for v in corners.ravel())} {label.replace(' ', '-')} {int(difficult)}\n"


def write_results(folder: Path, found: Mapping[str, Detected], classes: Sequence[str]) -> None:
    """Write DOTA's submission: `Task1_<class>.txt` for every class, a line `image score x1 y1 ... x4 y4` per box.

    Args:
        folder: replaced if it exists.
        found: by the image's name without suffix, in pixels of the image.
        classes: names in the order of labels.
    """
    with new_folder(folder) as part:
        for number, name in enumerate(classes):
            lines = [
                f"{image} {score:.6f} {' '.join(f'{v:.2f}' for v in corners.ravel())}\n"
                for image, one in found.items()
                for corners, score, label in zip(one.corners, one.scores, one.labels, strict=True)
                if label == number
            ]
            write_file(part / f"{_PREFIX}{name}.txt", "".join(lines))


def read_results(folder: Path, classes: Sequence[str]) -> dict[str, Detected]:
    """Return detections by image from files as `write_results` writes them.

    Raises:
        DataError: a class's file is missing, or a line is not a name and nine finite numbers.
    """
    rows: dict[str, list[tuple[np.ndarray, float, int]]] = {}
    for number, name in enumerate(classes):
        path = folder / f"{_PREFIX}{name}.txt"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}.") from error
        for at, line in enumerate(filter(str.strip, lines), 1):
            image, *fields = line.split()
            try:
                values = np.array(fields, float)
            except ValueError:
                values = np.empty(0)
            if len(values) != 9 or not np.isfinite(values).all():
                raise DataError(f"{path}:{at}: not an image's name and nine numbers: {line[:80]!r}.")
            rows.setdefault(image, []).append((values[1:].reshape(4, 2), float(values[0]), number))
    return {
        image: Detected(np.stack(corners), np.array(scores), np.array(labels))
        for image, (corners, scores, labels) in ((image, zip(*found, strict=True)) for image, found in rows.items())
    }
