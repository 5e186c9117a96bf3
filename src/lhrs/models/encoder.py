"""Feature extraction from several levels of any transformers or timm vision encoder."""

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

TAIL = ("post_layernorm", "layernorm", "norm", "fc_norm", "head_norm", "pooler", "head")
"""Attribute names of the final norm and the pooling after the last level."""


def extract_levels(
    encoder: PreTrainedModel, pixel_values: Tensor, levels: list[int]
) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Return the tapped levels, each `(B, N_l, C_l)` row-major, and their (rows, columns).

    Class and register tokens are dropped. transformers encoders are read from `hidden_states` (0 = embeddings), timm
    models through `forward_intermediates`.

    Args:
        encoder: a transformers vision model, or `TimmWrapperModel`, after `remove_unused_layers`.
        pixel_values: `(B, 3, H, W)` normalized.
        levels: indices, shallow to deep.

    Raises:
        ValueError: the encoder's tokens are not a grid of patches.
    """
    if encoder.config.model_type == "timm_wrapper":
        hidden = encoder(pixel_values, output_hidden_states=list(levels), do_pooling=False).hidden_states
        return [h.flatten(2).transpose(1, 2) for h in hidden], [(h.shape[-2], h.shape[-1]) for h in hidden]
    hidden = encoder(pixel_values, output_hidden_states=True).hidden_states
    patch = cast(int, encoder.config.patch_size)
    grid = (pixel_values.shape[-2] // patch, pixel_values.shape[-1] // patch)
    prefix = hidden[0].shape[1] - grid[0] * grid[1]
    if prefix < 0:
        raise ValueError(f"{type(encoder).__name__} gave {hidden[0].shape[1]} tokens for a grid of {grid}")
    return [hidden[i][:, prefix:] for i in levels], [grid] * len(levels)


def level_widths(encoder: PreTrainedModel, levels: list[int]) -> list[int]:
    """Return the channels of each tapped level."""
    if encoder.config.model_type == "timm_wrapper":
        info = cast(Any, encoder.timm_model).feature_info
        return [info[i]["num_chs"] for i in levels]
    return [cast(int, encoder.config.hidden_size)] * len(levels)


def truncate_layers(config: PreTrainedConfig, levels: list[int]) -> None:
    """Remove the layers of a transformers encoder after the deepest tapped level."""
    if config.model_type != "timm_wrapper":
        config.num_hidden_layers = min(config.num_hidden_layers, max(levels))


def remove_unused_layers(encoder: PreTrainedModel, levels: list[int]) -> None:
    """Remove what follows the deepest tapped level: layers, the final norm, pooling and the head.

    They take memory, and distributed training fails for parameters without a gradient. `truncate_layers` does the same
    for the layers of a transformers encoder.
    """
    is_timm = encoder.config.model_type == "timm_wrapper"
    module = cast(nn.Module, encoder.timm_model if is_timm else encoder)
    if is_timm:
        prune_timm(module, levels)
    for name in TAIL:
        if isinstance(getattr(module, name, None), nn.Module):
            setattr(module, name, nn.Identity())


def prune_timm(model: nn.Module, levels: list[int]) -> None:
    """Remove the layers of a timm model after the deepest of some levels, and its head."""
    prune = getattr(model, "prune_intermediate_layers", None)
    if prune is not None:
        prune(list(levels), prune_norm=True, prune_head=True)
