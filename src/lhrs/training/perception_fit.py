"""What is fitted on validation images after perception training: temperatures, thresholds, the limit of familiarity."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lhrs.boxes import iou
from lhrs.inference.ood import OODDetector
from lhrs.perception.evidence import find_objects
from lhrs.training.perception_data import UNKNOWN, PerceptionDataset, PerceptionSource

_THRESHOLDS = np.linspace(0.1, 0.7, 25)
_TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(4), 43))
_SAME_IOU = 0.5
_MAX_PER_GROUP = 200
"""Training images of each group from which the statistics of familiar images come."""


def fit_settings(network: Any, dataset: PerceptionDataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fitted fields of `lhrs.perception.settings.PerceptionSettings`, and scores on the validation images.

    Args:
        network: `lhrs.training.perception.PerceptionNetwork` in evaluation mode.
        dataset: without augmentation.
    """
    scene: list[tuple[torch.Tensor, torch.Tensor]] = []
    tags: list[tuple[torch.Tensor, torch.Tensor]] = []
    scores: dict[str, Any] = {}
    for source in dataset.sources:
        right = []
        for sample, out in predictions(network, dataset, source, source.val):
            if sample["scene"] != UNKNOWN:
                scene.append((out.scene[0], sample["scene"]))
                right.append(bool(out.scene[0].argmax() == sample["scene"]))
            known = sample["tags"] != UNKNOWN
            tags.append((out.tags[0][known], sample["tags"][known].float()))
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
    for kind, name in enumerate(dataset.config.classes.objects):
        found = _fit_threshold(network, dataset, kind)
        if found is not None:
            min_scores[name], f1, count = found
            scores[f"{name} F1 at IoU 0.5"] = {"value": f1, "objects": count}
    return {"temperatures": temperatures, "min_scores": min_scores}, scores


def predictions(
    network: Any, dataset: PerceptionDataset, source: PerceptionSource, indices: Sequence[int]
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the whole image as a sample, and its logits."""
    for index in indices:
        sample = dataset.whole(source, index)
        with torch.inference_mode():
            yield sample, network.predict(sample["pixels"][None], sample["gsd_m"][None])


def _best_temperature(loss: Any) -> float:
    losses = [float(loss(float(t))) for t in _TEMPERATURES]
    return round(float(_TEMPERATURES[int(np.argmin(losses))]), 3)


def _fit_threshold(network: Any, dataset: PerceptionDataset, kind: int) -> tuple[float, float, int] | None:
    """Return the score threshold of the best F1, the F1 and the number of objects of a class; None without any."""
    name = dataset.config.classes.objects[kind]
    hits, misses, total = np.zeros(len(_THRESHOLDS)), np.zeros(len(_THRESHOLDS)), 0
    for source in dataset.sources:
        if kind not in source.exhaustive:
            continue
        for sample, out in predictions(network, dataset, source, source.val):
            truth = sample["boxes"][sample["kinds"] == kind]
            total += len(truth)
            low = float(_THRESHOLDS[0])
            found = find_objects(out.centers[0, kind : kind + 1].numpy(), out.extents[0].numpy(), [name], {name: low})
            boxes = np.array([d.box for d in found]).reshape(-1, 4)
            nominal = not _has_extent(source, name)
            matched = match(boxes, truth, nominal)
            for n, threshold in enumerate(_THRESHOLDS):
                kept = np.array([d.score >= threshold for d in found], bool)
                hits[n] += (matched & kept).sum()
                misses[n] += (~matched & kept).sum()
    if not total:
        return None
    f1 = 2 * hits / np.maximum(hits + misses + total, 1)
    best = int(f1.argmax())
    return round(float(_THRESHOLDS[best]), 3), float(f1[best]), total


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
    """Fit the detector of unfamiliar images on training images, its limit on validation images."""
    features, groups, held = [], [], []
    for source in dataset.sources:
        names = [source.scene(n) if source.config.scene_set else source.config.name for n in source.indices]
        seen: dict[Any, int] = {}
        picked = []
        for index, name in zip(source.indices, names, strict=True):
            seen[name] = seen.get(name, 0) + 1
            if seen[name] <= _MAX_PER_GROUP:
                picked.append((index, f"{source.config.name}/{name}"))
        for (_, out), (_, group) in zip(
            predictions(network, dataset, source, [n for n, _ in picked]), picked, strict=True
        ):
            features.append(out.features[0].numpy())
            groups.append(group)
        held += [out.features[0].numpy() for _, out in predictions(network, dataset, source, source.val)]
    return OODDetector.fit(np.stack(features), np.array(groups), np.stack(held))
