"""The memory that training needs on one device, estimated without training."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import nn

from lhrs.training.run_config import OptimConfig

_STATE_BYTES = {"adamw": 8, "adan": 16, "sgd": 4}
"""Of the optimizer for each trained parameter, which is float32: two means; three and the last gradient; momentum."""
_FLOAT32_BYTES = 4


@dataclass
class MemoryEstimate:
    """Bytes on one device, by purpose."""

    frozen: int = 0
    trained: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int | None = None
    """None is not estimated."""
    assumptions: list[str] = field(default_factory=list)
    """What the estimate depends on, for its reader."""

    @property
    def total(self) -> int:
        """Sum of all that is estimated."""
        return self.frozen + self.trained + self.gradients + self.optimizer + (self.activations or 0)

    def lines(self) -> Iterator[str]:
        """Yield the lines of a table."""
        yield "memory of one device, an estimate"
        for name, value in (
            ("frozen weights", self.frozen),
            ("trained weights", self.trained),
            ("gradients", self.gradients),
            ("optimizer states", self.optimizer),
            ("activations", self.activations),
            ("together", self.total),
        ):
            yield f"  {name:18}" + ("not estimated" if value is None else f"{value / 1e9:8.2f} GB")
        yield from (f"  {line}" for line in self.assumptions)


def estimate_weights(
    module: nn.Module, optim: OptimConfig, frozen_bytes: Callable[[str], float], num_shards: int = 1
) -> MemoryEstimate:
    """Return the memory of weights, gradients and optimizer states; trained weights are float32.

    Args:
        module: what is trained; on the `meta` device, too.
        optim: its optimizer.
        frozen_bytes: bytes of each number of a frozen parameter, by its name.
        num_shards: processes among which all of it is divided.
    """
    estimate, trained = MemoryEstimate(), 0
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            trained += parameter.numel()
        else:
            estimate.frozen += round(parameter.numel() * frozen_bytes(name))
    estimate.frozen //= num_shards
    trained //= num_shards
    estimate.trained = estimate.gradients = trained * _FLOAT32_BYTES
    estimate.optimizer = trained * _STATE_BYTES[optim.optimizer]
    return estimate


@dataclass(frozen=True)
class Blocks:
    """A stack of transformer blocks, for the activations that backward needs."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    is_gated: bool = False
    """The feed-forward has a gate, as in Llama."""
    key_value_size: int | None = None
    """Width of the keys, if smaller than `hidden_size`."""

    def activations(self, num_tokens: int, num_bytes: int, recomputes: bool) -> int:
        """Return bytes that are kept for backward; attention keeps no matrix of scores (flash or SDPA).

        Kept in a block: the inputs of both norms, queries, the attention's result and output, keys and values, and the
        feed-forward's intermediates (compare arXiv:2205.05198, section 4.1).

        Args:
            num_tokens: of a whole micro-batch.
            num_bytes: of a number.
            recomputes: gradient checkpointing, which keeps the input of each block, and of one block all.
        """
        keys = 2 * (self.key_value_size or self.hidden_size)
        block = 5 * self.hidden_size + keys + (4 if self.is_gated else 2) * self.intermediate_size
        numbers = self.num_layers * self.hidden_size + block if recomputes else self.num_layers * block
        return num_tokens * numbers * num_bytes
