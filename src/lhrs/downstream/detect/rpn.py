"""The first stage of Oriented R-CNN: oriented proposals from anchors."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou

from lhrs.downstream.detect.box_coder import decode_midpoint, encode_midpoint
from lhrs.downstream.detect.matcher import match_anchors, sample_matches
from lhrs.downstream.detect.rotated_boxes import obb_to_hbb

RATIOS = (0.5, 1.0, 2.0)
"""Height over width of the anchors."""
_CODE = 6
_POSITIVE, _NEGATIVE, _LEAST = 0.7, 0.3, 0.3
_POSITIVE_SHARE = 0.5
_NMS_IOU = 0.8


class OrientedRPN(nn.Module):
    """Oriented region proposals (Xie et al., 2021, arXiv:2108.05699, section 3.1).

    Args:
        width: channels of the feature maps.
        strides: strides of the feature maps in pixels.
        anchor_scale: side of a square anchor, in patches of its feature map.
        samples: number of anchors per image that are sampled for the loss.
        proposals: maximum number of proposals per image, and per feature map before non-maximum suppression.
    """

    def __init__(
        self, width: int, strides: Sequence[int], anchor_scale: float = 8, samples: int = 256, proposals: int = 2000
    ) -> None:
        super().__init__()
        self.strides, self.anchor_scale, self.samples, self.proposals = tuple(strides), anchor_scale, samples, proposals
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.objectness = nn.Conv2d(width, len(RATIOS), 1)
        self.codes = nn.Conv2d(width, len(RATIOS) * _CODE, 1)
        for layer in (self.conv, self.objectness, self.codes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(
        self, maps: Sequence[Tensor], truth: Sequence[Tensor] | None = None
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return proposals `(K, 5)` of each image without gradient, best first, and losses if `truth` is given.

        Args:
            maps: `(B, width, H_l, W_l)` of each stride.
            truth: `(M, 5)` oriented boxes with area of each image.
        """
        scores, codes = [], []
        for level in maps:
            hidden = F.relu(self.conv(level))
            scores.append(self.objectness(hidden).permute(0, 2, 3, 1).flatten(1))
            codes.append(self.codes(hidden).permute(0, 2, 3, 1).reshape(len(level), -1, _CODE))
        anchors = [
            make_anchors(level.shape[-2:], stride, self.anchor_scale, level.device)
            for level, stride in zip(maps, self.strides, strict=True)
        ]
        with torch.no_grad():
            proposals = [
                self._propose(anchors, [s[n] for s in scores], [c[n] for c in codes]) for n in range(len(maps[0]))
            ]
        if truth is None:
            return proposals, {}
        return proposals, self._losses(torch.cat(anchors), torch.cat(scores, 1), torch.cat(codes, 1), truth)

    def _propose(self, anchors: list[Tensor], scores: list[Tensor], codes: list[Tensor]) -> Tensor:
        boxes, kept, level = [], [], []
        for number, (places, score, code) in enumerate(zip(anchors, scores, codes, strict=True)):
            best, at = score.float().topk(min(self.proposals, len(score)))
            boxes.append(decode_midpoint(places[at], code[at].float()))
            kept.append(best)
            level.append(torch.full_like(at, number))
        every = torch.cat(boxes)
        # Suppressed by their enclosing horizontal boxes: ten times faster, and 0.8 only drops near-duplicates.
        keep = batched_nms(obb_to_hbb(every), torch.cat(kept), torch.cat(level), _NMS_IOU)
        return every[keep[: self.proposals]]

    def _losses(self, anchors: Tensor, scores: Tensor, codes: Tensor, truth: Sequence[Tensor]) -> dict[str, Tensor]:
        chosen, wanted, hits, targets = [], [], [], []
        count = 0
        for image, boxes in enumerate(truth):
            assigned = match_anchors(anchors, obb_to_hbb(boxes), box_iou, _POSITIVE, _NEGATIVE, _LEAST)
            positives, negatives = sample_matches(assigned, self.samples, _POSITIVE_SHARE)
            picked = torch.cat([positives, negatives])
            chosen.append(scores[image, picked].float())
            wanted.append(torch.arange(len(picked), device=picked.device) < len(positives))
            hits.append(codes[image, positives].float())
            targets.append(encode_midpoint(anchors[positives], boxes[assigned[positives]]))
            count += len(picked)
        objectness = F.binary_cross_entropy_with_logits(torch.cat(chosen), torch.cat(wanted).float(), reduction="sum")
        offsets = F.smooth_l1_loss(torch.cat(hits), torch.cat(targets), beta=1 / 9, reduction="sum")
        return {"rpn_objectness": objectness / max(count, 1), "rpn_box": offsets / max(count, 1)}


def make_anchors(shape: Sequence[int], stride: int, scale: float, device: torch.device) -> Tensor:
    """Return `(H * W * len(RATIOS), 4)` xyxy anchors around the patches' centers, rows first, ratios last."""
    rows, columns = ((torch.arange(n, device=device) + 0.5) * stride for n in shape)
    sides = torch.tensor([[math.sqrt(1 / r), math.sqrt(r)] for r in RATIOS], device=device) * (scale * stride)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centers = torch.stack([x, y], -1)[:, :, None]
    return torch.cat([centers - sides / 2, centers + sides / 2], -1).flatten(0, 2)
