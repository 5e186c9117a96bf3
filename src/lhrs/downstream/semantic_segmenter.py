"""Semantic segmentation: UPerNet (Xiao et al. 2018, arXiv:1807.10221), or a linear layer on the last feature map."""

import torch
from torch import Tensor, nn

from lhrs.downstream.backbone import Backbone, FeaturePyramid
from lhrs.downstream.layers import (
    conv_norm,
    masked_cross_entropy,
    pad_to_stride,
    upsample,
    upsample_and_crop,
)
from lhrs.downstream.network import LogitNetwork

_POOLS = (1, 2, 3, 6)
_DROPOUT = 0.1


class UPerHead(nn.Module):
    """Pyramid pooling on the coarsest map, a feature pyramid over all maps, and fusion at the finest map.

    Args:
        channels: channels of the four maps, finest first.
        width: channels of the head.
    """

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        last = channels[-1]
        self.pools = nn.ModuleList(nn.Sequential(nn.AdaptiveAvgPool2d(n), conv_norm(last, width, 1)) for n in _POOLS)
        self.pooled = conv_norm(last + len(_POOLS) * width, width)
        self.lateral = nn.ModuleList(conv_norm(c, width, 1) for c in channels[:-1])
        self.smooth = nn.ModuleList(conv_norm(width, width) for _ in channels[:-1])
        self.fuse = conv_norm(len(channels) * width, width)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return `(B, width, h, w)` at the first map's height and width."""
        last = maps[-1]
        pooled = [upsample(pool(last), last.shape[-2:]) for pool in self.pools]
        top = self.pooled(torch.cat([last, *pooled], 1))
        levels = [top]
        for x, lateral in zip(reversed(maps[:-1]), reversed(self.lateral), strict=True):  # type: ignore[call-overload]
            levels.append(lateral(x) + upsample(levels[-1], x.shape[-2:]))
        finest_first = levels[:0:-1]
        smooth = [conv(x) for conv, x in zip(self.smooth, finest_first, strict=True)]
        size = maps[0].shape[-2:]
        return self.fuse(torch.cat([smooth[0], *(upsample(x, size) for x in (*smooth[1:], top))], 1))


class SemanticSegmenter(LogitNetwork):
    """Segmenter with a cross-entropy loss per pixel, and in training an auxiliary head on the map at stride 16.

    Args:
        encoder: the backbone.
        num_classes: number of classes.
        head: `upernet`, or `linear` for a linear probe.
        decoder_channels: channels of the head; the auxiliary head has half as many.
        aux_loss_weight: weight of the auxiliary head's loss.
        class_weights: weights of the classes in the loss; None is 1 for each.
    """

    class_weights: Tensor | None
    heads = ("upernet", "linear")

    def __init__(
        self, encoder: Backbone, num_classes: int, head: str = "upernet", decoder_channels: int = 512,
        aux_loss_weight: float = 0.4, class_weights: list[float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.aux_loss_weight = aux_loss_weight if head == "upernet" else 0.0
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        if head == "upernet":
            self.backbone = FeaturePyramid(encoder)
            self.fpn = UPerHead(self.backbone.channels, decoder_channels)
            self.head = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(decoder_channels, num_classes, 1))
            if self.aux_loss_weight:
                self.extra = nn.Sequential(
                    conv_norm(self.backbone.channels[2], decoder_channels // 2), nn.Dropout2d(_DROPOUT),
                    nn.Conv2d(decoder_channels // 2, num_classes, 1),
                )  # fmt: skip
        else:
            self.backbone = encoder
            self.norm = nn.BatchNorm2d(encoder.width, affine=False)
            self.head = nn.Sequential(nn.Conv2d(encoder.width, num_classes, 1))

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits float32 `(B, num_classes, H, W)` of `(B, C, H, W)`."""
        return self._all_logits(pixels)[0]

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return `loss`; `target` is uint8 `(B, H, W)`, 255 for ignored pixels."""
        logits, extra = self._all_logits(pixels)
        loss = masked_cross_entropy(logits, target, self.class_weights)
        if extra is not None:
            loss = loss + self.aux_loss_weight * masked_cross_entropy(extra, target, self.class_weights)
        return {"loss": loss}

    def _all_logits(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self.backbone(pad_to_stride(pixels))
        if isinstance(self.backbone, Backbone):
            return upsample_and_crop(self.head(self.norm(maps)), pixels), None
        extra = upsample_and_crop(self.extra(maps[2]), pixels) if self.aux_loss_weight and self.training else None
        return upsample_and_crop(self.head(self.fpn(maps)), pixels), extra
