"""Any timm backbone as CMID needs it: a mask token behind the stem, and its last map in one layout."""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from lhrs.errors import ConfigError

_STEMS = ("maxpool", "stem", "patch_embed")
"""Where the first map comes out: ResNets, ConvNeXts and their kin, Swins and ViTs."""

_DEAR = 384
"""Multiplications per number of a result, from which on `recompute` keeps it: below, memory is dearer than time."""


class MaskedBackbone(nn.Module):
    """A timm model without its head.

    Args:
        name: timm's name of the architecture.
        in_chans: bands.
        size: side of the images in pixels.
        masked: learn a mask token (the student); a teacher sees whole images.
        **kwargs: further arguments of `timm.create_model`.

    Raises:
        ConfigError: timm has no such model, or cannot build it like this.
    """

    def __init__(self, name: str, in_chans: int, size: int, masked: bool, **kwargs: Any) -> None:
        super().__init__()
        self.model = create_backbone(name, in_chans, size, **kwargs)
        stem = next((part for part in _STEMS if isinstance(getattr(self.model, part, None), nn.Module)), None)
        if stem is None:
            raise ConfigError(f"backbone {name!r} has none of {', '.join(_STEMS)}, behind which masks could be put.")
        with torch.no_grad():
            self._layout, first, last = None, [], None
            handle = getattr(self.model, stem).register_forward_hook(lambda _m, _i, out: first.append(out))
            was = self.model.training
            last = to_feature_map(
                self.model.eval(), cast(Any, self.model).forward_features(torch.zeros(1, in_chans, size, size))
            )
            self.model.train(was)
            handle.remove()
        self.width, self.grid = last.shape[1], last.shape[2]
        self._layout = _layout(self.model, first[0])
        channels = first[0].shape[1] if self._layout == "NCHW" else first[0].shape[-1]
        self.mask_token = nn.Parameter(torch.zeros(channels)) if masked else None
        self._mask: Tensor | None = None
        if masked:
            getattr(self.model, stem).register_forward_hook(self._add_token)

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the last map `(B, width, grid, grid)`.

        Args:
            pixels: `(B, in_chans, S, S)` normalized, hidden cells filled already.
            mask: `(B, g, g)` bool; the token is added where it is set.
        """
        self._mask = mask
        try:
            return to_feature_map(self.model, cast(Any, self.model).forward_features(pixels))
        finally:
            self._mask = None

    def _add_token(self, _module: nn.Module, _inputs: tuple, out: Tensor) -> Tensor:
        if self._mask is None or self.mask_token is None:
            return out
        if self._layout == "NCHW":
            grid = F.interpolate(self._mask[:, None].to(out.dtype), out.shape[-2:], mode="nearest")
            return out + self.mask_token.to(out.dtype).view(1, -1, 1, 1) * grid
        side = out.shape[1] if self._layout == "NHWC" else int(out.shape[1] ** 0.5)
        grid = F.interpolate(self._mask[:, None].to(out.dtype), (side, side), mode="nearest")[:, 0]
        grid = grid[..., None] if self._layout == "NHWC" else grid.flatten(1)[..., None]
        return out + self.mask_token.to(out.dtype) * grid


def checkpoint_activations(model: nn.Module, names: Sequence[str]) -> None:
    """Let parts of a model keep only their input and what was dear to compute, for backward.

    All else (norms, activations, windows, attention, narrow convolutions) is computed again, block by block: less
    memory for little time. Batch-norm statistics of these parts move twice a step; those of the result are measured
    anew at the end.

    Args:
        model: of timm.
        names: submodules, such as `layer1` of a ResNet or `layers.0.blocks` of a Swin; in a sequence of blocks, each
            block is a part.

    Raises:
        ConfigError: there is no such submodule.
    """
    for name in names:
        try:
            part = model.get_submodule(name)
        except AttributeError:
            known = ", ".join(child for child, _ in model.named_children())
            raise ConfigError(f"the backbone has no part {name!r} to recompute; it has {known}.") from None
        for block in part if isinstance(part, nn.Sequential) else [part]:
            block.forward = partial(  # type: ignore[method-assign]
                checkpoint, block.forward, use_reentrant=False,
                context_fn=partial(create_selective_checkpoint_contexts, _keep),
            )  # fmt: skip


def _keep(_context: object, op: object, *args: Any, **_kwargs: Any) -> CheckpointPolicy:
    aten, depth = torch.ops.aten, 0
    if op == aten.convolution.default:
        depth = args[1][0].numel()
    elif op in (aten.mm.default, aten.bmm.default):
        depth = args[0].shape[-1]
    elif op == aten.addmm.default:
        depth = args[1].shape[-1]
    return CheckpointPolicy.MUST_SAVE if depth >= _DEAR else CheckpointPolicy.PREFER_RECOMPUTE


def create_backbone(name: str, in_chans: int, size: int, **kwargs: Any) -> nn.Module:
    """Return timm's model for images of a size, without a head.

    Raises:
        ConfigError: timm has no such model, or cannot build it like this.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise ConfigError(f"timm has no backbone {name!r}" + (f"; near: {', '.join(near)}" if near else "") + ".")
    settings: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans, "pretrained": False, **kwargs}
    try:
        try:  # those with position embeddings or windows are built for a size
            return timm.create_model(name, img_size=size, **settings)
        except TypeError:
            return timm.create_model(name, **settings)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"backbone {name!r} cannot be built: {' '.join(str(error).split())[:200]}") from error


def to_feature_map(model: nn.Module, features: Tensor) -> Tensor:
    """Return what `forward_features` gives as `(B, C, h, w)`; class and register tokens are dropped."""
    if features.ndim == 3:
        tokens = features[:, int(getattr(model, "num_prefix_tokens", 0)) :]
        side = int(tokens.shape[1] ** 0.5)
        return tokens.transpose(1, 2).unflatten(2, (side, side))
    return features.permute(0, 3, 1, 2) if _layout(model, features) == "NHWC" else features


def _layout(model: nn.Module, features: Tensor) -> str:
    if features.ndim == 3:
        return "NLC"
    # timm says it where it is not the usual one.
    return str(getattr(getattr(model, "output_fmt", None), "value", None) or getattr(model, "output_fmt", "NCHW"))
