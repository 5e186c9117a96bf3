"""Change detection: one backbone for both dates, and BIT (Chen et al. 2021, arXiv:2103.00208) or a difference."""

import torch
import torch.nn.functional as F
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

_WIDTH = 32
_TOKENS = 4
_HEADS, _HEAD_WIDTH = 8, 64
_ENCODERS, _DECODERS = 1, 8


class _Attention(nn.Module):
    """Cross-attention from queries to tokens and an MLP, each with a residual connection."""

    def __init__(self) -> None:
        super().__init__()
        inner = _HEADS * _HEAD_WIDTH
        self.norm, self.mlp_norm = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.q = nn.Linear(_WIDTH, inner, bias=False)
        self.kv = nn.Linear(_WIDTH, 2 * inner, bias=False)
        self.out = nn.Linear(inner, _WIDTH)
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, 2 * _WIDTH), nn.GELU(), nn.Linear(2 * _WIDTH, _WIDTH))

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """Return `(B, N, C)` of `(B, N, C)` and `(B, M, C)`."""

        def split(y: Tensor) -> Tensor:
            return y.unflatten(2, (_HEADS, _HEAD_WIDTH)).transpose(1, 2)

        keys, values = self.kv(self.norm(tokens)).chunk(2, 2)
        attended = F.scaled_dot_product_attention(split(self.q(self.norm(x))), split(keys), split(values))
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.mlp_norm(x))


class Bit(nn.Module):
    """Bitemporal image transformer: tokens of both dates attend to each other, pixels to the tokens of their date."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Conv2d(_WIDTH, _TOKENS, 1, bias=False)
        self.position = nn.Parameter(torch.randn(1, 2 * _TOKENS, _WIDTH) * 0.02)
        self.encoder = nn.ModuleList(_Attention() for _ in range(_ENCODERS))
        self.decoder = nn.ModuleList(_Attention() for _ in range(_DECODERS))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Return both feature maps `(B, 32, h, w)`, each with context of the other date."""
        pixels = [x.flatten(2).transpose(1, 2) for x in (first, second)]
        tokens = torch.cat([
            self.where(x).flatten(2).softmax(2) @ flat for x, flat in zip((first, second), pixels, strict=True)
        ], 1) + self.position  # fmt: skip
        for block in self.encoder:
            tokens = block(tokens, tokens)
        maps = []
        for flat, own in zip(pixels, tokens.chunk(2, 1), strict=True):
            for block in self.decoder:
                flat = block(flat, own)
            maps.append(flat.transpose(1, 2).unflatten(2, first.shape[-2:]))
        return maps[0], maps[1]


class ChangeDetector(LogitNetwork):
    """Change detector with a cross-entropy loss per pixel; classes are `no change` and `change`.

    Args:
        encoder: backbone, shared by both dates.
        num_classes: 2.
        head: `bit`; `difference`, the same without the transformer; `linear`, a linear probe on the difference of the
            last feature maps.
        class_weights: weights of the classes in the loss; None is 1 for each.
    """

    class_weights: Tensor | None
    heads = ("bit", "difference", "linear")

    def __init__(
        self, encoder: Backbone, num_classes: int = 2, head: str = "bit", class_weights: list[float] | None = None
    ) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        if head == "linear":
            self.backbone = encoder
            self.norm = nn.BatchNorm2d(encoder.width, affine=False)
            self.head = nn.Sequential(nn.Conv2d(encoder.width, num_classes, 1))
            return
        self.backbone = FeaturePyramid(encoder, [2])
        self.narrow = nn.Conv2d(self.backbone.channels[0], _WIDTH, 3, padding=1)
        self.bit = Bit() if head == "bit" else None
        self.head = nn.Sequential(conv_norm(_WIDTH, _WIDTH), nn.Conv2d(_WIDTH, num_classes, 3, padding=1))

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits `(B, 2, H, W)` of both dates `(B, 2, C, H, W)`.

        In the published model, the map at stride 16 is upsampled by 2, and the difference is upsampled to pixels before
        the head. Here the head runs at stride 4, at a sixteenth of the cost, and its logits are upsampled.
        """
        both = pad_to_stride(pixels.flatten(0, 1))
        if isinstance(self.backbone, FeaturePyramid):
            maps = self.narrow(F.interpolate(self.backbone(both)[0], scale_factor=2, mode="nearest"))
            first, second = maps.unflatten(0, (-1, 2)).unbind(1)
            if self.bit is not None:
                first, second = self.bit(first, second)
            gap = (first - second).abs()
            scores = self.head(upsample(gap, (2 * gap.shape[-2], 2 * gap.shape[-1])))
        else:
            first, second = self.norm(self.backbone(both)).unflatten(0, (-1, 2)).unbind(1)
            scores = self.head((first - second).abs())
        return upsample_and_crop(scores, pixels)

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return `loss`; `target` is uint8 `(B, H, W)`: 0, 1, or 255 for ignored pixels."""
        return {"loss": masked_cross_entropy(self.logits(pixels), target, self.class_weights)}
