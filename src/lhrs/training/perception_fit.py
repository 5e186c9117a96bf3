"""What is fitted on validation images after perception training: temperatures, thresholds, the limit of familiarity."""

from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lhrs.boxes import iou
from lhrs.data.synthetic_outliers import night_lights, radar
from lhrs.inference.ood import OODDetector
from lhrs.perception.evidence import find_objects
from lhrs.training.perception_data import UNKNOWN, PerceptionDataset, PerceptionSource
from lhrs.training.perception_targets import resize

_THRESHOLDS = np.linspace(0.1, 0.7, 25)
_TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(4), 43))
_SAME_IOU = 0.5
_MAX_PER_GROUP = 60
"""Training images of each group from which the statistics of familiar images come."""
_OUTLIERS_PER_GROUP = 10
"""Images of each group that are made into unfamiliar ones."""


def fit_settings(network: Any, dataset: PerceptionDataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fitted fields of `lhrs.perception.settings.PerceptionSettings`, and scores on the validation images.

    Args:
        network: `lhrs.training.perception.PerceptionNetwork` in evaluation mode.
        dataset: without augmentation.
    """
    scene: list[tuple[torch.Tensor, torch.Tensor]] = []
    tags: list[tuple[torch.Tensor, torch.Tensor]] = []
    counts = {name: _Counts() for name in dataset.config.classes.objects}
    scores: dict[str, Any] = {}
    for source in dataset.sources:
        right = []
        for index in source.val:
            sample = dataset.whole(source, index)
            out = _predict(network, sample)
            if sample["scene"] != UNKNOWN:
                scene.append((out.scene[0], sample["scene"]))
                right.append(bool(out.scene[0].argmax() == sample["scene"]))
            known = sample["tags"] != UNKNOWN
            tags.append((out.tags[0][known], sample["tags"][known].float()))
            for kind in source.exhaustive:
                name = dataset.config.classes.objects[kind]
                counts[name].add(out, kind, sample["boxes"][sample["kinds"] == kind], not _has_extent(source, name))
        if right:
            scores[f"{source.config.name} accuracy"] = {"value": float(np.mean(right)), "images": len(right)}
    temperatures = {}
    if scene:
        logits, labels = torch.stack([x for x, _ in scene]), torch.stack([y for _, y in scene])
        temperatures["scene"] = _best_temperature(lambda t: F.cross_entropy(logits / t, labels))
    logits, labels = torch.cat([x for x, _ in tags]), torch.cat([y for _, y in tags])
    if len(logits):
        temperatures["tags"] = _best_temperature(lambda t: F.binary_cross_entropy_with_logits(logits / t, labels))
    min_scores = {}
    for name, count in counts.items():
        if count.total:
            min_scores[name], f1 = count.best()
            scores[f"{name} F1 at IoU 0.5"] = {"value": f1, "objects": count.total}
    return {"temperatures": temperatures, "min_scores": min_scores}, scores


def _predict(network: Any, sample: dict[str, Any]) -> Any:
    with torch.inference_mode():
        return network.predict(sample["pixels"][None], sample["gsd_m"][None])


def _best_temperature(loss: Any) -> float:
    losses = [float(loss(float(t))) for t in _TEMPERATURES]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 3)


class _Counts:
    """Matched and unmatched detections of an object class at each threshold."""

    def __init__(self) -> None:
        self.matched, self.unmatched, self.total = np.zeros(len(_THRESHOLDS)), np.zeros(len(_THRESHOLDS)), 0

    def add(self, out: Any, kind: int, truth: np.ndarray, by_center: bool) -> None:
        """Count the detections of an image; `truth` `(N, 4)` are fractions of its sides."""
        self.total += len(truth)
        lowest = {"": float(_THRESHOLDS[0])}
        found = find_objects(out.centers[0, kind : kind + 1].numpy(), out.extents[0].numpy(), [""], lowest)
        is_matched = match(np.array([d.box for d in found]).reshape(-1, 4), truth, by_center)
        for n, threshold in enumerate(_THRESHOLDS):
            counted = np.array([d.score >= threshold for d in found], bool)
            self.matched[n] += (is_matched & counted).sum()
            self.unmatched[n] += (~is_matched & counted).sum()

    def best(self) -> tuple[float, float]:
        """Return the threshold of the best F1, and the F1."""
        f1 = 2 * self.matched / np.maximum(self.matched + self.unmatched + self.total, 1)
        best = int(f1.argmax())
        return round(float(_THRESHOLDS[best]), 3), float(f1[best])


def match(boxes: np.ndarray, truth: np.ndarray, by_center: bool) -> np.ndarray:
    """Return which boxes, best first, match a box of the truth that no better one took.

    Args:
        boxes: `(N, 4)`.
        truth: `(M, 4)`.
        by_center: a box matches if its center is inside a true box of twice the size, for objects that are points.
    """
    matched = np.zeros(len(boxes), bool)
    if not len(boxes) or not len(truth):
        return matched
    if by_center:
        centers = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2 - (truth[None, :, :2] + truth[None, :, 2:]) / 2
        overlap = 1 - np.abs(centers / (truth[None, :, 2:] - truth[None, :, :2])).max(2)
        least = 0.0
    else:
        overlap, least = iou(boxes, truth), _SAME_IOU
    free = np.ones(len(truth), bool)
    for n in range(len(boxes)):
        values = np.where(free, overlap[n], -1)
        if values.max() >= least:
            matched[n] = True
            free[values.argmax()] = False
    return matched


def _has_extent(source: PerceptionSource, name: str) -> bool:
    return any(m.object == name and m.has_extent for m in source.meanings.values())


def fit_ood(network: Any, dataset: PerceptionDataset) -> OODDetector:
    """Fit the detector of unfamiliar images on training images, its limit on validation images.

    Args:
        network: as in `fit_settings`.
        dataset: with augmentation, so that renderings and crops of familiar images are familiar.
    """
    features, groups, held_back = [], [], []
    outliers: list[np.ndarray] = []
    seed = dataset.config.seed
    for number, source in enumerate(dataset.sources):
        seen: Counter[str] = Counter()
        for index in source.indices:
            group = f"{source.config.name}/{source.scene(index)}"
            seen[group] += 1
            if seen[group] <= _MAX_PER_GROUP:
                sample = dataset.draw(source, index, np.random.default_rng([seed, number, index]))
                features.append(_predict(network, sample).features[0].numpy())
                groups.append(group)
                if seen[group] <= _OUTLIERS_PER_GROUP:
                    sample["pixels"] = _make_outlier(sample["pixels"], len(outliers))
                    outliers.append(_predict(network, sample).features[0].numpy())
        for index in source.val:
            rng = np.random.default_rng([seed, number, index])
            for sample in (dataset.whole(source, index), dataset.draw(source, index, rng)):
                held_back.append(_predict(network, sample).features[0].numpy())
    return OODDetector.fit(np.stack(features), np.array(groups), np.stack(held_back), np.stack(outliers))


def _make_outlier(pixels: torch.Tensor, number: int) -> torch.Tensor:
    """Return an image of radar or of night lights, uint8 `(3, H, W)`, from another image."""
    make = (radar, night_lights)[number % 2]
    found = make(pixels.permute(1, 2, 0).numpy(), np.random.default_rng([number, 7]))
    return resize(found, pixels.shape[-1]).round().to(torch.uint8)
