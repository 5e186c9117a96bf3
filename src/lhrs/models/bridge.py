"""The bridge: trainable queries attend to several encoder levels and yield a few image tokens for the language model.

One class for LHRS-Bot (arXiv:2402.02544) and LHRS-Bot-Nova (arXiv:2411.09301); `LHRSBridgeConfig` holds the difference.
Levels do not attend to each other. All levels are one sequence under a block mask, with one feed-forward call and no
loop over levels.

Shapes: B images, L levels, N_l tokens of level l, N = sum of N_l, Q = all queries, C bridge width, D language width,
E experts, K experts per token, T = B * Q.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from lhrs.errors import CheckpointError, ConfigError
from lhrs.models.configuration import LHRSBridgeConfig
from lhrs.models.moe import MixtureOfExperts, RouterReport
from lhrs.models.state_dict import load_strict


@dataclass
class BridgeOutput:
    """Image tokens and the routers' statistics."""

    tokens: Tensor
    """`(B, Q, D)`."""
    router: RouterReport | None
    """None for dense bridges."""


class Bridge(nn.Module):
    """Map tapped encoder levels to image tokens of the language model's width."""

    def __init__(self, config: LHRSBridgeConfig, language_size: int) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.query = nn.Parameter(torch.empty(1, config.num_tokens, width))
        sizes = config.level_sizes or [width] * len(config.queries)
        self.in_proj = nn.ModuleList(nn.Identity() if s == width else nn.Linear(s, width) for s in sizes)
        eps = config.layer_norm_eps
        norm = (lambda: nn.LayerNorm(width, eps=eps)) if config.outer_norms else nn.Identity
        self.query_norm, self.key_norm, self.out_norm = norm(), norm(), norm()
        self.layers = nn.ModuleList(BridgeBlock(config) for _ in range(config.num_layers))
        self.out_proj = nn.Linear(width, language_size)

    def forward(self, levels: list[Tensor], grids: list[tuple[int, int]]) -> BridgeOutput:
        """Return image tokens.

        Args:
            levels: one `(B, N_l, C_l)` per level, row-major over its grid.
            grids: (rows, columns) of each level.

        Raises:
            ValueError: the number of levels differs from the configuration.
        """
        if len(levels) != len(self.config.queries):
            raise ValueError(f"the bridge reads {len(self.config.queries)} levels, got {len(levels)}")
        image = torch.cat([proj(x) for proj, x in zip(self.in_proj, levels, strict=True)], dim=1)
        image = self.key_norm(image)
        query = self.query_norm(self.query).expand(len(image), -1, -1).to(image.dtype)
        keys, values = image, image
        if self.config.key_positions == "sincos2d":
            keys = image + torch.cat([sincos2d(g, self.config.hidden_size, image) for g in grids])
        sizes = [x.shape[1] for x in levels]
        if self.config.keys_include_queries:
            keys = values = torch.cat([query, image], dim=1)
        mask = level_mask(self.config.queries, sizes, self.config.keys_include_queries, image.device)
        reports, x = [], query
        for layer in self.layers:
            x, *report = layer(x, keys, values, mask)
            if report:
                reports.append(RouterReport(*report))
        router = RouterReport.mean(reports) if reports else None
        return BridgeOutput(self.out_proj(self.out_norm(x)), router)

    def init_weights(self) -> None:
        """Initialize the queries (linear layers and norms are initialised by the owning model)."""
        if self.config.query_init == "normal":
            init.trunc_normal_(self.query, std=self.config.initializer_range)
            return
        sides = [round(count**0.5) for count in self.config.queries]
        init.copy_(self.query, torch.cat([sincos2d((n, n), self.config.hidden_size, self.query) for n in sides])[None])
        for layer in cast(Iterable[BridgeBlock], self.layers):
            init.copy_(layer.k_proj.weight, layer.q_proj.weight)


class BridgeBlock(GradientCheckpointingLayer):
    """Pre-norm cross-attention, then a feed-forward; keys and values share one LayerNorm."""

    def __init__(self, config: LHRSBridgeConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.num_heads = config.num_heads
        self.query_norm, self.key_norm, self.mlp_norm = (nn.LayerNorm(width, eps=eps) for _ in range(3))
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        inner = round(width * config.mlp_ratio)
        self.mlp = MixtureOfExperts(config, inner) if config.num_experts > 1 else FeedForward(width, inner)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        """Map queries `(B, Q, C)` and keys/values `(B, N, C)` under a boolean mask `(Q, N)` to `(B, Q, C)`.

        With experts the router's balance loss and usage follow, as bare tensors: gradient checkpointing looks for
        tensors among the outputs, not inside them.
        """
        k = self.key_norm(keys)
        v = k if values is keys else self.key_norm(values)
        q, k, v = self.q_proj(self.query_norm(x)), self.k_proj(k), self.v_proj(v)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (q, k, v))
        x = x + self.o_proj(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
        if isinstance(self.mlp, FeedForward):
            return (x + self.mlp(self.mlp_norm(x)),)
        y, report = self.mlp(self.mlp_norm(x))
        return x + y, report.balance_loss, report.usage


class FeedForward(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


def level_mask(queries: list[int], sizes: list[int], with_queries: bool, device: torch.device) -> Tensor | None:
    """Return the boolean attention mask `(Q, keys)`: each query attends only to its own level (True)."""
    if len(queries) == 1:
        return None
    of_query, of_key = _level_of_each(queries, device), _level_of_each(sizes, device)
    if with_queries:
        of_key = torch.cat([of_query, of_key])
    return of_query[:, None] == of_key[None]


def _level_of_each(counts: list[int], device: torch.device) -> Tensor:
    return torch.arange(len(counts), device=device).repeat_interleave(torch.tensor(counts, device=device))


def sincos2d(grid: tuple[int, int], width: int, like: Tensor) -> Tensor:
    """Return fixed positions `(rows * columns, width)` with the dtype and device of `like`.

    The first half of the channels encodes the column, the second the row. Per axis half the channels are sines, half
    cosines, with frequencies 10000^(-i / (width / 4)).
    """
    rows, columns = grid
    index = torch.arange(max(columns, rows, width // 4), device=like.device, dtype=torch.float64)
    omega = 1.0 / 10000 ** (index[: width // 4] / (width / 4))
    angles = [index[:n, None] * omega for n in (columns, rows)]
    column, row = (torch.cat([a.sin(), a.cos()], dim=1) for a in angles)
    both = [column[None].expand(rows, -1, -1), row[:, None].expand(-1, columns, -1)]
    return torch.cat(both, dim=-1).flatten(0, 1).to(like.dtype)


@torch.no_grad()
def upcycle(dense: Bridge, mixture: Bridge) -> None:
    """Copy a dense bridge into one with experts, in place; both compute the same until the router is trained.

    Upcycling (arXiv:2212.05055) copies the feed-forward into every expert; the weights of a token's experts sum to one.

    Raises:
        ConfigError: the mixture's experts are linear and so cannot reproduce a feed-forward, or the bridges differ in
            more than their experts.
    """
    if mixture.config.expert_style != "gelu":
        raise ConfigError("linear experts cannot take over a dense feed-forward; use expert_style 'gelu'")
    state = dense.state_dict()
    for name in [name for name in state if ".mlp." in name]:
        block, part, kind = name.rsplit(".", 2)
        value = state.pop(name)
        state[f"{block}.experts.{part}_{kind}"] = value.expand(mixture.config.num_experts, *value.shape)
    routers = {name: value for name, value in mixture.state_dict().items() if ".mlp.router." in name}
    try:
        load_strict(mixture, state | routers, "the dense bridge")
    except CheckpointError as error:
        raise ConfigError(f"the bridges differ in more than their experts: {error}") from error


@torch.no_grad()
def collapse_experts(bridge: Bridge) -> Bridge:
    """Return the bridge with each linear expert merged: two linear maps without an activation between are one.

    For Nova's sizes an expert shrinks from 1152 x 4608 twice to 1152 x 1152. Multiplied in float64, so what differs is
    rounding.

    Raises:
        ConfigError: the experts are not linear.
    """
    if bridge.config.num_experts == 1 or bridge.config.expert_style != "nova_linear":
        raise ConfigError("only a bridge with linear experts (expert_style 'nova_linear') can be collapsed")
    config = LHRSBridgeConfig.from_dict({**bridge.config.to_dict(), "expert_style": "nova_matrix"})
    collapsed = Bridge(config, bridge.out_proj.out_features).to(bridge.query)
    state = bridge.state_dict()
    for block in [name.removesuffix("up_weight") for name in state if name.endswith(".experts.up_weight")]:
        parts = [f"{block}{part}_{kind}" for part in ("up", "down") for kind in ("weight", "bias")]
        up, up_bias, down, down_bias = (state.pop(part).double() for part in parts)
        state[f"{block}weight"] = (down @ up).to(bridge.query)
        state[f"{block}bias"] = (torch.einsum("eoi,ei->eo", down, up_bias) + down_bias).to(bridge.query)
    load_strict(collapsed, state, "the bridge")
    return collapsed.train(bridge.training)
