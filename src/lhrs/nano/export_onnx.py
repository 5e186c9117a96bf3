"""Export the embedded model to ONNX for the torch-free path.

Two graphs: `vision.onnx` (pixels -> image tokens, pooled features) and `language.onnx` (tokens + cache -> next-token
logits + cache), which serves prefill and decoding alike because the cache may be empty. Neither holds weights: their
initializers point into the `model.safetensors` beside them, so both paths run the very same numbers and the package
carries them once.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lhrs.errors import CheckpointError
from lhrs.models.modeling import LHRSForConditionalGeneration

_SHARE_FROM = 512
"""Smallest number of elements worth sharing; smaller initializers stay in the graph."""


class VisionGraph(nn.Module):
    """`pixel_values (B, 3, S, S)` -> `image_embeds (B, Q, D)`, `pooled (B, C)` of the deepest level."""

    def __init__(self, model: LHRSForConditionalGeneration) -> None:
        super().__init__()
        self.model = model.model

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        out = self.model.get_image_features(pixel_values)
        return out.pooler_output, out.last_hidden_state.mean(1)


class LanguageGraph(nn.Module):
    """A Llama forward with an explicit cache of fixed capacity C.

    `input_ids (B, T)`, `image_embeds (M, D)` (all image tokens of the batch in reading order), `attention_mask (B, C
    + T)`, `position_ids (B, T)`, and per layer `keys (B, H, d, C)` and `values (B, H, C, d)` -> `logits (B, V)` of
    the last position, and per layer the new `keys (B, H, d, T)` and `values (B, H, T, d)`. Only what is new goes out,
    and old and new are never joined: a cache that is copied at every step costs a batch more than its arithmetic.
    Written out because the library's forward carries a cache object, which graphs cannot.
    """

    def __init__(self, model: LHRSForConditionalGeneration) -> None:
        super().__init__()
        self.llama, self.lm_head = model.model.language_model, model.lm_head
        self.image_token_id = model.config.image_token_id
        config = model.config.text_config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads

    def forward(
        self,
        input_ids: Tensor,
        image_embeds: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        keys: list[Tensor],
        values: list[Tensor],
    ) -> tuple[Tensor, ...]:
        is_image = input_ids == self.image_token_id
        order = (is_image.flatten().long().cumsum(0) - 1).clamp(min=0).view_as(input_ids)
        x = torch.where(is_image[..., None], image_embeds[order], self.llama.embed_tokens(input_ids))
        cos, sin = self.llama.rotary_emb(x, position_ids)
        cos, sin = cos[:, None], sin[:, None]
        length, capacity = input_ids.shape[1], keys[0].shape[-1]
        seen = attention_mask.bool()[:, None, None, :]
        at = torch.arange(length)
        # A padded query sees only itself, so that its softmax has something to normalize.
        new = (at[None, :] < at[:, None])[None, None] & seen[..., capacity:] | (at[None, :] == at[:, None])[None, None]
        bias_past, bias_new = (torch.where(allowed, 0.0, -1e30) for allowed in (seen[..., :capacity], new))
        found: list[Tensor] = []
        for layer, past_k, past_v in zip(self.llama.layers, keys, values, strict=True):
            h, attn = layer.input_layernorm(x), layer.self_attn
            q, k, v = (
                p(h).unflatten(-1, (n, -1)).transpose(1, 2)
                for p, n in ((attn.q_proj, self.heads), (attn.k_proj, self.kv_heads), (attn.v_proj, self.kv_heads))
            )
            q, k = (q * cos + _rotate(q) * sin) * attn.scaling, (k * cos + _rotate(k) * sin).transpose(-1, -2)
            found += [k, v]
            past_k, past_v, k, v = (
                t.repeat_interleave(self.heads // self.kv_heads, dim=1) if self.heads > self.kv_heads else t
                for t in (past_k, past_v, k, v)
            )
            shares = torch.cat([q @ past_k + bias_past, q @ k + bias_new], dim=-1).softmax(-1)
            y = (shares[..., :capacity] @ past_v + shares[..., capacity:] @ v).transpose(1, 2).flatten(2)
            x = x + attn.o_proj(y)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.lm_head(self.llama.norm(x[:, -1])), *found


def _rotate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def export_onnx(model: LHRSForConditionalGeneration, folder: Path) -> None:
    """Write `vision.onnx` and `language.onnx` into a folder that already holds the model's `model.safetensors`.

    Raises:
        CheckpointError: the folder has no weights, or a large initializer is not among them.
    """
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise CheckpointError(f"{weights} is missing: save the model there before exporting it.")
    model = model.eval().float()
    size = (
        model.config.vision_config.model_args.get("image_size", 128)
        if hasattr(model.config.vision_config, "model_args")
        else 128
    )
    text = model.config.text_config
    head = text.hidden_size // text.num_attention_heads
    layers, kv_heads = range(text.num_hidden_layers), text.num_key_value_heads
    names = [f"{what}_{n}" for what in ("keys", "values") for n in layers]
    with torch.no_grad():
        _export(VisionGraph(model), (torch.randn(3, 3, size, size),), ["pixel_values"], ["image_embeds", "pooled"],
                ({0: "images"},), folder / "vision.onnx", weights)  # fmt: skip
        example = (
            torch.randint(6, 90, (3, 5)), torch.randn(7, text.hidden_size), torch.ones(3, 9, dtype=torch.long),
            torch.arange(4, 9).expand(3, 5).contiguous(),
            [torch.randn(3, kv_heads, head, 4) for _ in layers], [torch.randn(3, kv_heads, 4, head) for _ in layers],
        )  # fmt: skip
        words, old_k, old_v = {0: "batch", 1: "length"}, {0: "batch", 3: "capacity"}, {0: "batch", 2: "capacity"}
        shapes = (words, {0: "images"}, {0: "batch", 1: "total"}, words,
                  [old_k for _ in layers], [old_v for _ in layers])  # fmt: skip
        _export(LanguageGraph(model), example,
                ["input_ids", "image_embeds", "attention_mask", "position_ids", *names],
                ["logits", *(f"new_{what}_{n}" for n in layers for what in ("keys", "values"))],
                shapes, folder / "language.onnx", weights)  # fmt: skip


def _export(
    module: nn.Module, args: tuple, inputs: list[str], outputs: list[str], shapes: tuple, path: Path, weights: Path
) -> None:
    dynamic = tree_map_only(str, lambda _: torch.export.Dim.DYNAMIC, shapes)
    program = torch.onnx.export(
        module.eval(),
        args,
        dynamo=True,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=dynamic,
        optimize=False,
        verbose=False,
    )
    assert program is not None
    graph = program.model_proto
    share_weights(graph, weights)
    _strip(graph)
    onnx.save_model(graph, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def _strip(graph: onnx.ModelProto) -> None:
    """Drop shapes, stack traces and other notes that only a debugger reads."""
    del graph.graph.value_info[:]
    del graph.graph.metadata_props[:]
    for node in [*graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.initializer]:
        node.ClearField("metadata_props")
    for function in graph.functions:
        for node in function.node:
            node.ClearField("metadata_props")


def share_weights(graph: onnx.ModelProto, weights: Path) -> None:
    """Point every large initializer at the tensor of equal values (or its transpose) in a safetensors file."""
    tensors, offsets = _read(weights)
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, value in tensors.items():
        by_shape.setdefault(value.shape, []).append(name)
        if value.ndim == 2 and value.shape[0] != value.shape[1]:
            by_shape.setdefault(value.shape[::-1], []).append(name)
    nodes, keep, shared = [], [], {}
    for init in graph.graph.initializer:
        value = numpy_helper.to_array(init)
        if value.dtype != np.float32 or value.size < _SHARE_FROM:
            keep.append(init)
            continue
        found, flipped = _find(value, by_shape.get(value.shape, []), tensors)
        if found is None:
            raise CheckpointError(f"initializer {init.name} {value.shape} is not a tensor of {weights.name}.")
        name, stored = found, tensors[found]
        if name not in shared:
            shared[name] = _external(f"stored/{name}", stored, weights.name, *offsets[name])
            if stored.dtype == np.float16:
                nodes.append(helper.make_node("Cast", [f"stored/{name}"], [f"float/{name}"], to=TensorProto.FLOAT))
        source = f"{'float' if stored.dtype == np.float16 else 'stored'}/{name}"
        op = "Transpose" if flipped else "Identity"
        turn: dict[str, Any] = {"perm": [1, 0]} if flipped else {}
        nodes.append(helper.make_node(op, [source], [init.name], **turn))
    del graph.graph.initializer[:]
    graph.graph.initializer.extend([*keep, *shared.values()])
    rest = list(graph.graph.node)
    del graph.graph.node[:]
    graph.graph.node.extend([*nodes, *rest])


def _read(weights: Path) -> tuple[dict[str, np.ndarray], dict[str, tuple[int, int]]]:
    with safe_open(weights, "np") as f:
        tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    raw = weights.read_bytes()
    header = int.from_bytes(raw[:8], "little")
    import json

    table = json.loads(raw[8 : 8 + header])
    spans = {
        k: (8 + header + v["data_offsets"][0], v["data_offsets"][1] - v["data_offsets"][0])
        for k, v in table.items()
        if k != "__metadata__"
    }
    return tensors, spans


def _find(value: np.ndarray, names: list[str], tensors: dict[str, np.ndarray]) -> tuple[str | None, bool]:
    for name in names:
        stored = tensors[name].astype(np.float32)
        if stored.shape == value.shape and np.array_equal(stored, value):
            return name, False
        if stored.ndim == 2 and stored.T.shape == value.shape and np.array_equal(stored.T, value):
            return name, True
    return None, False


def _external(name: str, value: np.ndarray, location: str, offset: int, length: int) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    return tensor
