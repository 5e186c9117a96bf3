"""Importer of the published checkpoints of LHRS-Bot and LHRS-Bot-Nova: `FINAL.pt` next to `TextLoRA/`.

`FINAL.pt` holds the encoder (`rgb_ckpt`) and the bridge (`other_ckpt["rgb_pooler"]`); the language model is the base
model from the hub plus the LoRA adapter in `TextLoRA/`, which is merged here: W + scale * B A.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lhrs.errors import CheckpointError
from lhrs.models.configuration import LHRSBridgeConfig
from lhrs.models.encoder import TAIL
from lhrs.models.importers.safe_unpickle import read_table
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.state_dict import load_strict

State = dict[str, Tensor]

ADAPTER = "TextLoRA"
"""Folder of the LoRA next to `FINAL.pt`."""

BRIDGE_NAMES = {
    "layernorm_query": "query_norm",
    "layernorm_kv": "key_norm",
    "layernorm_post": "out_norm",
    "ln_1_kv": "key_norm",
    "ln_1": "query_norm",
    "ln_2": "mlp_norm",
    "attn.out_proj": "o_proj",
    "mlp.c_fc": "mlp.up",
    "mlp.c_proj": "mlp.down",
    "mlp.gate.gate_network.0": "mlp.router.first",
    "mlp.gate.gate_network.2": "mlp.router.second",
    "mlp.gate.weight_noise": "mlp.router.noise",
}
EXPERT_NAME = re.compile(r"(layers\.\d+\.mlp)\.calculator\.experts\.(weight|bias)_(up|down)\.(\d+)")
LORA_NAME = re.compile(r"base_model\.model\.model\.(layers\..+)\.lora_(A|B)\.weight")


def load_original(model: LHRSForConditionalGeneration, path: Path) -> None:
    """Load encoder and bridge from `FINAL.pt` and merge the adapter next to it, in place.

    Args:
        model: has the base language model's weights already, and the checkpoint's sizes.
        path: `FINAL.pt`; a stage-1 checkpoint has no `TextLoRA/` next to it.

    Raises:
        CheckpointError: a file is unreadable, or its tensors do not fit the model.
    """
    load_into(model, *split_final(read_table(path), path), path)
    if (adapter := path.parent / ADAPTER).is_dir():
        merge_lora(model.model.language_model, adapter)


def split_final(saved: dict[str, Any], path: Path) -> tuple[State, State]:
    """Return the encoder's and the bridge's tensors of a `FINAL.pt`, under their original names.

    Raises:
        CheckpointError: the table is something else.
    """
    saved = saved.get("model", saved)  # runs without DeepSpeed have another level of nesting
    try:
        return saved["rgb_ckpt"], saved["other_ckpt"]["rgb_pooler"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is not an LHRS-Bot checkpoint: it lacks {error}") from error


def load_into(model: LHRSForConditionalGeneration, vision: State, bridge: State, path: Path) -> None:
    """Put the tensors of `split_final` into encoder and bridge, in place.

    Raises:
        CheckpointError: they do not fit.
    """
    tower = model.model.vision_tower
    load_strict(tower, encoder_state(vision, tower.config.num_hidden_layers), f"{path}: encoder")
    load_strict(model.model.bridge, bridge_state(bridge, model.config.bridge_config), f"{path}: bridge")


def encoder_state(original: State, num_layers: int) -> State:
    """Return the encoder's tensors with transformers' names, without the pooling and unused layers."""
    state: State = {}
    for name, value in original.items():
        name = name.removeprefix("encoder.vision_model.")
        layer = re.match(r"encoder\.layers\.(\d+)\.", name)
        unread = name.split(".")[0] in TAIL or (layer and int(layer[1]) >= num_layers)
        if not unread and name != "embeddings.position_ids":
            state[name] = value
    return state


def bridge_state(original: State, config: LHRSBridgeConfig) -> State:
    """Return the bridge's tensors under our names; attention is split in three, experts are stacked.

    Raises:
        CheckpointError: an expert is missing.
    """
    state: State = {}
    experts: dict[str, dict[int, Tensor]] = {}
    for name, value in original.items():
        if expert := EXPERT_NAME.fullmatch(name):
            block, kind, part, index = expert.groups()
            # the original multiplies by the down matrix without transposing it
            value = value.T if (kind, part) == ("weight", "down") else value
            experts.setdefault(f"{block}.experts.{part}_{kind}", {})[int(index)] = value
        elif ".attn.in_proj_" in name:
            block, kind = name.split(".attn.in_proj_")
            for part, third in zip("qkv", value.chunk(3), strict=True):
                state[f"{block}.{part}_proj.{kind}"] = third
        else:
            state[_rename(name)] = value
    for name, stack in experts.items():
        if sorted(stack) != list(range(config.num_experts)):
            raise CheckpointError(
                f"{name}: the bridge has {config.num_experts} experts, the checkpoint {sorted(stack)}"
            )
        state[name] = torch.stack([stack[i] for i in range(config.num_experts)])
    return state


def _rename(name: str) -> str:
    block, rest = re.fullmatch(r"(layers\.\d+\.)?(.*)", name).groups("")  # type: ignore[union-attr]
    part, _, kind = rest.rpartition(".")
    return f"{block}{BRIDGE_NAMES.get(part, part)}.{kind}" if part else name


def merge_lora(language_model: nn.Module, folder: Path) -> None:
    """Add a PEFT adapter of the original layout to the decoder's matrices, in place.

    Rank and scale are read from `adapter_config.json`. Embeddings in the PEFT file are ignored: they were not trained.

    Raises:
        CheckpointError: the adapter is unreadable, of another kind than plain LoRA, incomplete, or does not fit.
    """
    config = adapter_config(folder)
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    pairs: dict[str, State] = {}
    for name, value in adapter_weights(folder).items():
        if match := LORA_NAME.fullmatch(name):
            pairs.setdefault(f"{match[1]}.weight", {})[match[2]] = value.float()
        elif "lora_" in name:
            raise CheckpointError(f"{folder}: {name} is no matrix of the decoder")
    if not pairs:
        raise CheckpointError(f"{folder}: the adapter holds no LoRA matrices")
    weights = dict(language_model.named_parameters())
    for name, pair in pairs.items():
        if pair.keys() != {"A", "B"} or name not in weights:
            raise CheckpointError(
                f"{folder}: {name} needs lora_A, lora_B and a matrix of that name in the language model"
            )
        weight, a, b = weights[name].data, pair["A"], pair["B"]
        if (b.shape[0], a.shape[1]) != tuple(weight.shape) or a.shape[0] != b.shape[1]:
            raise CheckpointError(
                f"{folder}: {name} is {tuple(weight.shape)}, the adapter's is {(b.shape[0], a.shape[1])}; "
                "is this the base model it was trained on?"
            )
        weight.copy_(weight.float() + scale * (b @ a).to(weight.device))


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return `adapter_config.json`; raise `CheckpointError` if it is no plain LoRA."""
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is missing or broken: {error}") from error
    if not isinstance(config, dict) or not config.get("r") or "lora_alpha" not in config:
        raise CheckpointError(f"{path} is not the configuration of a LoRA adapter: it needs r and lora_alpha")
    for option in ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern"):
        if config.get(option):
            raise CheckpointError(f"{path}: {option} is set, which the original models do not use")
    return config


def adapter_weights(folder: Path) -> State:
    """Return the adapter's tensors under the names in the file."""
    path = folder / "adapter_model.safetensors"
    return read_table(path if path.exists() else folder / "adapter_model.bin")
