"""Tiles of scenes that are larger than a detector's input: written for training, predicted and merged.

Tiles of 1024 pixels that overlap by 200 are merged by non-maximum suppression, as in the DOTA development kit.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import batched_nms

from lhrs.atomic_io import atomic_dir, prepare_output_dir, write_atomic
from lhrs.data.boxes import usable_polygons
from lhrs.data.dataset import Dataset, ObjectPolygon
from lhrs.downstream.detect.rotated_boxes import hbb_to_obb, min_area_rect, rotated_iou, rotated_nms
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.band_stack import BandStack, PixelWindow
from lhrs.imagery.merge_detections import merge_detections
from lhrs.imagery.warning_filter import suppress_warnings
from lhrs.imagery.windows import make_windows
from lhrs.metrics.iou import oriented_corners

TILE_SIZE, TILE_OVERLAP = 1024, 200
MERGE_IOU = {5: 0.1, 4: 0.3}
"""Thresholds by values per box; horizontal boxes of neighboring objects overlap more often than oriented boxes."""
_LEAST_INSIDE = 0.7
"""Minimum fraction of an object's area inside a tile for the object to belong to the tile."""


def read_tiles(
    stack: BandStack, size: int = TILE_SIZE, overlap: int = TILE_OVERLAP
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield (left, top, pixels) of the tiles of a scene: raw values `(bands, size, size)`, 0 outside of the scene.

    Raises:
        DataError: the file cannot be read.
    """
    height, width = stack.shape
    for tile in make_windows(width, height, size, overlap):
        pixels = stack.read(tile.window)
        pad = ((0, 0), (0, size - pixels.shape[1]), (0, size - pixels.shape[2]))
        yield *tile.window[:2], np.pad(pixels, pad)


def merge_tiles(parts: Sequence[tuple[int, int, dict[str, Tensor]]], columns: int) -> dict[str, Tensor]:
    """Return the detections of a scene from those of its tiles, best first, in pixels of the scene.

    Detections of a class in different tiles that overlap by more than `MERGE_IOU` are merged. The detections of a
    single tile are returned unchanged: the detector has applied non-maximum suppression.

    Args:
        parts: left, top and the detections of each tile.
        columns: 5 for oriented boxes, 4 for xyxy.
    """
    boxes, scores, labels = [torch.zeros(0, columns)], [torch.zeros(0)], [torch.zeros(0, dtype=torch.int64)]
    for left, top, detections in parts:
        shift = torch.tensor([left, top, 0, 0, 0] if columns == 5 else [left, top, left, top], dtype=torch.float32)
        boxes.append(detections["boxes"].float().cpu() + shift)
        scores.append(detections["scores"].float().cpu())
        labels.append(detections["labels"].cpu())
    together = {"boxes": torch.cat(boxes), "scores": torch.cat(scores), "labels": torch.cat(labels)}
    if len(parts) < 2:
        return together
    windows = np.repeat(np.arange(len(parts)), [len(part) for part in labels[1:]])
    values, scored, labeled = (tensor.numpy() for tensor in together.values())
    merged = merge_detections(values, scored, labeled, windows, "nms", suppress=partial(_suppress, columns=columns))
    return {name: torch.from_numpy(array) for name, array in zip(together, merged, strict=False)}


def _suppress(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, columns: int) -> np.ndarray:
    suppress = rotated_nms if columns == 5 else batched_nms
    tensors = torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels)
    return suppress(*tensors, MERGE_IOU[columns]).numpy()


def detect_tiled(
    detect: Callable[[Tensor], list[dict[str, Tensor]]], shape: tuple[int, int],
    read: Callable[[PixelWindow], tuple[Tensor, float]], columns: int = 5, size: int = TILE_SIZE,
    overlap: int = TILE_OVERLAP, batch: int = 4,
) -> dict[str, Tensor]:  # fmt: skip
    """Return the detections on an image of any size, in its pixels; see `merge_tiles`.

    Args:
        detect: a detector of standardized `(B, C, H, W)`.
        shape: rows and columns of the image.
        read: returns a window's pixels for the detector, and how many of them there are per pixel of the image.
        columns: 5 for oriented boxes, 4 for xyxy.
        size: side of a tile in pixels of the image, which may be smaller.
        overlap: of neighboring tiles in pixels of the image.
        batch: tiles at once.

    Raises:
        DataError: the image cannot be read.
    """
    height, width = shape
    tiles = make_windows(width, height, size, overlap)
    parts: list[tuple[int, int, dict[str, Tensor]]] = []
    for start in range(0, len(tiles), batch):
        some = tiles[start : start + batch]
        inputs = [read(tile.window) for tile in some]
        detections = detect(torch.stack([pixels for pixels, _ in inputs]))
        for tile, (_, scale), result in zip(some, inputs, detections, strict=True):
            sides = torch.tensor([scale] * 4 + [1.0] * (columns - 4))
            parts.append((*tile.window[:2], {**result, "boxes": result["boxes"].float().cpu() / sides}))
    return merge_tiles(parts, columns)


def write_tiles(
    dataset: Dataset,
    out: Path,
    size: int = TILE_SIZE,
    overlap: int = TILE_OVERLAP,
    advance: Callable[[], None] = lambda: None,
    dropped: Dropped | None = None,
) -> int:
    """Write the tiles of images that contain objects as a folder in DOTA's layout, and return their number.

    An object belongs to a tile that contains 0.7 of its area, as in DOTA's usual splits. Spaces in class names become
    hyphens. Tiles have the scene's bands and raw values: PNG for three 8-bit bands, else GeoTIFF.

    Args:
        dataset: images with polygons, of any size.
        out: a new folder.
        size: side of a tile in pixels.
        overlap: of neighboring tiles in pixels.
        advance: called after each image.
        dropped: counts objects that are not valid boxes.

    Raises:
        ConfigError: the folder is not empty, or the overlap is not smaller than a tile.
        DataError: an image or its polygons cannot be read.
    """
    if overlap >= size:
        raise ConfigError(f"tiles of {size} pixels cannot overlap by {overlap}.")
    prepare_output_dir(out)
    count, dropped = 0, Dropped() if dropped is None else dropped
    with atomic_dir(out) as part:
        (part / "images").mkdir()
        (part / "labelTxt").mkdir()
        for index in range(len(dataset)):
            sample = dataset[index]
            stack = BandStack((Path(sample.images[0]),))
            objects = usable_polygons(dataset.polygons(index), stack.shape[::-1], dropped, sample.id)
            for left, top, pixels in read_tiles(stack, size, overlap):
                kept = _on_tile(objects, left, top, size)
                if not kept:
                    continue
                name = f"{index:06d}_{stack.files[0].stem}__{left}_{top}"
                _write_tile(part / "images" / name, pixels)
                lines = [_line(o.points - [left, top], o.label, o.difficult) for o in kept]
                write_atomic(part / "labelTxt" / f"{name}.txt", "".join(lines))
                count += 1
            advance()
        if not count:
            raise DataError(f"{dataset.root} has no image with objects.")
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
    with (
        suppress_warnings(NotGeoreferencedWarning),
        rasterio.open(f"{stem}.tif", "w", compress="deflate", **form) as dataset,
    ):
        dataset.write(pixels)


def _on_tile(objects: Sequence[ObjectPolygon], left: int, top: int, tile: int) -> list[ObjectPolygon]:
    """Return the objects of which a tile contains the minimum fraction."""
    if not objects:
        return []
    boxes = torch.from_numpy(np.stack([min_area_rect(o.points) for o in objects]))
    window = hbb_to_obb(torch.tensor([[left, top, left + tile, top + tile]], dtype=torch.float64))
    overlap = rotated_iou(boxes, window)[:, 0].double()
    area = boxes[:, 2] * boxes[:, 3]
    inside = overlap * (area + tile**2) / (1 + overlap) / area.clamp(min=1e-9)  # intersection by area
    return [o for o, fraction in zip(objects, inside.tolist(), strict=True) if fraction >= _LEAST_INSIDE]


def _line(points: np.ndarray, label: str, difficult: bool) -> str:
    corners = points if len(points) == 4 else oriented_corners(min_area_rect(points))[0]
    return f"{' '.join(f'{v:.1f}' for v in corners.ravel())} {label.replace(' ', '-')} {int(difficult)}\n"
