"""Box coders of a detector's two stages: offsets to an anchor, and offsets to a proposal."""

import math

import torch
from torch import Tensor

from lhrs.downstream.detect.rotated_boxes import obb_to_corners, obb_to_hbb, to_le90, wrap

_STRAIGHT = math.radians(1)
"""Boxes rotated by less are encoded as axis-aligned. The midpoint offsets jump from -0.5 to 0.5 at 0 degrees; their
mean, which a network would predict, is a box rotated by 45 degrees."""
_MAX_LOG = math.log(1000 / 16)
"""Upper bound of the logarithm of a side's scale, against overflow in an untrained network."""
DELTA_SCALE = (0.1, 0.1, 0.2, 0.2, 0.1)
"""Standard deviations by which the five offsets to a proposal are divided."""


def encode_midpoint(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return `(N, 6)` midpoint offsets of the n-th oriented box from the n-th anchor (Xie et al., 2021, section 3.1).

    The offsets are dx, dy, dw, dh of the enclosing horizontal box, then those of the top and the right corner. The top
    corner's is measured to the right from the middle of the upper side, as a fraction of the width. The right corner's
    is measured down from the middle of the right side, as a fraction of the height.

    Args:
        anchors: `(N, 4)` xyxy with area.
        boxes: `(N, 5)` oriented, with area; boxes rotated by less than a degree are encoded as axis-aligned.
    """
    boxes = _straightened(boxes)
    bounds = obb_to_hbb(boxes)
    center, sides = (bounds[:, :2] + bounds[:, 2:]) / 2, bounds[:, 2:] - bounds[:, :2]
    origin, extent = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    points = obb_to_corners(boxes) - center[:, None]
    x, y = points.unbind(-1)
    # Of two top corners, as in axis-aligned boxes, the right one is used; of two right corners, the lower one.
    slack = sides * 1e-4
    top = torch.where(y <= y.min(1, keepdim=True).values + slack[:, 1:], x, -math.inf).max(1).values
    right = torch.where(x >= x.max(1, keepdim=True).values - slack[:, :1], y, -math.inf).max(1).values
    return torch.cat([(center - origin) / extent, (sides / extent).log(), torch.stack([top, right], -1) / sides], -1)


def decode_midpoint(anchors: Tensor, codes: Tensor) -> Tensor:
    """Return `(N, 5)` le90 boxes of `(N, 4)` xyxy anchors and `(N, 6)` codes.

    A code describes a parallelogram. Its shorter diagonal is extended to the length of the longer one, which makes it a
    rectangle.
    """
    origin, extent = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    center, sides = origin + codes[:, :2] * extent, extent * codes[:, 2:4].clamp(-_MAX_LOG, _MAX_LOG).exp()
    shift = codes[:, 4:].clamp(-0.5, 0.5) * sides
    top = torch.stack([shift[:, 0], -sides[:, 1] / 2], -1)
    right = torch.stack([sides[:, 0] / 2, shift[:, 1]], -1)
    lengths = torch.stack([top, right], 1).norm(dim=-1, keepdim=True).clamp(min=1e-6)
    top, right = (torch.stack([top, right], 1) * (lengths.amax(1, keepdim=True) / lengths)).unbind(1)
    w, h = right - top, right + top  # from the top corner to the right one, and from the left one to the top
    return to_le90(
        torch.cat([center, w.norm(dim=-1, keepdim=True), h.norm(dim=-1, keepdim=True),
                   torch.atan2(w[:, 1:], w[:, :1])], -1)
    )  # fmt: skip


def _straightened(boxes: Tensor) -> Tensor:
    quarter = math.pi / 2
    nearest = (boxes[:, 4] / quarter).round() * quarter
    angle = torch.where((boxes[:, 4] - nearest).abs() < _STRAIGHT, nearest, boxes[:, 4])
    return torch.cat([boxes[:, :4], angle[:, None]], -1)


def encode_delta(proposals: Tensor, boxes: Tensor) -> Tensor:
    """Return `(N, 5)` offsets of the n-th box from the n-th proposal, both oriented: dx, dy, dw, dh, dangle.

    Offsets are along the proposal's sides. A box has two descriptions, since w and h can be exchanged by a rotation of
    90 degrees; the one with the smaller rotation is used, so dangle is at most 45 degrees.
    """
    turn = wrap(boxes[:, 4] - proposals[:, 4])
    swap = turn.abs() > math.pi / 4
    turn = torch.where(swap, wrap(turn + math.pi / 2), turn)
    sides = torch.where(swap[:, None], boxes[:, 2:4].flip(-1), boxes[:, 2:4])
    (dx, dy), (cos, sin) = (boxes[:, :2] - proposals[:, :2]).unbind(-1), (proposals[:, 4].cos(), proposals[:, 4].sin())
    shift = torch.stack([dx * cos + dy * sin, dy * cos - dx * sin], -1) / proposals[:, 2:4]
    code = torch.cat([shift, (sides / proposals[:, 2:4]).log(), turn[:, None]], -1)
    return code / code.new_tensor(DELTA_SCALE)


def decode_delta(proposals: Tensor, codes: Tensor) -> Tensor:
    """Return `(N, 5)` le90 boxes of `(N, 5)` proposals and codes."""
    codes = codes * codes.new_tensor(DELTA_SCALE)
    dx, dy = (codes[:, :2] * proposals[:, 2:4]).unbind(-1)
    cos, sin = proposals[:, 4].cos(), proposals[:, 4].sin()
    center = proposals[:, :2] + torch.stack([dx * cos - dy * sin, dx * sin + dy * cos], -1)
    sides = proposals[:, 2:4] * codes[:, 2:4].clamp(-_MAX_LOG, _MAX_LOG).exp()
    return to_le90(torch.cat([center, sides, proposals[:, 4:] + codes[:, 4:]], -1))
