"""Sharding of weights, gradients and optimizer state over processes: FSDP2 by accelerate."""

from typing import Any, cast

from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from transformers import Trainer

from lhrs.models.bridge import Bridge


def fsdp_args(model: nn.Module) -> dict[str, Any]:
    """Return the training arguments that shard a model; each layer of its modules and the bridge is wrapped."""
    lists = [m for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and name.endswith("layers")]
    layers = {type(layer).__name__ for layers in lists for layer in layers} | {Bridge.__name__}
    inside = {type(layer).__name__ for m in model.modules() if isinstance(m, Bridge) for layer in cast(Any, m.layers)}
    return {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": sorted(layers - inside)}}


def shard_on_cpu(trainer: Trainer) -> None:
    """Enable FSDP on CPUs, for tests: torch supports it, accelerate does not."""
    state: Any = trainer.accelerator.state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(**cast(dict[str, Any], trainer.args.fsdp_plugin_args))
    state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    trainer.is_fsdp_enabled = True


def gather_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Gather the state of a sharded model on the main process; all processes must take part."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, Tensor], get_model_state_dict(model, options=options))


def load_state_dict_sharded(model: nn.Module, state: dict[str, Tensor]) -> Any:
    """Load a part of the full state into a sharded model; return missing and unexpected keys."""
    return set_model_state_dict(model, cast(Any, state), options=StateDictOptions(full_state_dict=True, strict=False))
