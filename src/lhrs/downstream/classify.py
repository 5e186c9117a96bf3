"""Classes of scenes: a linear layer on the average of the last map."""

import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.downstream.backbone import Encoder
from lhrs.downstream.task import ScoringTask


class Classify(ScoringTask):
    """Cross-entropy on classes, or on the shares of classes that mixed images have.

    Args:
        encoder: its backbone.
        num_classes: of scenes.
        head: `linear`; with a frozen encoder that is the linear probe.
        standardise: bring features to mean 0 and deviation 1 before the linear layer, as linear probes do.
        dropout: before the linear layer.
    """

    heads = ("linear",)

    def __init__(
        self, encoder: Encoder, num_classes: int, head: str = "linear", standardise: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.backbone = encoder
        self.norm = nn.BatchNorm1d(encoder.width, affine=False) if standardise else nn.Identity()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(encoder.width, num_classes))
        nn.init.trunc_normal_(self.head[1].weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[1].bias)  # type: ignore[arg-type]

    def features(self, pixels: Tensor) -> Tensor:
        """Return `(B, width)` of `(B, C, H, W)`: the average of the last map."""
        return self.backbone(pixels).mean((2, 3))

    def scores(self, pixels: Tensor) -> Tensor:
        """Return `(B, num_classes)` of `(B, C, H, W)`."""
        return self.head(self.norm(self.features(pixels)))

    def set_head(self, linear: nn.Linear) -> None:
        """Go on from a classifier of `features`."""
        self.head[1].load_state_dict(linear.state_dict())

    def forward(self, pixels: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return `loss`; `target` is `(B,)` numbers or `(B, num_classes)` shares."""
        return {"loss": F.cross_entropy(self.scores(pixels).float(), target)}
