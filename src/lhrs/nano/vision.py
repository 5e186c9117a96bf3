"""Stage 0 of the embedded model: teach the vision encoder on labels before any language is involved.

Joint training from scratch wastes vision compute; an encoder that already separates classes, land cover and buildings
lets the language side learn in minutes. One encoder, three kinds of supervision, all heads thrown away afterwards:
scene classes from pooled features, class and land-cover maps and CenterNet-style building boxes (arXiv:1904.07850)
from a fused stride-8 map.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.nano.sources import IGNORE, Source


class VisionPretraining(nn.Module):
    """Encoder with throw-away heads; `forward` takes a batch of VisionDataset and returns `{"loss", ...}`."""

    def __init__(
        self, encoder: nn.Module, sources: list[Source], num_covers: int, label_smoothing: float, cutmix: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.label_smoothing, self.cutmix = label_smoothing, cutmix
        widths: list[int] = cast(Any, encoder.feature_info).channels()
        dense = 128
        self.lateral = nn.ModuleList(nn.Conv2d(w, dense, 1) for w in widths)
        self.fuse = nn.Sequential(nn.BatchNorm2d(dense), nn.ReLU(), nn.Conv2d(dense, dense, 3, padding=1), nn.ReLU())
        self.class_heads = nn.ModuleDict(
            {str(i): nn.Linear(widths[-1], s.num_classes) for i, s in enumerate(sources) if s.labels}
        )
        self.map_heads = nn.ModuleDict(
            {str(i): nn.Conv2d(dense, s.num_classes, 1) for i, s in enumerate(sources) if s.mosaic}
        )
        self.cover_head = nn.Conv2d(dense, num_covers, 1)
        self.box_head = nn.Conv2d(dense, 5, 1)
        with torch.no_grad():  # few cells hold a centre; start there
            cast(Tensor, self.box_head.bias).copy_(torch.tensor([-3.0, 0.0, 0.0, 0.0, 0.0]))

    def features(self, pixels: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Return levels, pooled deepest level and the fused stride-8 map of uint8 `pixels` `(B, 3, S, S)`."""
        levels = self.encoder(normalize(pixels))
        fused = self.lateral[0](levels[0])
        for conv, level in zip(self.lateral[1:], levels[1:], strict=True):
            fused = fused + F.interpolate(conv(level), fused.shape[-2:], mode="nearest")
        return levels, levels[-1].mean((2, 3)), self.fuse(fused)

    def forward(
        self,
        pixels: Tensor,
        source: Tensor,
        label: Tensor,
        classmap: Tensor,
        cover: Tensor,
        heat: Tensor,
        size: Tensor,
        has_boxes: Tensor,
    ) -> dict:
        """Return the summed loss and its parts."""
        mate, share = None, 1.0
        if self.training and torch.rand(()) < self.cutmix:
            pixels, mate, share = _cutmix(pixels, source, label)
        _, pooled, fused = self.features(pixels)
        loss = {"class": pooled.sum() * 0.0, "map": fused.sum() * 0.0}
        hits, seen = [], []
        for key, head in self.class_heads.items():
            rows = ((source == int(key)) & (label != IGNORE)).nonzero()[:, 0]
            if len(rows):
                logits = head(pooled[rows]).float()
                ce = F.cross_entropy(logits, label[rows], label_smoothing=self.label_smoothing, reduction="none")
                if mate is not None:
                    other = F.cross_entropy(
                        logits, label[mate[rows]], label_smoothing=self.label_smoothing, reduction="none"
                    )
                    ce = share * ce + (1 - share) * other
                loss["class"] = loss["class"] + ce.sum() / len(source)
                hits.append((logits.argmax(-1) == label[rows]).float().sum())
                seen.append(len(rows))
        for key, head in self.map_heads.items():
            rows = ((source == int(key)) & (classmap[:, 0, 0] != IGNORE)).nonzero()[:, 0]
            if len(rows):
                ce = F.cross_entropy(head(fused[rows]).float(), classmap[rows], label_smoothing=self.label_smoothing)
                loss["map"] = loss["map"] + ce * len(rows) / len(source)
        loss["cover"] = _cover_loss(self.cover_head(fused).float(), cover, len(source))
        loss["heat"], loss["size"] = _box_loss(self.box_head(fused).float(), heat, size, has_boxes)
        return {
            "loss": sum(loss.values()),
            **{k: v.detach() for k, v in loss.items()},
            "hits": sum(hits),
            "seen": sum(seen),
        }


def normalize(pixels: Tensor) -> Tensor:
    """Map uint8 to about [-1, 1] in channels-last layout, as the processor of the finished model does."""
    return ((pixels.float() / 255 - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


def _cutmix(pixels: Tensor, source: Tensor, label: Tensor) -> tuple[Tensor, Tensor, float]:
    """Paste a rectangle of another image of the same source (arXiv:1905.04899); only images with a class take part."""
    n, size = len(pixels), pixels.shape[-1]
    mate = torch.arange(n)
    for s in source.unique():
        rows = ((source == s) & (label != IGNORE)).nonzero()[:, 0]
        mate[rows] = rows[torch.randperm(len(rows))]
    side = int(size * torch.rand(()).mul(0.7).sqrt())
    y, x = (int(torch.randint(size - side + 1, ())) for _ in range(2))
    mixed = pixels.clone()
    mixed[:, :, y : y + side, x : x + side] = pixels[mate][:, :, y : y + side, x : x + side]
    return mixed, mate, 1 - (side / size) ** 2


def _cover_loss(logits: Tensor, cover: Tensor, batch: int) -> Tensor:
    weight = cover.sum(1)
    ce = -(cover * logits.log_softmax(1)).sum(1)
    images = (weight.sum((1, 2)) > 0).sum()
    return ce.sum() / weight.sum().clamp(min=1) * images / batch


def _box_loss(out: Tensor, heat: Tensor, size: Tensor, has_boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Focal loss on centres and L1 on offsets and log sizes, over images that carry boxes."""
    out, heat, size = out[has_boxes], heat[has_boxes], size[has_boxes]
    p = out[:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
    centre = heat == 1
    focal = torch.where(centre, -((1 - p) ** 2) * p.log(), -((1 - heat) ** 4) * p**2 * (1 - p).log())
    count = centre.sum().clamp(min=1)
    share = has_boxes.float().mean()
    l1 = ((out[:, 1:] - size).abs() * centre[:, None]).sum() / count
    return focal.sum() / count * share, l1 * share * 0.5
