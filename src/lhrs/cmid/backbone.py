"""timm backbones for CMID: a mask token after the stem, and the last feature map as `(B, C, h, w)`."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from lhrs.errors import ConfigError

_STEMS = ("maxpool", "stem", "patch_embed")
"""Modules whose output is the first feature map: of ResNets, of ConvNeXts, of Swins and ViTs."""

_MIN_SAVED_DEPTH = 384
"""Multiplications per output value from which on `checkpoint_activations` saves an output instead of recomputing it."""


class MaskedBackbone(nn.Module):
    """A timm model without its head.

    Args:
        name: timm's name of the architecture.
        in_chans: bands.
        size: side of the images in pixels.
        masked: adds a trainable mask token, for the student; the teacher's images are not masked.
        **kwargs: further arguments of `timm.create_model`.

    Raises:
        ConfigError: timm has no such model, or cannot build it like this.
    """

    def __init__(self, name: str, in_chans: int, size: int, masked: bool, **kwargs: Any) -> None:
        super().__init__()
        self.model = create_backbone(name, in_chans, size, **kwargs)
        stem = next(
            (attribute for attribute in _STEMS if isinstance(getattr(self.model, attribute, None), nn.Module)), None
        )
        if stem is None:
            raise ConfigError(
                f"backbone {name!r} has none of {', '.join(_STEMS)}, after which the mask token is added."
            )
        with torch.no_grad():
            self._layout, first, last = None, [], None
            handle = getattr(self.model, stem).register_forward_hook(lambda _m, _i, out: first.append(out))
            was_training = self.model.training
            last = to_feature_map(
                self.model.eval(), cast(Any, self.model).forward_features(torch.zeros(1, in_chans, size, size))
            )
            self.model.train(was_training)
            handle.remove()
        self.width, self.grid = last.shape[1], last.shape[2]
        self._layout = _layout(self.model, first[0])
        channels = first[0].shape[1] if self._layout == "NCHW" else first[0].shape[-1]
        self.mask_token = nn.Parameter(torch.zeros(channels)) if masked else None
        self._mask: Tensor | None = None
        if masked:
            getattr(self.model, stem).register_forward_hook(self._add_token)

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the last feature map `(B, width, grid, grid)`.

        Args:
            pixels: `(B, in_chans, S, S)` normalized, masked patches filled already.
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
    """Apply selective activation checkpointing to submodules of a model.

    Inputs of blocks and outputs of large matrix products and convolutions are saved for backward. Other activations are
    recomputed block by block. Batch-norm statistics of these blocks are updated twice a step; those of the final model
    are recomputed at the end of training.

    Args:
        model: a timm model.
        names: submodules, such as `layer1` of a ResNet or `layers.0.blocks` of a Swin; in a sequence, each block is
            checkpointed separately.

    Raises:
        ConfigError: there is no such submodule.
    """
    for name in names:
        try:
            module = model.get_submodule(name)
        except AttributeError:
            children = ", ".join(child for child, _ in model.named_children())
            raise ConfigError(f"the backbone has no part {name!r} to recompute; it has {children}.") from None
        for block in module if isinstance(module, nn.Sequential) else [module]:
            block.forward = partial(  # type: ignore[method-assign]
                checkpoint, block.forward, use_reentrant=False,
                context_fn=partial(create_selective_checkpoint_contexts, _checkpoint_policy),
            )  # fmt: skip


def _checkpoint_policy(_context: object, op: object, *args: Any, **_kwargs: Any) -> CheckpointPolicy:
    aten, depth = torch.ops.aten, 0
    if op == aten.convolution.default:
        depth = args[1][0].numel()
    elif op in (aten.mm.default, aten.bmm.default):
        depth = args[0].shape[-1]
    elif op == aten.addmm.default:
        depth = args[1].shape[-1]
    return CheckpointPolicy.MUST_SAVE if depth >= _MIN_SAVED_DEPTH else CheckpointPolicy.PREFER_RECOMPUTE


def create_backbone(name: str, in_chans: int, size: int, **kwargs: Any) -> nn.Module:
    """Return a timm model without a head, for images of a size.

    Raises:
        ConfigError: timm has no such model, or cannot build it like this.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise ConfigError(f"timm has no backbone {name!r}" + (f"; near: {', '.join(near)}" if near else "") + ".")
    settings: dict[str, Any] = {"num_classes": 0, "in_chans": in_chans, "pretrained": False, **kwargs}
    try:
        try:  # models with position embeddings or windows need the image size
            return timm.create_model(name, img_size=size, **settings)
        except TypeError:
            return timm.create_model(name, **settings)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"backbone {name!r} cannot be built: {' '.join(str(error).split())[:200]}") from error


def to_feature_map(model: nn.Module, features: Tensor) -> Tensor:
    """Return the output of `forward_features` as `(B, C, h, w)`; class and register tokens are dropped."""
    if features.ndim == 3:
        tokens = features[:, int(getattr(model, "num_prefix_tokens", 0)) :]
        side = int(tokens.shape[1] ** 0.5)
        return tokens.transpose(1, 2).unflatten(2, (side, side))
    return features.permute(0, 3, 1, 2) if _layout(model, features) == "NHWC" else features


def _layout(model: nn.Module, features: Tensor) -> str:
    if features.ndim == 3:
        return "NLC"
    # timm sets `output_fmt` only if it is not NCHW.
    return str(getattr(getattr(model, "output_fmt", None), "value", None) or getattr(model, "output_fmt", "NCHW"))


@torch.no_grad()
def recompute_bn_stats(model: nn.Module, batches: Iterator[Tensor]) -> None:
    """Recompute batch-norm statistics on whole images; the student was trained on masked images.

    Args:
        model: the backbone, on any device.
        batches: normalized images `(B, C, S, S)`.
    """
    device = next(model.parameters()).device
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta, was_training = [m.momentum for m in norms], model.training
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the batches
    model.train()
    for batch in batches:
        model(batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)
