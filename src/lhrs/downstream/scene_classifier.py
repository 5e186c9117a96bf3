"""Scene classification: a linear layer on the global average of the last feature map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.downstream.backbone import Backbone
from lhrs.downstream.network import LogitNetwork


class SceneClassifier(LogitNetwork):
    """Scene classifier with a cross-entropy loss on classes, or on the class fractions of mixed images.

    Args:
        encoder: the backbone.
        num_classes: number of classes.
        head: `linear`; with a frozen backbone this is a linear probe.
        standardize: batch-normalize features before the linear layer, as in linear probes.
        dropout: dropout before the linear layer.
    """

    heads = ("linear",)

    def __init__(
        self, encoder: Backbone, num_classes: int, head: str = "linear", standardize: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = encoder
        self.norm = nn.BatchNorm1d(encoder.width, affine=False) if standardize else nn.Identity()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(encoder.width, num_classes))
        nn.init.trunc_normal_(self.head[1].weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[1].bias)  # type: ignore[arg-type]

    def features(self, pixels: Tensor) -> Tensor:
        """Return features `(B, width)` of `(B, C, H, W)`: the average of the last feature map."""
        return self.backbone(pixels).mean((2, 3))

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits `(B, num_classes)` of `(B, C, H, W)`."""
        return self.head(self.norm(self.features(pixels)))

    @torch.no_grad()
    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Initialize the head with a linear classifier of `features`."""
        self.head[1].weight.copy_(weight)  # type: ignore[operator, union-attr]
        self.head[1].bias.copy_(bias)  # type: ignore[operator, union-attr]

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return `loss`; `target` is `(B,)` class indices or `(B, num_classes)` fractions."""
        return {"loss": F.cross_entropy(self.logits(pixels).float(), target)}
