"""Backbones of timm or of `lhrs pretrain`, with one feature map or four at strides 4, 8, 16 and 32."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch.nn.functional as F
from pydantic import ValidationError
from timm.layers import LayerNorm2d
from timm.models import adapt_input_conv, group_parameters
from torch import Tensor, nn

from lhrs.config import validation_message
from lhrs.errors import CheckpointError, ConfigError
from lhrs.imagery.normalization import Normalization
from lhrs.models.encoder import prune_timm
from lhrs.models.importers.backbone_checkpoint import load_backbone_checkpoint
from lhrs.models.presets import NANO, nano_folder
from lhrs.models.state_dict import load_strict
from lhrs.models.timm_io import read_timm_folder

STRIDES = (4, 8, 16, 32)
INTERPOLATIONS = ("bicubic", "bilinear")
"""The first is the default, for backbones without a stated interpolation."""
_ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})
"""Arguments by which families of timm models accept images of any size."""
EFFICIENTNET_TAIL = ("conv_head", "bn2")
"""Layers of timm's EfficientNets after the last feature map; some folders leave them out."""
_PYRAMID_WIDTH = 256


def backbone_dir(name: str) -> Path | None:
    """Return the folder of a backbone's weights; None for a timm name."""
    if name == NANO:
        return nano_folder()
    return Path(name) if Path(name).is_dir() else None


def fix_batch_norms(module: nn.Module) -> None:
    """Put batch norms into evaluation mode: they keep their statistics in training. Weights still learn."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


class Backbone(nn.Module):
    """A backbone without its head, for images of any size.

    Args:
        name: name of a timm model; or a folder of `lhrs pretrain`, or of a multimodal model with a timm encoder;
            `lhrs-nano` is the encoder of the embedded model.
        in_chans: number of bands; the weights of a first layer for three bands are adapted to another number.
        args: further arguments of `timm.create_model`, such as `drop_path_rate`.
        pretrained: timm's weights instead of random ones; only for timm names.
        is_folder: False treats the name as a timm name even if a folder of that name exists; None checks for a folder.
        levels: levels of a multimodal model's encoder, whose layers end after the deepest; None is those of the folder.

    Raises:
        ConfigError: timm has no such backbone, or cannot build it with these arguments.
        CheckpointError: the folder's weights are broken or do not fit.
    """

    def __init__(
        self, name: str, in_chans: int = 3, args: dict[str, Any] | None = None, pretrained: bool = False,
        is_folder: bool | None = None, levels: Sequence[int] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        folder = None if is_folder is False else backbone_dir(name)
        state, stored = read_timm_folder(folder) if folder else (None, {})
        architecture = stored.get("architecture", name)
        args = {k: v for k, v in {**stored.get("model_args", {}), **(args or {})}.items() if k != "in_chans"}
        checkpoint = args.pop("checkpoint_path", None)
        levels = levels or stored.get("levels")
        self.settings = {"name": architecture, "in_chans": in_chans, "args": args, "levels": levels}
        """Arguments that rebuild this backbone without the folder."""
        self.model = _create(architecture, in_chans, args, pretrained)
        if levels:
            prune_timm(self.model, list(levels))
        if state is not None:
            if not any(key.startswith(f"{EFFICIENTNET_TAIL[0]}.") for key in state):
                self.remove_tail()
            _load(self.model, state, in_chans, name)
        if checkpoint is not None:
            load_backbone_checkpoint(self.model, Path(checkpoint))
        cfg = stored.get("pretrained_cfg") or (cast(Any, self.model).pretrained_cfg if pretrained else {})
        self.normalization = _normalization(stored.get("normalization"), cfg, name)
        """Normalization of its training images; None if its weights are random."""
        saved = cfg.get("interpolation")
        self.interpolation = saved if saved in INTERPOLATIONS else INTERPOLATIONS[0]
        """Interpolation with which these images were resized."""
        info = cast(Any, self.model.feature_info)
        info = (info if isinstance(info, list) else info.info)[: max(levels) + 1 if levels else None]
        reductions = [int(level["reduction"]) for level in info]
        self.plain = len(set(reductions)) == 1
        """True for a plain ViT: all feature maps have one stride."""
        first = len(info) - 1 if self.plain else max(len(info) - 4, 0)
        self.taken = list(range(first, len(info)))
        self.strides = tuple(reductions[first:])
        self.widths = tuple(int(level["num_chs"]) for level in info[first:])
        self.width = self.widths[-1]
        self.frozen = False
        self.fixed_norm = False
        """Batch norms keep their statistics in training, as is usual for pretrained backbones and small batches."""

    def remove_tail(self) -> None:
        """Remove the layers of an EfficientNet after its last feature map, which `feature_maps` does not use."""
        for part in EFFICIENTNET_TAIL:
            if hasattr(self.model, part):
                setattr(self.model, part, nn.Identity())

    def freeze(self) -> None:
        """Freeze all weights and batch-norm statistics."""
        self.frozen = True
        self.requires_grad_(False).eval()

    def freeze_stages(self, count: int) -> None:
        """Freeze the first stages and the stem; 0 freezes nothing.

        Raises:
            ConfigError: timm does not know the stages.
        """
        if not count:
            return
        matcher = getattr(self.model, "group_matcher", None)
        if matcher is None:
            raise ConfigError(f"frozen_stages: timm does not know the stages of {self.settings['name']}.")
        stages = group_parameters(self.model, matcher(coarse=True))
        frozen = {name for names in list(stages.values())[: count + 1] for name in names}
        for name, parameter in self.model.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> "Backbone":
        """Set training mode; a frozen backbone, and batch norms with `fixed_norm`, stay in evaluation mode."""
        super().train(mode and not self.frozen)
        if self.fixed_norm:
            fix_batch_norms(self)
        return self

    def feature_maps(self, pixels: Tensor, which: Sequence[int]) -> list[Tensor]:
        """Return some of the feature maps, `(B, C, ceil(H / stride), ceil(W / stride))`.

        Args:
            pixels: normalized `(B, in_chans, H, W)`.
            which: increasing indices into `strides`.
        """
        high, wide = pixels.shape[-2:]
        unit = max(math.lcm(*self.strides), STRIDES[-1])
        padded = F.pad(pixels, (0, -wide % unit, 0, -high % unit))
        maps = cast(Any, self.model).forward_intermediates(
            padded, indices=[self.taken[n] for n in which], norm=True, stop_early=True, output_fmt="NCHW",
            intermediates_only=True,
        )  # fmt: skip
        strides = [self.strides[n] for n in which]
        return [x[..., : -(-high // s), : -(-wide // s)] for x, s in zip(maps, strides, strict=True)]

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the last feature map."""
        return self.feature_maps(pixels, [len(self.strides) - 1])[0]


class FeaturePyramid(nn.Module):
    """Four feature maps at strides 4, 8, 16 and 32, with `channels` channels.

    Hierarchical backbones return one map per stage. A layer norm is added to each map of backbones without batch norm.
    Maps with a smaller stride are average-pooled. The last map of a plain ViT is up- and downsampled (ViTDet,
    arXiv:2203.16527).

    Args:
        encoder: the backbone.
        which: increasing indices into `STRIDES` of the maps to return.

    Raises:
        ConfigError: the backbone's strides do not fit these.
    """

    def __init__(self, encoder: Backbone, which: Sequence[int] = (0, 1, 2, 3)) -> None:
        super().__init__()
        self.encoder, self.which = encoder, list(which)
        if encoder.plain:
            stride = encoder.strides[-1]
            if stride & (stride - 1):
                raise ConfigError(f"patches of {stride} pixels are no power of two: set backbone.args patch_size: 16.")
            self.levels = nn.ModuleList(_scaled(encoder.width, stride, STRIDES[n]) for n in which)
            self.channels = [_PYRAMID_WIDTH] * len(self.which)
            return
        if len(encoder.strides) != 4 or any(s > w or w % s for s, w in zip(encoder.strides, STRIDES, strict=True)):
            raise ConfigError(f"a backbone with feature maps at strides {encoder.strides} has none at {STRIDES}.")
        self.channels = [encoder.widths[n] for n in which]
        has_batch_norm = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())
        pools = [STRIDES[n] // encoder.strides[n] for n in which]
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.AvgPool2d(pool, ceil_mode=True, count_include_pad=False) if pool > 1 else nn.Identity(),
                nn.Identity() if has_batch_norm else LayerNorm2d(width),
            )
            for pool, width in zip(pools, self.channels, strict=True)
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """Return maps `(B, channels[i], ceil(H / stride), ceil(W / stride))` of normalized `(B, in_chans, H, W)`."""
        high, wide = pixels.shape[-2:]
        plain = self.encoder.plain
        maps = [self.encoder(pixels)] * len(self.which) if plain else self.encoder.feature_maps(pixels, self.which)
        resampled = [level(x) for level, x in zip(self.levels, maps, strict=True)]
        strides = [STRIDES[n] for n in self.which]
        return [x[..., : -(-high // s), : -(-wide // s)] for x, s in zip(resampled, strides, strict=True)]


def _normalization(saved: dict[str, Any] | None, cfg: dict[str, Any], name: str) -> Normalization | None:
    """Return the normalization of a backbone folder, or timm's for 8-bit images."""
    if saved is None:
        if cfg.get("mean") is None or cfg.get("std") is None:
            return None
        saved = {"max_value": 255, "mean": cfg["mean"], "std": cfg["std"]}
    try:
        return Normalization.model_validate(saved)
    except ValidationError as error:
        raise CheckpointError(
            f"{name} has no usable normalization: {validation_message(error, Normalization, saved)}"
        ) from None


def _scaled(width: int, stride: int, target_stride: int) -> nn.Sequential:
    """Return layers that resample a feature map to another stride and to the pyramid's width."""
    steps: list[nn.Module] = []
    while stride > target_stride:
        steps += [nn.ConvTranspose2d(width, width // 2, 2, 2), LayerNorm2d(width // 2), nn.GELU()]
        width, stride = width // 2, stride // 2
    if stride < target_stride:
        steps.append(nn.MaxPool2d(target_stride // stride, ceil_mode=True))
    for size in (1, 3):
        steps += [nn.Conv2d(width, _PYRAMID_WIDTH, size, padding=size // 2, bias=False), LayerNorm2d(_PYRAMID_WIDTH)]
        width = _PYRAMID_WIDTH
    return nn.Sequential(*steps)


def _create(name: str, in_chans: int, args: dict[str, Any], pretrained: bool) -> nn.Module:
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5])
        raise ConfigError(f"backbone {name!r} is neither a folder nor a model of timm{near and f'; near: {near}'}.")
    settings: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans, "pretrained": pretrained, **args}
    try:
        for extra in _ANY_SIZE:
            try:
                model = timm.create_model(name, **{**extra, **settings})
                break
            except TypeError:
                if not extra:
                    raise
    except Exception as error:  # timm and huggingface_hub raise many types
        raise ConfigError(f"backbone {name!r} cannot be built: {' '.join(str(error).split())[:200]}") from error
    if not hasattr(model, "forward_intermediates") or not getattr(model, "feature_info", None):
        raise ConfigError(f"timm returns no feature maps for backbone {name!r}.")
    return model


def _load(model: nn.Module, state: dict[str, Tensor], in_chans: int, source: str) -> None:
    """Load weights; those of a first layer for three bands are adapted to `in_chans`.

    Raises:
        CheckpointError: the weights do not fit.
    """
    expected = model.state_dict()
    for name, value in state.items():
        parameter = expected.get(name)
        if parameter is not None and parameter.ndim == 4 and value.ndim == 4 and parameter.shape != value.shape:
            if value.shape[1] != 3 or parameter.shape[1] != in_chans:
                raise CheckpointError(
                    f"{source} was trained on {value.shape[1]} bands, the images have {in_chans}: set data.bands."
                )
            state[name] = cast(Tensor, adapt_input_conv(in_chans, value))
    used = {
        n: value for n, value in state.items() if n in expected or not n.startswith(("head.", "fc.", "classifier."))
    }
    load_strict(model, used, source)
