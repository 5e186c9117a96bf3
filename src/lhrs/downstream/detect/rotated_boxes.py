"""Oriented boxes in torch: conversions, IoU, non-maximum suppression. Runs on any device, without compiled code.

An oriented box is `cx, cy, w, h, angle`: center and sides in pixels, and the angle in radians from x to side w, towards
y (clockwise on a screen), as in `lhrs.metrics.iou.oriented_corners`. Its normal form is le90:
w >= h and -pi/2 <= angle < pi/2.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

_CELLS = 2**22
"""Number of pairs whose horizontal bounds are compared at once; limits memory to about 100 MB."""
_PAIRS = {"cpu": 2**16, "cuda": 2**20}
"""Number of pairs that are clipped at once: as many as fit a CPU's cache, and as many as occupy a GPU."""
_BLOCK = 512
"""Block size of non-maximum suppression: boxes of a block are processed one by one."""


def to_le90(boxes: Tensor) -> Tensor:
    """Return `(..., 5)` oriented boxes in le90: the same rectangles, w >= h and -pi/2 <= angle < pi/2."""
    x, y, w, h, angle = boxes.unbind(-1)
    swap = w < h
    turned = wrap(torch.where(swap, angle + math.pi / 2, angle))
    return torch.stack([x, y, torch.where(swap, h, w), torch.where(swap, w, h), turned], -1)


def wrap(angle: Tensor) -> Tensor:
    """Return angles in [-pi/2, pi/2) of the same axis."""
    wrapped = torch.remainder(angle + math.pi / 2, math.pi) - math.pi / 2
    return torch.where(wrapped >= math.pi / 2, wrapped - math.pi, wrapped)  # remainder may round up to pi


def obb_to_corners(boxes: Tensor) -> Tensor:
    """Return `(..., 4, 2)` xy corners of `(..., 5)` oriented boxes, clockwise on a screen."""
    half_w, half_h = boxes[..., 2:3] / 2, boxes[..., 3:4] / 2
    across = torch.cat([-half_w, half_w, half_w, -half_w], -1)
    down = torch.cat([-half_h, -half_h, half_h, half_h], -1)
    cos, sin = boxes[..., 4:].cos(), boxes[..., 4:].sin()
    x = boxes[..., :1] + across * cos - down * sin
    y = boxes[..., 1:2] + across * sin + down * cos
    return torch.stack([x, y], -1)


def obb_to_hbb(boxes: Tensor) -> Tensor:
    """Return `(..., 4)` xyxy, the enclosing horizontal boxes of `(..., 5)` oriented boxes."""
    cos, sin = boxes[..., 4].cos().abs(), boxes[..., 4].sin().abs()
    half = torch.stack([boxes[..., 2] * cos + boxes[..., 3] * sin, boxes[..., 2] * sin + boxes[..., 3] * cos], -1) / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def hbb_to_obb(boxes: Tensor) -> Tensor:
    """Return `(..., 5)` le90 boxes of `(..., 4)` xyxy ones."""
    center, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    return to_le90(torch.cat([center, sides, torch.zeros_like(center[..., :1])], -1))


def min_area_rect(points: np.ndarray) -> np.ndarray:
    """Return float64 `(5,)`, the minimum-area le90 box around `(P, 2)` xy points; sides may be 0.

    One of its sides is collinear with a side of the convex hull (Freeman and Shapira, 1975).

    Raises:
        ValueError: there is no point, or a point is not finite.
    """
    points = np.asarray(points, np.float64).reshape(-1, 2)
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"{len(points)} points, or points that are not finite, have no enclosing rectangle.")
    origin = points.mean(0)
    hull = _hull(points - origin)
    sides = np.roll(hull, -1, 0) - hull
    angles = np.arctan2(sides[:, 1], sides[:, 0])
    axes = np.stack([np.cos(angles), np.sin(angles)], -1)
    along, across = hull @ axes.T, hull @ (axes[:, ::-1] * [-1, 1]).T
    low, high = np.stack([along.min(0), across.min(0)]), np.stack([along.max(0), across.max(0)])
    best = int(np.argmin(np.prod(high - low, 0)))
    (w, h), (u, v), (cos, sin) = (high - low)[:, best], (high + low)[:, best] / 2, axes[best]
    center = origin + np.array([u * cos - v * sin, u * sin + v * cos])
    box = [*center, w, h, angles[best]]
    return to_le90(torch.tensor(box, dtype=torch.float64)).numpy()


def _hull(points: np.ndarray) -> np.ndarray:
    """Return the corners of the convex hull in order, at least one (Andrew's monotone chain, 1979)."""
    rows = sorted(set(map(tuple, points.tolist())))
    if len(rows) < 3:
        return np.array(rows)
    chains = []
    for ordered in (rows, rows[::-1]):
        chain: list[tuple[float, float]] = []
        for x, y in ordered:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (y - chain[-2][1]) - (chain[-1][1] - chain[-2][1]) * (x - chain[-2][0])
            ) <= 0:  # fmt: skip
                chain.pop()
            chain.append((x, y))
        chains += chain[:-1]
    return np.array(chains)


def rotated_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return float32 `(N, M)`, intersection over union of `(N, 5)` and `(M, 5)` oriented boxes; no gradient.

    Exact except for rounding: rectangles are clipped in float64. The overlap of boxes without area is 0.

    Raises:
        ValueError: a box is not finite or has a negative side.
    """
    a, b = _checked(a), _checked(b)
    result = torch.zeros(len(a), len(b), device=a.device)
    for rows, columns, overlap in _overlaps(a, b):
        result[rows, columns] = overlap.float()
    return result


def rotated_nms(boxes: Tensor, scores: Tensor, labels: Tensor, iou_threshold: float) -> Tensor:
    """Return int64 indices of the boxes that non-maximum suppression keeps, best score first.

    Args:
        boxes: `(N, 5)` oriented.
        scores: `(N,)`; of equal scores the first box is kept.
        labels: `(N,)` integers; boxes of different labels do not suppress each other.
        iou_threshold: IoU above which a box with a lower score is dropped.

    Raises:
        ValueError: a box is not finite or has a negative side.
    """
    order = torch.argsort(scores, descending=True, stable=True)
    ordered, classes = _checked(boxes)[order], labels[order]
    keep = []
    left = torch.arange(len(ordered), device=ordered.device)
    while len(left):  # the best block is suppressed within itself, then suppresses all others
        block, left = left[:_BLOCK], left[_BLOCK:]
        block = block[_greedy(ordered[block], classes[block], iou_threshold)]
        keep.append(block)
        stays = torch.ones(len(left), dtype=torch.bool, device=left.device)
        for _, columns, overlap in _overlaps(ordered[block], ordered[left], classes[block], classes[left]):
            stays[columns[overlap > iou_threshold]] = False
        left = left[stays]
    return order[torch.cat(keep)] if keep else order


def _greedy(boxes: Tensor, classes: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes to keep within a block, in order."""
    over = np.zeros((len(boxes), len(boxes)), bool)
    for rows, columns, overlap in _overlaps(boxes, boxes, classes, classes):
        hit = overlap > iou_threshold
        over[rows[hit].cpu().numpy(), columns[hit].cpu().numpy()] = True
    keep = np.ones(len(boxes), bool)
    for n in range(len(boxes)):
        if keep[n]:
            keep[n + 1 :] &= ~over[n, n + 1 :]
    return torch.from_numpy(keep.nonzero()[0]).to(boxes.device)


def _checked(boxes: Tensor) -> Tensor:
    boxes = boxes.detach().double().reshape(-1, 5)
    if not (boxes.isfinite().all() and (boxes[:, 2:4] >= 0).all()):
        raise ValueError("oriented boxes must be finite and have sides of at least 0 pixels.")
    return boxes


def _overlaps(
    a: Tensor, b: Tensor, classes_a: Tensor | None = None, classes_b: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield index pairs whose horizontal bounds intersect, within a class if labels are given, and their overlap."""
    bounds, others = obb_to_hbb(a), obb_to_hbb(b)
    turned_a, turned_b = (torch.cat([c[:, :4], c[:, 4:].cos(), c[:, 4:].sin()], 1).T.contiguous() for c in (a, b))
    step = max(1, _CELLS // max(len(b), 1))
    for start in range(0, len(a) if len(b) else 0, step):
        mine = bounds[start : start + step, None]
        meets = (mine[..., 0] < others[:, 2]) & (others[:, 0] < mine[..., 2])
        meets &= (mine[..., 1] < others[:, 3]) & (others[:, 1] < mine[..., 3])
        if classes_a is not None:
            meets &= classes_a[start : start + step, None] == classes_b
        for pair in meets.nonzero().split(_PAIRS.get(a.device.type, 2**20)):
            rows, columns = pair[:, 0] + start, pair[:, 1]
            yield rows, columns, _iou_pairs(turned_a[:, rows], turned_b[:, columns])


def _iou_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Return `(P,)` of the n-th of `(6, P)` and `(6, P)`: cx, cy, w, h, cosine and sine of the angle.

    The intersection is an integral over the border of a in the axis-aligned frame of b: each edge of a contributes the
    area between itself and b's lower side, clipped to b. Each step is a clamp or a sum, so the result is continuous
    where corners touch or edges coincide.
    """
    (x_a, y_a, w, h, cos_a, sin_a), (x_b, y_b, width, height, cos_b, sin_b) = a, b
    dx, dy = x_a - x_b, y_a - y_b
    at_x, at_y = dx * cos_b + dy * sin_b, dy * cos_b - dx * sin_b
    cos, sin = (cos_a * cos_b + sin_a * sin_b) / 2, (sin_a * cos_b - cos_a * sin_b) / 2
    along_x, along_y, across_x, across_y = w * cos, w * sin, -h * sin, h * cos  # half sides of a
    x = torch.stack([-along_x - across_x, along_x - across_x, along_x + across_x, across_x - along_x]) + at_x
    y = torch.stack([-along_y - across_y, along_y - across_y, along_y + across_y, across_y - along_y]) + at_y
    half_w, half_h = width / 2, height / 2
    next_x, next_y = x.roll(-1, 0), y.roll(-1, 0)
    run, rise = next_x - x, next_y - y
    left, right = (torch.maximum(torch.minimum(end, half_w), -half_w) for end in (x, next_x))
    run = torch.where(run == 0, 1.0, run)  # a vertical edge contributes nothing
    first, last = y + rise * ((left - x) / run).clamp(0, 1), y + rise * ((right - x) / run).clamp(0, 1)
    low, high = torch.minimum(first, last) + half_h, torch.maximum(first, last) + half_h
    cut_low, cut_high = torch.minimum(low.clamp(min=0), height), torch.minimum(high.clamp(min=0), height)
    span = high - low
    # Mean of a height that rises from low to high, clipped to 0..height: the sloped part, and the clipped part.
    sloping = (cut_high - cut_low) * (cut_low + cut_high) / 2
    full = height * (high - torch.maximum(low, height)).clamp(min=0)
    mean = torch.where(span > 0, (sloping + full) / torch.where(span > 0, span, 1.0), cut_low)
    inter = ((left - right) * mean).sum(0).clamp(min=0)
    area_a, area_b = w * h, width * height
    inter = torch.minimum(inter, torch.minimum(area_a, area_b))
    union = area_a + area_b - inter
    return torch.where(union > 0, inter / torch.where(union > 0, union, 1.0), 0.0)
