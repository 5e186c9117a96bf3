"""Dense heads on an encoder's feature pyramid: scene classes, tags, land cover and objects in one pass.

The pyramid follows FPN (arXiv:1612.03144); objects are peaks of a center map with distances to the four sides of their
box, as in CenterNet (arXiv:1904.07850) and FCOS (arXiv:1904.01355).

Shapes: B images, L levels, C width, S scene classes, T tags, K land-cover classes, O object classes, h x w the grid of
the finest level (stride 4 for the usual encoders).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.errors import CheckpointError
from lhrs.models.configuration import LHRSHeadsConfig
from lhrs.models.state_dict import load_strict, read_safetensors

_PRIOR = 0.03
"""Initial probability of a center, so that the first steps are not spent on empty cells."""


HEADS_CONFIG = "dense_heads.json"
HEADS_WEIGHTS = "dense_heads.safetensors"


@dataclass
class DenseOutput:
    """Logits of all heads."""

    scene: Tensor
    """`(B, S)`."""
    tags: Tensor
    """`(B, T)`."""
    cover: Tensor
    """`(B, K, h, w)`."""
    centers: Tensor
    """`(B, O, h, w)`."""
    extents: Tensor
    """`(B, 4, h, w)`: log distances in cells from a cell's center to the left, top, right and bottom of its box."""
    features: Tensor
    """`(B, N)` for out-of-distribution detection: mean and standard deviation of each level's channels. Early levels
    tell photographs and radar from overhead images better than the last."""


class DenseHeads(nn.Module):
    """See the module's docstring.

    Args:
        config: sizes and names.
    """

    def __init__(self, config: LHRSHeadsConfig) -> None:
        super().__init__()
        self.config = config
        width, deepest = config.width, config.level_sizes[-1]
        self.lateral = nn.ModuleList(nn.Conv2d(size, width, 1) for size in config.level_sizes)
        self.smooth = nn.ModuleList(_separable(width) for _ in config.level_sizes)
        self.neck = nn.Sequential(
            nn.Conv2d(deepest, config.neck_width, 1, bias=False), nn.BatchNorm2d(config.neck_width), nn.ReLU6()
        )
        self.gsd = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width))
        self.dropout = nn.Dropout(config.dropout)
        pooled = config.neck_width + width
        self.scene = nn.Linear(pooled, len(config.scene_classes))
        self.tags = nn.Linear(pooled + width, len(config.tags))
        self.cover = nn.Sequential(_separable(width), nn.Conv2d(width, len(config.land_cover_classes), 1))
        self.objects = nn.Sequential(
            _separable(width), _separable(width), nn.Conv2d(width, len(config.object_classes) + 4, 1)
        )
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Initialize what is not left to the defaults of the layers."""
        for head in (self.scene, self.tags):
            nn.init.trunc_normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        bias = self.objects[-1].bias
        bias.zero_()  # type: ignore[operator, union-attr]
        bias[: len(self.config.object_classes)] = -torch.log(torch.tensor(1 / _PRIOR - 1))  # type: ignore[index, operator]
        last = self.gsd[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, levels: list[Tensor], gsd_m: Tensor | None = None) -> DenseOutput:
        """Return the logits of all heads.

        Args:
            levels: feature maps `(B, C_l, h_l, w_l)`, shallow to deep.
            gsd_m: `(B,)` meters per pixel of the input; 0 is unknown, None is unknown for all.
        """
        deep = self.neck(levels[-1])
        scale = self._scale(gsd_m, deep)
        y = self.lateral[-1](levels[-1]) + scale[:, :, None, None]
        y = self.smooth[-1](y)
        coarse = y
        for n in range(len(levels) - 2, -1, -1):
            side = self.lateral[n](levels[n])
            y = self.smooth[n](side + F.interpolate(y, scale_factor=2.0, mode="nearest"))
        pooled = torch.cat([deep.mean((2, 3)), coarse.mean((2, 3))], 1)
        found = self.objects(y)
        count = len(self.config.object_classes)
        return DenseOutput(
            scene=self.scene(self.dropout(pooled)),
            tags=self.tags(self.dropout(torch.cat([pooled, y.amax((2, 3))], 1))),
            cover=self.cover(y),
            centers=found[:, :count],
            extents=found[:, count:],
            features=torch.cat([_statistics(level) for level in levels], 1),
        )

    def _scale(self, gsd_m: Tensor | None, like: Tensor) -> Tensor:
        """Return the embedding `(B, C)` of the ground sampling distance; 1 m is the middle of its range."""
        if gsd_m is None:
            gsd_m = like.new_zeros(len(like))
        known = (gsd_m > 0).to(like.dtype)
        value = torch.log2(gsd_m.clamp(min=0.01)).to(like.dtype) / 4 * known
        return self.gsd(torch.stack([known, value], 1))


def load_heads(folder: Path) -> DenseHeads:
    """Return the dense heads next to an encoder.

    Raises:
        CheckpointError: a file is missing or broken.
    """
    try:
        config = LHRSHeadsConfig.from_dict(json.loads((folder / HEADS_CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is no result of perception training: {error}") from None
    heads = DenseHeads(config)
    load_strict(heads, read_safetensors(folder / HEADS_WEIGHTS), str(folder / HEADS_WEIGHTS))
    return heads


def _statistics(level: Tensor) -> Tensor:
    """Return mean and standard deviation `(B, 2 C)` of the channels of `(B, C, h, w)`."""
    mean = level.mean((2, 3))
    return torch.cat([mean, ((level - mean[:, :, None, None]) ** 2).mean((2, 3)).sqrt()], 1)


def _separable(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width), nn.ReLU(),
    )  # fmt: skip
