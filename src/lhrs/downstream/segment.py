"""Classes of pixels: UPerNet (Xiao et al. 2018, arXiv:1807.10221), or one linear layer on the last map."""

import torch
from torch import Tensor, nn

from lhrs.downstream.backbone import Encoder, Pyramid
from lhrs.downstream.task import ScoringTask, conv_norm, enlarge, over_pixels, padded, pixel_loss

_POOLS = (1, 2, 3, 6)
_DROPOUT = 0.1


class UPerHead(nn.Module):
    """Pyramid pooling on the coarsest map, a feature pyramid over all, and their fusion at the finest.

    Args:
        channels: of the four maps, finest first.
        width: of the head.
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
        pooled = [enlarge(pool(last), last.shape[-2:]) for pool in self.pools]
        top = self.pooled(torch.cat([last, *pooled], 1))
        levels = [top]
        for x, lateral in zip(reversed(maps[:-1]), reversed(self.lateral), strict=True):  # type: ignore[call-overload]
            levels.append(lateral(x) + enlarge(levels[-1], x.shape[-2:]))
        finest_first = levels[:0:-1]
        smooth = [conv(x) for conv, x in zip(self.smooth, finest_first, strict=True)]
        size = maps[0].shape[-2:]
        return self.fuse(torch.cat([smooth[0], *(enlarge(x, size) for x in (*smooth[1:], top))], 1))


class Segment(ScoringTask):
    """Cross-entropy per pixel, with that of an auxiliary head on the map at stride 16 while learning.

    Args:
        encoder: its backbone.
        num_classes: of pixels.
        head: `upernet`, or `linear` for the linear probe.
        width: of the head.
        auxiliary: weight of the auxiliary head's loss; its width is half the head's.
        class_weights: of the classes in the loss; None is 1 for each.
    """

    class_weights: Tensor | None
    heads = ("upernet", "linear")

    def __init__(
        self, encoder: Encoder, num_classes: int, head: str = "upernet", width: int = 512, auxiliary: float = 0.4,
        class_weights: list[float] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.auxiliary = auxiliary if head == "upernet" else 0.0
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        if head == "upernet":
            self.backbone = Pyramid(encoder)
            self.fpn = UPerHead(self.backbone.channels, width)
            self.head = nn.Sequential(nn.Dropout2d(_DROPOUT), nn.Conv2d(width, num_classes, 1))
            if self.auxiliary:
                self.extra = nn.Sequential(
                    conv_norm(self.backbone.channels[2], width // 2), nn.Dropout2d(_DROPOUT),
                    nn.Conv2d(width // 2, num_classes, 1),
                )  # fmt: skip
        else:
            self.backbone = encoder
            self.norm = nn.BatchNorm2d(encoder.width, affine=False)
            self.head = nn.Sequential(nn.Conv2d(encoder.width, num_classes, 1))

    def scores(self, pixels: Tensor) -> Tensor:
        """Return float32 `(B, num_classes, H, W)` of `(B, C, H, W)`."""
        return self._all_scores(pixels)[0]

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return `loss`; `target` is uint8 `(B, H, W)`, 255 where nothing counts."""
        scores, extra = self._all_scores(pixels)
        loss = pixel_loss(scores, target, self.class_weights)
        if extra is not None:
            loss = loss + self.auxiliary * pixel_loss(extra, target, self.class_weights)
        return {"loss": loss}

    def _all_scores(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self.backbone(padded(pixels))
        if isinstance(self.backbone, Encoder):
            return over_pixels(self.head(self.norm(maps)), pixels), None
        extra = over_pixels(self.extra(maps[2]), pixels) if self.auxiliary and self.training else None
        return over_pixels(self.head(self.fpn(maps)), pixels), extra
