"""Read several levels of any transformers or timm vision encoder as token sequences with their grids."""

import torch
from torch import Tensor, nn


def read_levels(
    encoder: nn.Module, pixel_values: Tensor, levels: list[int]
) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Return the tapped levels, each `(B, N_l, C_l)` row-major, and their (rows, columns).

    Class and register tokens are dropped. transformers encoders are read from `hidden_states` (0 = embeddings), which are
    taken before any final LayerNorm; timm models through `forward_intermediates`.

    Args:
        encoder: a transformers vision model, or `TimmWrapperModel`.
        pixel_values: `(B, 3, H, W)` normalised.
        levels: indices, shallow to deep.
    """
    if encoder.config.model_type == "timm_wrapper":
        hidden = encoder(pixel_values, output_hidden_states=list(levels), do_pooling=False).hidden_states
        return [h.flatten(2).transpose(1, 2) for h in hidden], [(h.shape[-2], h.shape[-1]) for h in hidden]
    out = encoder(pixel_values, output_hidden_states=True)
    patch = encoder.config.patch_size
    grid = (pixel_values.shape[-2] // patch, pixel_values.shape[-1] // patch)
    tokens = [out.hidden_states[i] for i in levels]
    prefix = tokens[0].shape[1] - grid[0] * grid[1]
    if prefix < 0:
        raise ValueError(f"{type(encoder).__name__} gave {tokens[0].shape[1]} tokens for a grid of {grid}")
    return [t[:, prefix:] for t in tokens], [grid] * len(tokens)


def drop_unused_head(encoder: nn.Module) -> None:
    """Remove pooling heads whose output nobody reads, so that they take no memory and get no gradient."""
    for name in ("head", "post_layernorm", "pooler", "layernorm"):
        if isinstance(getattr(encoder, name, None), torch.nn.Module):
            setattr(encoder, name, _Pass())


class _Pass(nn.Module):
    """Identity that accepts whatever a pooling head accepts."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return x
