"""Training samples of perception: a canvas with all that its labels say about it.

Shapes: S side of the canvas in pixels, G = S / 4 its cells, T tags, O object classes. Boxes are xyxy.
"""

from collections.abc import Sequence
from fnmatch import fnmatch
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lhrs import fingerprint
from lhrs.data.augment import sample_d4
from lhrs.data.dataset import Dataset, open_dataset
from lhrs.data.deterministic import SampleKey, sample_rng
from lhrs.data.rendering_augment import RenderingAugment
from lhrs.errors import DataError
from lhrs.imagery.reader import open_source
from lhrs.training.perception_config import LabelMeaning, PerceptionConfig, PerceptionSourceConfig
from lhrs.training.perception_targets import (
    STRIDE,
    move_boxes,
    nearest,
    object_targets,
    random_crop,
    resize,
    turn_extents,
)

UNKNOWN = -1
"""Scene class or tag that the labels say nothing about."""
_WHOLE = 0.7
"""Fraction of the side from which on a crop is taken to show what labels of the image say."""
_PRESENT = 0.005
"""Fraction of the canvas from which on a mask class counts as present."""


class PerceptionSource:
    """One dataset with the meaning of its labels.

    Args:
        config: the source.
        dataset: its data.
        run: the run, for class names.
        scene_classes: scene classes of all sources.

    Raises:
        DataError: no sample matches the patterns of the source.
    """

    def __init__(
        self, config: PerceptionSourceConfig, dataset: Dataset, run: PerceptionConfig, scene_classes: Sequence[str]
    ) -> None:
        self.config, self.classes, self.scene_classes = config, run.classes, list(scene_classes)
        self.dataset = dataset
        chosen = select(self.dataset, config)
        self.val = [n for n in chosen if is_validation(self.dataset[n].id if not self.dataset.has_masks else
                    self.dataset.items[n].id, run)]  # type: ignore[attr-defined]  # fmt: skip
        kept = set(self.val)
        self.indices = [n for n in chosen if n not in kept]
        self.meanings = config.labels
        self.has_masks = self.dataset.has_masks
        self.image = cache(self._image)
        self.labels = cache(self._labels)

    def _image(self, index: int) -> np.ndarray:
        """Return uint8 `(H, W, 3)`."""
        file = self.dataset.image_files(index)[0][0]
        pixels, _ = open_source(file).read(bands=(1, 2, 3))
        if pixels.dtype != np.uint8:
            raise DataError(f"{file} is {pixels.dtype}: perception is trained on 8-bit images.")
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    def _labels(self, index: int) -> tuple[str, ...]:
        return tuple(self.dataset[index].labels)

    def scene(self, index: int) -> int:
        """Return the scene class of an image, or UNKNOWN."""
        if self.config.scene_set is None:
            return UNKNOWN
        name = f"{self.config.scene_set}/{self.labels(index)[0]}"
        return self.scene_classes.index(name)

    def bits(self, labels: Sequence[str]) -> int:
        """Return the set of land-cover classes as bits; 0 says nothing."""
        parts = [part for label in labels for part in label.split("|") if part in self.meanings]
        names = {name for part in parts for name in self.meanings[part].land_cover}
        return sum(1 << self.classes.land_cover.index(name) for name in names)

    @cache  # noqa: B019 (sources live as long as the run)
    def cover(self, index: int) -> np.ndarray | None:
        """Return uint8 `(H, W)`: the possible land-cover classes of each pixel as bits, 0 where unknown."""
        if self.has_masks:
            table = np.zeros(256, np.uint8)
            for number, name in enumerate(self.dataset.classes):
                table[number] = self.bits([name])
            return table[self.dataset.mask(index)]
        everywhere = [name for name, meaning in self.meanings.items() if meaning.land_cover and meaning.object]
        regions = [item for item in self.dataset.polygons(index) if self.bits([item.label])]
        if not everywhere and not regions:
            return None
        height, width = self.image(index).shape[:2]
        everything = (1 << len(self.classes.land_cover)) - 1
        drawn = Image.new("L", (width, height), everything & ~self.bits(everywhere) if everywhere else 0)
        pen = ImageDraw.Draw(drawn)
        for item in regions:
            pen.polygon([tuple(point) for point in item.points.tolist()], fill=self.bits([item.label]))
        return np.asarray(drawn)

    @cache  # noqa: B019
    def boxes(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes `(N, 4)` in pixels of the image and the numbers of their object classes `(N,)`."""
        found = [b for b in self.dataset[index].boxes if b.label in self.meanings and self.meanings[b.label].object]
        numbers = [self.classes.objects.index(str(self.meanings[b.label].object)) for b in found]
        return np.array([b.xyxy for b in found], np.float32).reshape(-1, 4), np.array(numbers, np.int64)

    @property
    def exhaustive(self) -> list[int]:
        """Numbers of the object classes that are annotated on every image."""
        if self.has_masks:
            return []
        return sorted({self.classes.objects.index(m.object) for m in self.meanings.values() if m.object})


def is_validation(sample_id: str, run: PerceptionConfig) -> bool:
    """Return whether a sample is kept for validation."""
    digest = fingerprint.sha256_of_bytes(f"{run.seed}/{sample_id}".encode())
    return int(digest[:8], 16) / 2**32 < run.val_fraction


def select(dataset: Dataset, config: PerceptionSourceConfig) -> list[int]:
    """Return the samples that the patterns of a source include.

    Raises:
        DataError: there are none.
    """
    if not config.include:
        return list(range(len(dataset)))
    found = [n for n in range(len(dataset)) if any(fnmatch(dataset[n].id, pattern) for pattern in config.include)]
    if not found:
        raise DataError(f"{config.path} holds no sample that matches {', '.join(config.include)}.")
    return found


class PerceptionDataset:
    """Canvases drawn by `(epoch, index)` keys; see `collate_by_size` for the batch.

    Args:
        config: the run.
        sources: of `open_sources`.
        augment: changes of the rendering; None for none.
    """

    def __init__(
        self, config: PerceptionConfig, sources: Sequence[PerceptionSource], augment: RenderingAugment | None
    ) -> None:
        self.config, self.sources, self.augment = config, sources, augment
        self.places: list[tuple[int, int]] = []
        for number, source in enumerate(sources):
            whole, rest = divmod(source.config.weight, 1)
            count = round(rest * len(source.indices))
            copies = source.indices * int(whole) + [
                source.indices[n * len(source.indices) // count] for n in range(count)
            ]
            self.places += [(number, index) for index in copies]
        self.groups = np.array([sources[number].config.side for number, _ in self.places])
        """Side of each canvas."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        rng = sample_rng(self.config.seed, key)
        number, index = self.places[key[1]]
        return self.draw(self.sources[number], index, rng)

    def draw(self, source: PerceptionSource, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return one canvas with its targets."""
        augment = self.augment if self.augment is not None and rng.random() >= self.augment.unchanged else None
        count = int(rng.choice(source.config.mosaic))
        if count > 1:
            pixels, targets = self._mosaic(source, index, count, rng)
        else:
            pixels, targets = self._single(source, index, augment, rng)
        if augment is not None:
            pixels, hidden = augment.add_border(augment.rendering_changes(pixels, rng), rng)
            pixels = pixels * 255
            cells = hidden[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
            targets["cover"] = targets["cover"].masked_fill(cells, 0)
            targets["ignore"] = targets["ignore"] | cells
            targets["extent"] = targets["extent"].masked_fill(cells, torch.nan)
        return {"pixels": pixels.round().clamp(0, 255).to(torch.uint8).contiguous(), **targets}

    def _single(
        self, source: PerceptionSource, index: int, augment: RenderingAugment | None, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return a crop of one image `(3, S, S)`, 0-255, and its targets."""
        side, grid = source.config.side, source.config.side // STRIDE
        crop, (left, top, length) = random_crop(source.image(index), source.config.crop, rng)
        d4 = sample_d4(rng)
        if augment is not None:
            crop = augment.file_changes(crop, rng)
        labels = () if source.has_masks else source.labels(index)
        tags = np.full(len(self.config.classes.tags), UNKNOWN, np.int8)
        self._tag_labels(source, labels, tags)
        if source.config.scene_set is None and length < _WHOLE * min(source.image(index).shape[:2]):
            tags[tags == 1] = UNKNOWN  # it may be outside the crop
        cover = source.cover(index)
        if cover is None:
            allowed = np.full((grid, grid), source.bits(labels), np.uint8)
        else:
            part = cover[top : top + length, left : left + length]
            self._tag_cover(source, part, tags)
            allowed = nearest(part, grid)
        boxes, kinds = source.boxes(index) if source.exhaustive else (np.zeros((0, 4), np.float32), np.zeros(0, int))
        boxes, kinds, vague = move_boxes(boxes, kinds, (left, top), length, side)
        for kind in source.exhaustive:
            self._tag_objects(source, kind, kinds, vague, tags)
        nominal = {self.config.classes.objects.index(m.object) for m in source.meanings.values()
                   if m.object and not m.has_extent}  # fmt: skip
        heat, extent, ignore = object_targets(boxes, kinds, vague, grid, len(self.config.classes.objects), nominal)
        maps = [d4.apply(torch.from_numpy(np.ascontiguousarray(x))) for x in (allowed, heat, extent, ignore)]
        gsd_m = source.config.gsd_m if rng.random() >= self.config.gsd_dropout else None
        known = np.isin(np.arange(len(heat)), source.exhaustive)
        return d4.apply(resize(crop, side)), {
            "gsd_m": torch.tensor(gsd_m * length / side if gsd_m else 0.0),
            "scene": torch.tensor(source.scene(index)),
            "tags": torch.from_numpy(tags),
            "cover": maps[0],
            "heat": maps[1].half(),
            "extent": turn_extents(maps[2], d4).half(),
            "ignore": maps[3] > 0,
            "known": torch.from_numpy(known),
        }

    def _mosaic(
        self, source: PerceptionSource, index: int, count: int, rng: np.random.Generator
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return `count` x `count` images on one canvas; a tag is absent if it is absent in all."""
        side, grid = source.config.side // count, source.config.side // STRIDE
        members = [index, *rng.choice(source.indices, count * count - 1).tolist()]
        pixels = torch.zeros(3, side * count, side * count)
        cover = torch.zeros(grid, grid, dtype=torch.uint8)
        tags = np.full((len(members), len(self.config.classes.tags)), UNKNOWN, np.int8)
        cells = grid // count
        for n, member in enumerate(members):
            row, column = divmod(n, count)
            crop, _ = random_crop(source.image(member), source.config.crop, rng)
            labels = source.labels(member)
            tile = sample_d4(rng).apply(resize(crop, side))
            pixels[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = tile
            cover[row * cells : (row + 1) * cells, column * cells : (column + 1) * cells] = source.bits(labels)
            self._tag_labels(source, labels, tags[n])
        objects = len(self.config.classes.objects)
        common = np.where((tags == 1).any(0), 1, np.where((tags == 0).all(0), 0, UNKNOWN)).astype(np.int8)
        gsd_m = source.config.gsd_m if rng.random() >= self.config.gsd_dropout else None
        return pixels, {
            "gsd_m": torch.tensor(gsd_m * crop.shape[0] / side if gsd_m else 0.0),
            "scene": torch.tensor(UNKNOWN),
            "tags": torch.from_numpy(common),
            "cover": cover,
            "heat": torch.zeros(objects, grid, grid, dtype=torch.half),
            "extent": torch.full((4, grid, grid), torch.nan, dtype=torch.half),
            "ignore": torch.zeros(grid, grid, dtype=torch.bool),
            "known": torch.zeros(objects, dtype=torch.bool),
        }

    def whole(self, source: PerceptionSource, index: int) -> dict[str, Any]:
        """Return the largest square from the top left of an image, without augmentation, and its labels.

        The side is that of the source's canvas. `boxes` `(N, 4)` are fractions of the square, `kinds` their classes.
        """
        image, side = source.image(index), source.config.side
        length = min(image.shape[:2])
        tags = np.full(len(self.config.classes.tags), UNKNOWN, np.int8)
        self._tag_labels(source, () if source.has_masks else source.labels(index), tags)
        boxes, kinds = source.boxes(index) if source.exhaustive else (np.zeros((0, 4), np.float32), np.zeros(0, int))
        boxes, kinds, vague = move_boxes(boxes, kinds, (0, 0), length, side)
        cover = source.cover(index)
        if cover is not None:
            self._tag_cover(source, cover[:length, :length], tags)
        for kind in source.exhaustive:
            self._tag_objects(source, kind, kinds, vague, tags)
        return {
            "pixels": resize(image[:length, :length], side).round().to(torch.uint8),
            "gsd_m": torch.tensor((source.config.gsd_m or 0.0) * length / side),
            "scene": torch.tensor(source.scene(index)),
            "tags": torch.from_numpy(tags),
            "boxes": boxes[~vague] / side,
            "kinds": kinds[~vague],
        }

    def _tag_labels(self, source: PerceptionSource, labels: Sequence[str], tags: np.ndarray) -> None:
        for label in labels:
            meaning = source.meanings.get(label, LabelMeaning())
            for names, value in ((meaning.absent, 0), (meaning.present, 1)):
                tags[[self.config.classes.tags.index(name) for name in names]] = value

    def _tag_cover(self, source: PerceptionSource, part: np.ndarray, tags: np.ndarray) -> None:
        """Set the tags of the classes of a mask: present above a fraction, absent where no pixel is of the class."""
        if not source.has_masks:
            return
        counts = np.bincount(part.ravel(), minlength=256) / part.size
        for value, absent in ((0, True), (1, False)):
            for meaning in source.meanings.values():
                bits = sum(1 << self.config.classes.land_cover.index(name) for name in meaning.land_cover)
                share = counts[bits]
                if (share == 0) if absent else (share >= _PRESENT):
                    tags[[self.config.classes.tags.index(name) for name in meaning.present]] = value

    def _tag_objects(
        self, source: PerceptionSource, kind: int, kinds: np.ndarray, vague: np.ndarray, tags: np.ndarray
    ) -> None:
        name = self.config.classes.objects[kind]
        meant = [m for m in source.meanings.values() if m.object == name]
        here = kinds == kind
        value = 1 if (here & ~vague).any() else UNKNOWN if here.any() else 0
        if value != UNKNOWN:
            tags[[self.config.classes.tags.index(tag) for m in meant for tag in m.present]] = value


def collate_by_size(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a dictionary of stacked samples for each side of the canvas: `{"groups": [...]}`."""
    sides = sorted({sample["pixels"].shape[-1] for sample in samples})
    groups = []
    for side in sides:
        members = [sample for sample in samples if sample["pixels"].shape[-1] == side]
        groups.append({key: torch.stack([member[key] for member in members]) for key in members[0]})
    return {"groups": groups}


def open_sources(config: PerceptionConfig) -> list[PerceptionSource]:
    """Open all sources; their scene classes are numbered over all.

    Raises:
        DataError: data is missing, or a source without scene classes has a set of them.
    """
    datasets = [open_dataset(source.path, source.format, source.split) for source in config.sources]
    names: dict[str, None] = {}
    for source, dataset in zip(config.sources, datasets, strict=True):
        if source.scene_set is not None:
            found = sorted({label for n in select(dataset, source) for label in dataset[n].labels})
            if not found:
                raise DataError(f"{source.path} has no scene classes; leave `scene_set` away.")
            names |= {f"{source.scene_set}/{label}": None for label in found}
    return [
        PerceptionSource(source, dataset, config, list(names))
        for source, dataset in zip(config.sources, datasets, strict=True)
    ]
