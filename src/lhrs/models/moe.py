"""Mixture of experts for the bridge's feed-forward, with balance loss and usage metric.

Shapes: B images, Q queries, C bridge width, T = B * Q tokens, E experts.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lhrs.models.configuration import LHRSBridgeConfig


@dataclass
class RouterReport:
    """Statistics of routers on one batch."""

    balance_loss: Tensor
    """Scalar; 1.0 when tokens spread evenly, `num_experts` when all go to one (Switch, arXiv:2101.03961)."""
    usage: Tensor
    """`(E,)`, fraction of the token slots of each expert; sums to one."""

    @staticmethod
    def mean(reports: "list[RouterReport]") -> "RouterReport":
        """Return the average over layers."""
        return RouterReport(
            torch.stack([r.balance_loss for r in reports]).mean(), torch.stack([r.usage for r in reports]).mean(0)
        )


class Experts(nn.Module):
    """Feed-forwards stacked in single tensors: `up` `(E, inner, C)`, `down` `(E, C, inner)`."""

    def __init__(self, num: int, width: int, inner: int, activation: bool) -> None:
        super().__init__()
        self.up_weight = nn.Parameter(torch.empty(num, inner, width))
        self.up_bias = nn.Parameter(torch.zeros(num, inner))
        self.down_weight = nn.Parameter(torch.empty(num, width, inner))
        self.down_bias = nn.Parameter(torch.zeros(num, width))
        self.activation = activation

    def forward(self, e: int, x: Tensor) -> Tensor:
        """Run expert `e` on `(tokens, C)`."""
        h = F.linear(x, self.up_weight[e], self.up_bias[e])
        return F.linear(F.gelu(h) if self.activation else h, self.down_weight[e], self.down_bias[e])


class MatrixExperts(nn.Module):
    """Experts of one linear map each: `weight` `(E, C, C)`."""

    def __init__(self, num: int, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(num, width, width)), nn.Parameter(torch.zeros(num, width))

    def forward(self, e: int, x: Tensor) -> Tensor:
        """Run expert `e` on `(tokens, C)`."""
        return F.linear(x, self.weight[e], self.bias[e])


class NoisyRouter(nn.Module):
    """Nova's router: two linear maps with tanh between, and learned Gaussian noise while training."""

    def __init__(self, width: int, num: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, num, bias=False), nn.Linear(num, num, bias=False)
        self.noise = nn.Linear(width, num, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.second(self.first(x).tanh())
        if self.training:
            logits = logits + torch.randn_like(logits) * (F.softplus(self.noise(x)) + 0.01)
        return logits


class MixtureOfExperts(nn.Module):
    """Send each token to its `top_k` experts and sum their outputs with weights that add up to one."""

    def __init__(self, config: LHRSBridgeConfig, inner: int) -> None:
        super().__init__()
        nova = config.expert_style != "gelu"
        width = config.hidden_size
        self.top_k, self.num_experts = config.top_k, config.num_experts
        self.router = (
            NoisyRouter(width, config.num_experts) if nova else nn.Linear(width, config.num_experts, bias=False)
        )
        self.experts = (
            MatrixExperts(config.num_experts, width)
            if config.expert_style == "nova_matrix"
            else Experts(config.num_experts, width, inner, activation=not nova)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, RouterReport]:
        """Map `(B, Q, C)` to the same shape plus a report."""
        x_TC = x.flatten(0, -2)  # noqa: N806
        logits_TE = self.router(x_TC).float()  # noqa: N806
        top, chosen = logits_TE.topk(self.top_k, dim=-1)
        weight = top.softmax(-1).to(x.dtype)
        out = torch.zeros_like(x_TC)
        for e in range(self.num_experts):
            token, slot = (chosen == e).nonzero(as_tuple=True)
            out = out.index_add(0, token, (self.experts(e, x_TC[token]) * weight[token, slot, None]).to(out.dtype))
        usage = F.one_hot(chosen, self.num_experts).float().mean((0, 1))
        balance = self.num_experts * (usage * logits_TE.softmax(-1).mean(0)).sum()
        return out.view_as(x), RouterReport(balance, usage.detach())
