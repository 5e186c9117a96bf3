"""Oriented R-CNN (Xie et al., 2021, arXiv:2108.05699): a detector of oriented boxes on any backbone."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.downstream.detect.box_coder import decode_delta, encode_delta
from lhrs.downstream.detect.matcher import match_anchors, sample_matches
from lhrs.downstream.detect.pyramid import STRIDES, FeaturePyramid
from lhrs.downstream.detect.rotated_boxes import rotated_iou, rotated_nms
from lhrs.downstream.detect.rotated_roi_align import pyramid_align
from lhrs.downstream.detect.rpn import OrientedRPN

Detections = dict[str, Tensor]
"""`boxes`, `scores` in 0-1 and int64 `labels` of one image, best first."""
_SIZE = 7
_POSITIVE = 0.5
_POSITIVE_SHARE = 0.25
_CANDIDATES = 5000
"""Maximum number of boxes before non-maximum suppression; a barely trained network returns very many."""


class RoIHead(nn.Module):
    """The second stage: classification and refinement of proposals (section 3.2).

    Args:
        width: channels of the feature maps.
        num_classes: without background, which is the last logit.
        hidden: width of the two linear layers.
        samples: number of proposals per image that are sampled for the loss.
        min_score: detections with a lower score are dropped.
        nms_iou: threshold of non-maximum suppression within a class.
        detections: maximum number of detections per image.
    """

    def __init__(
        self, width: int, num_classes: int, hidden: int = 1024, samples: int = 512, min_score: float = 0.05,
        nms_iou: float = 0.1, detections: int = 2000,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_classes, self.samples = num_classes, samples
        self.min_score, self.nms_iou, self.detections = min_score, nms_iou, detections
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(width * _SIZE**2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.classes = nn.Linear(hidden, num_classes + 1)
        self.codes = nn.Linear(hidden, 5)
        for layer, std in ((self.classes, 0.01), (self.codes, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, maps: Sequence[Tensor], proposals: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits `(K, num_classes + 1)` and codes `(K, 5)` of the `(K_b, 5)` proposals of all images."""
        hidden = self.layers(pyramid_align(maps, proposals, STRIDES[: len(maps)], _SIZE))
        return self.classes(hidden).float(), self.codes(hidden).float()

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Return the losses of classes and boxes; see `OrientedRCNN.forward`."""
        chosen, labels, positive, truth = [], [], [], []
        for regions, target in zip(proposals, targets, strict=True):
            regions = torch.cat([regions, target["boxes"]])  # positives from the first step on
            assigned = match_anchors(regions, target["boxes"], rotated_iou, _POSITIVE, _POSITIVE)
            hits, misses = sample_matches(assigned, self.samples, _POSITIVE_SHARE)
            chosen.append(regions[torch.cat([hits, misses])])
            background = torch.full_like(misses, self.num_classes)
            labels.append(torch.cat([target["labels"][assigned[hits]], background]))
            positive.append(torch.arange(len(chosen[-1]), device=hits.device) < len(hits))
            truth.append(target["boxes"][assigned[hits]])
        logits, codes = self(maps, chosen)
        hit = torch.cat(positive)
        wanted = encode_delta(torch.cat(chosen)[hit], torch.cat(truth))
        boxes = F.smooth_l1_loss(codes[hit], wanted, reduction="sum") / max(len(hit), 1)
        return {"roi_class": F.cross_entropy(logits, torch.cat(labels)), "roi_box": boxes}

    def detect(self, maps: Sequence[Tensor], proposals: Sequence[Tensor]) -> list[Detections]:
        """Return the detections of each image."""
        logits, codes = self(maps, proposals)
        boxes = decode_delta(torch.cat(list(proposals)), codes)
        counts = [len(regions) for regions in proposals]
        return [
            self._choose(*inputs)
            for inputs in zip(boxes.split(counts), logits.softmax(-1)[:, :-1].split(counts), strict=True)
        ]

    def _choose(self, boxes: Tensor, scores: Tensor) -> Detections:
        region, label = (scores > self.min_score).nonzero(as_tuple=True)
        score, best = scores[region, label].sort(descending=True, stable=True)
        score, best = score[:_CANDIDATES], best[:_CANDIDATES]
        region, label = region[best], label[best]
        keep = rotated_nms(boxes[region], score, label, self.nms_iou)[: self.detections]
        return {"boxes": boxes[region[keep]], "scores": score[keep], "labels": label[keep]}


class OrientedRCNN(nn.Module):
    """Detector of oriented boxes (le90, see `lhrs.downstream.detect.rotated_boxes`).

    Args:
        backbone: returns four feature maps at strides 4, 8, 16, 32 of normalized `(B, C, H, W)`; `channels` has their
            widths.
        num_classes: without background.
        width: channels of the pyramid.
        rpn: settings of `OrientedRPN` that differ from its defaults.
        head: settings of `RoIHead` that differ from its defaults.
    """

    def __init__(
        self, backbone: nn.Module, num_classes: int, width: int = 256,
        rpn: dict[str, Any] | None = None, head: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_classes = num_classes
        self.pyramid = FeaturePyramid(backbone, width)
        self.rpn = OrientedRPN(width, STRIDES, **(rpn or {}))
        self.head = RoIHead(width, num_classes, **(head or {}))

    def forward(
        self, pixels: Tensor, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Return losses by name in training, else the detections of each image, boxes `(K, 5)`.

        Proposals for the loss are sampled by torch's global generator.

        Args:
            pixels: `(B, C, H, W)` normalized; smaller images are padded on the right and at the bottom.
            targets: of each image: `boxes` `(M, 5)` oriented, in pixels; `labels` int64 `(M,)`, 0 to num_classes - 1.
                Boxes with a side below one pixel are ignored. Required in training.
        """
        maps = list(self.pyramid(pixels).values())
        with torch.autocast(pixels.device.type, enabled=False):
            if not self.training:
                proposals, _ = self.rpn(maps)
                return self.head.detect(maps[:-1], proposals)
            assert targets is not None, "training needs targets"
            targets = [_with_area(target) for target in targets]
            proposals, losses = self.rpn(maps, [target["boxes"] for target in targets])
            return losses | self.head.losses(maps[:-1], proposals, targets)


def _with_area(target: dict[str, Tensor]) -> dict[str, Tensor]:
    keep = target["boxes"][:, 2:4].min(1).values >= 1
    return {"boxes": target["boxes"][keep].float(), "labels": target["labels"][keep]}
