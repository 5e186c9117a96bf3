"""What the dense heads see in an image, as probabilities, maps and boxes. numpy only.

Boxes are xyxy fractions of the image (0-1). Maps are `(K, h, w)` grids over the whole image, row 0 at the top.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lhrs.imagery.merge_detections import Merged, merge_detections
from lhrs.perception.vocabulary import REGIONS

_MAX_PEAKS = 400
"""Candidates of each object class before overlapping boxes are removed."""


@dataclass(frozen=True)
class Detection:
    """One object."""

    label: str
    box: tuple[float, float, float, float]
    """xyxy as fractions of the image."""
    score: float
    """0-1."""

    def is_inside(self, region: str | None) -> bool:
        """Return whether the center is in a part of the image, a name of `REGIONS`; None is the whole."""
        if region is None:
            return True
        x1, y1, x2, y2 = REGIONS[region]
        return x1 <= sum(self.box[::2]) / 2 < x2 and y1 <= sum(self.box[1::2]) / 2 < y2


@dataclass(frozen=True)
class Evidence:
    """Probabilities and fractions of one image, or of a part of it."""

    scenes: Mapping[str, float]
    """Probabilities of scene classes such as `eurosat/Forest`; they sum to 1."""
    tags: Mapping[str, float]
    """Probability of each tag that it is present somewhere in the image."""
    cover_classes: tuple[str, ...]
    """Names of the land-cover classes."""
    cover_map: np.ndarray
    """float32 `(K, h, w)`: probability of each land-cover class; they sum to 1."""
    detections: tuple[Detection, ...] = ()
    """Objects, best score first."""
    out_of_distribution: bool = False

    @cached_property
    def cover(self) -> dict[str, float]:
        """Fractions of the area by land-cover class; they sum to 1."""
        return dict(zip(self.cover_classes, self.cover_map.mean((1, 2)).tolist(), strict=True))

    def within(self, region: str | None) -> "Evidence":
        """Return the evidence of a part of the image; scenes and tags remain those of the whole.

        Args:
            region: a name of `REGIONS`; None is the whole.
        """
        if region is None:
            return self
        x1, y1, x2, y2 = REGIONS[region]
        height, width = self.cover_map.shape[1:]
        rows, columns = slice(round(y1 * height), round(y2 * height)), slice(round(x1 * width), round(x2 * width))
        inside = tuple(d for d in self.detections if d.is_inside(region))
        return replace(self, cover_map=self.cover_map[:, rows, columns], detections=inside)


@dataclass(frozen=True)
class HeadNames:
    """Names of the outputs of the dense heads, in their order."""

    scenes: tuple[str, ...]
    tags: tuple[str, ...]
    cover: tuple[str, ...]
    objects: tuple[str, ...]


def decode(
    outputs: Mapping[str, np.ndarray],
    names: HeadNames,
    min_scores: Mapping[str, float],
    temperatures: Mapping[str, float],
) -> Evidence:
    """Return the evidence in the logits of one image.

    Args:
        outputs: `scene` `(S,)`, `tags` `(T,)`, `cover` `(K, h, w)`, `centers` `(O, h, w)`, `extents` `(4, h, w)`, see
            `lhrs.models.dense_heads.DenseOutput`.
        names: of the heads.
        min_scores: smallest score of a detection by object class.
        temperatures: of `scene`, `tags` and `cover`, fitted on held-out images; 1 where there is none.
    """
    scene = _softmax(outputs["scene"] / temperatures.get("scene", 1.0), 0)
    tags = _sigmoid(outputs["tags"] / temperatures.get("tags", 1.0))
    cover = _softmax(outputs["cover"] / temperatures.get("cover", 1.0), 0)
    return Evidence(
        dict(zip(names.scenes, scene.tolist(), strict=True)),
        dict(zip(names.tags, tags.tolist(), strict=True)),
        names.cover,
        cover.astype(np.float32),
        find_objects(outputs["centers"], outputs["extents"], names.objects, min_scores),
    )


def find_objects(
    centers: np.ndarray, extents: np.ndarray, names: Sequence[str], min_scores: Mapping[str, float]
) -> tuple[Detection, ...]:
    """Return the peaks of center maps as boxes; of overlapping boxes of a class the best.

    Args:
        centers: logits `(O, h, w)`.
        extents: `(4, h, w)` log distances in cells to the left, top, right and bottom.
        names: of the object classes.
        min_scores: smallest score by class.
    """
    scores = _sigmoid(centers)
    height, width = scores.shape[1:]
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)))
    around = np.max([padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)], 0)
    lowest = np.array([min_scores.get(name, 0.3) for name in names])[:, None, None]
    kind, row, column = np.nonzero((scores == around) & (scores >= lowest))
    found = scores[kind, row, column]
    best = np.argsort(-found, kind="stable")[: _MAX_PEAKS * len(names)]
    kind, row, column, found = kind[best], row[best], column[best], found[best]
    left, top, right, bottom = np.exp(extents[:, row, column].clip(-3, 6))
    x, y = column + 0.5, row + 0.5
    boxes = np.stack([x - left, y - top, x + right, y + bottom], 1) / [width, height, width, height]
    boxes = boxes.clip(0, 1)
    return as_detections(merge_detections(boxes, found, kind, np.zeros(len(boxes), np.int64), "join_cut"), names)


def as_detections(merged: Merged, names: Sequence[str]) -> tuple[Detection, ...]:
    """Return merged boxes as detections, best score first."""
    order = np.argsort(-merged.scores, kind="stable")
    return tuple(
        Detection(names[int(merged.labels[n])], tuple(merged.boxes[n].tolist()), float(merged.scores[n])) for n in order
    )


def _softmax(logits: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))
