"""Export LHRS models to ONNX for the torch-free path.

Two graphs: `vision.onnx` (pixels -> image tokens, pooled features) and `language.onnx` (tokens + cache -> next-token
logits + cache), which serves prefill and decoding alike because the cache may be empty. Without quantization neither
holds weights: their initializers point into the `model.safetensors` next to them, so that both paths run the same
numbers and the folder has them once.
"""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from lhrs.errors import CheckpointError, ConfigError
from lhrs.models.export_heads import trace_heads
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.state_dict import read_safetensors

LANGUAGE_MODELS = ("llama", "qwen2")
"""Types of language models that can be exported; SmolLM2 is a llama."""
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
    """The forward pass of a Llama or Qwen2 with an explicit cache of fixed capacity C.

    `input_ids (B, T)`, `image_embeds (M, D)` (all image tokens of the batch in reading order), `attention_mask (B, C
    + T)`, `position_ids (B, T)`, and per layer `keys (B, H, d, C)` and `values (B, H, C, d)` -> `logits (B, V)` of
    the last position, and per layer the new `keys (B, H, d, T)` and `values (B, H, T, d)`. H are the key-value heads;
    the G query heads of a group attend as G * T queries of one head, so that keys are never repeated. Only what is new
    goes out, and old and new are never joined: a cache that is copied at every step costs a batch more than its
    arithmetic. Written out because the library's forward pass has a cache object, which graphs cannot have.
    """

    def __init__(self, model: LHRSForConditionalGeneration) -> None:
        super().__init__()
        self.language_model, self.lm_head = model.model.language_model, model.lm_head
        self.image_token_id = model.config.image_token_id
        config = model.config.text_config
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.group = self.heads // self.kv_heads

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
        x = torch.where(is_image[..., None], image_embeds[order], self.language_model.embed_tokens(input_ids))
        cos, sin = self.language_model.rotary_emb(x, position_ids)
        cos, sin = cos[:, None], sin[:, None]
        length, capacity = input_ids.shape[1], keys[0].shape[-1]
        seen = attention_mask.bool()[:, None, None, :]
        at = torch.arange(length)
        # A padded query sees only itself, so that its softmax has something to normalize.
        new = (at[None, :] < at[:, None])[None, None] & seen[..., capacity:] | (at[None, :] == at[:, None])[None, None]
        bias_past, bias_new = (torch.where(allowed, 0.0, -1e30) for allowed in (seen[..., :capacity], new))
        if self.group > 1:
            bias_new = bias_new.repeat(1, 1, self.group, 1)
        found: list[Tensor] = []
        for layer, past_k, past_v in zip(self.language_model.layers, keys, values, strict=True):
            h, attn = layer.input_layernorm(x), layer.self_attn
            q, k, v = (
                p(h).unflatten(-1, (n, -1)).transpose(1, 2)
                for p, n in ((attn.q_proj, self.heads), (attn.k_proj, self.kv_heads), (attn.v_proj, self.kv_heads))
            )
            q, k = (q * cos + _rotate(q) * sin) * attn.scaling, (k * cos + _rotate(k) * sin).transpose(-1, -2)
            found += [k, v]
            if self.group > 1:
                q = q.unflatten(1, (self.kv_heads, self.group)).flatten(2, 3)
            shares = torch.cat([q @ past_k + bias_past, q @ k + bias_new], dim=-1).softmax(-1)
            y = shares[..., :capacity] @ past_v + shares[..., capacity:] @ v
            if self.group > 1:
                y = y.unflatten(2, (self.group, -1)).flatten(1, 2)
            x = x + attn.o_proj(y.transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        return self.lm_head(self.language_model.norm(x[:, -1])), *found


def _rotate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([-second, first], dim=-1)


def check_exportable(model: LHRSForConditionalGeneration) -> None:
    """Check that the torch-free path can run a model.

    Raises:
        ConfigError: its language model is of another kind, or has sliding windows.
    """
    text = model.config.text_config
    if text.model_type not in LANGUAGE_MODELS:
        raise ConfigError(f"ONNX graphs are for {' and '.join(LANGUAGE_MODELS)}, not for a {text.model_type}")
    if set(getattr(text, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
        raise ConfigError("ONNX graphs are for full attention; this language model has other layers")


def export_onnx(model: LHRSForConditionalGeneration, folder: Path, int8: bool = False) -> None:
    """Write `vision.onnx` and `language.onnx` into a folder that already holds the model's processor.

    Args:
        model: any with a language model of `LANGUAGE_MODELS`.
        folder: without `int8`, it must also hold the model's `model.safetensors`.
        int8: quantize the matrices of the language model. Both graphs then hold their weights.

    Raises:
        CheckpointError: the folder has no weights, or a large initializer is not among them.
        ConfigError: see `check_exportable`; or the processor crops images.
    """
    check_exportable(model)
    weights = None if int8 else folder / "model.safetensors"
    if weights is not None and not weights.exists():
        raise CheckpointError(f"{weights} is missing: save the model there before exporting it.")
    model = model.eval().float()
    text = model.config.text_config
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    layers, kv_heads = range(text.num_hidden_layers), text.num_key_value_heads
    names = [f"{what}_{n}" for what in ("keys", "values") for n in layers]
    with torch.no_grad():
        graphs = {}
        if model.config.bridge_config is not None:
            graphs["vision.onnx"] = _trace(
                VisionGraph(model), (torch.randn(3, 3, *_image_size(folder)),), ["pixel_values"],
                ["image_embeds", "pooled"], ({0: "images"},),
            )  # fmt: skip
        if model.config.heads_config is not None:
            graphs["perception.onnx"] = trace_heads(model)
        example = (
            torch.randint(6, 90, (3, 5)), torch.randn(7, text.hidden_size), torch.ones(3, 9, dtype=torch.long),
            torch.arange(4, 9).expand(3, 5).contiguous(),
            [torch.randn(3, kv_heads, head, 4) for _ in layers], [torch.randn(3, kv_heads, 4, head) for _ in layers],
        )  # fmt: skip
        words, old_k, old_v = {0: "batch", 1: "length"}, {0: "batch", 3: "capacity"}, {0: "batch", 2: "capacity"}
        shapes = (words, {0: "images"}, {0: "batch", 1: "total"}, words,
                  [old_k for _ in layers], [old_v for _ in layers])  # fmt: skip
        graphs["language.onnx"] = _trace(LanguageGraph(model), example,
                          ["input_ids", "image_embeds", "attention_mask", "position_ids", *names],
                          ["logits", *(f"new_{what}_{n}" for n in layers for what in ("keys", "values"))],
                          shapes)  # fmt: skip
    if int8:
        graphs["language.onnx"] = quantize_int8(graphs["language.onnx"])
    for name, graph in graphs.items():
        if weights is not None:
            share_weights(graph, weights)
        _strip(graph)
        onnx.save_model(graph, (folder / name).with_suffix(".tmp"))
        (folder / name).with_suffix(".tmp").replace(folder / name)


def _image_size(folder: Path) -> tuple[int, int]:
    """Return height and width of the images that the saved processor makes."""
    settings = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))["image_processor"]
    if settings.get("do_center_crop") or not {"height", "width"} <= settings["size"].keys():
        raise ConfigError("the torch-free path resizes whole images; this model's image processor crops them")
    return settings["size"]["height"], settings["size"]["width"]


def _trace(module: nn.Module, args: tuple, inputs: list[str], outputs: list[str], shapes: tuple) -> onnx.ModelProto:
    program = torch.onnx.export(
        module.eval(),
        args,
        dynamo=True,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=tree_map_only(str, lambda _: torch.export.Dim.DYNAMIC, shapes),
        optimize=False,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def quantize_int8(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose constant matrices have 8 bits, with a scale per block of 32 inputs or row of the embedding.

    Activations are rounded to 8 bits by blocks where such a matrix multiplies them; attention is in single precision.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)
    _strip(graph)
    _fold_transposes(graph)
    _quantize_embedding(graph)
    quantizer = MatMulNBitsQuantizer(
        graph, bits=8, block_size=32, is_symmetric=True, accuracy_level=4, op_types_to_quantize=("MatMul",)
    )
    quantizer.process()
    return quantizer.model.model


def _quantize_embedding(graph: onnx.ModelProto) -> None:
    """Replace the matrices that are read by rows by integers and a scale per row."""
    weights = {init.name: init for init in graph.graph.initializer if len(init.dims) == 2}
    nodes = []
    for node in graph.graph.node:
        table = node.input[0] if node.op_type == "Gather" else ""
        if table not in weights:
            nodes.append(node)
            continue
        rows = numpy_helper.to_array(weights[table])
        scales = np.maximum(np.abs(rows).max(1, keepdims=True), 1e-12) / 127
        new = {f"{table}.int8": np.round(rows / scales).astype(np.int8), f"{table}.scales": scales.astype(np.float32)}
        graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in new.items())
        graph.graph.initializer.remove(weights.pop(table))
        out, ids = node.output[0], node.input[1]
        nodes += [
            helper.make_node("Gather", [f"{table}.int8", ids], [f"{out}.int8"]),
            helper.make_node("Cast", [f"{out}.int8"], [f"{out}.float"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [f"{table}.scales", ids], [f"{out}.scales"]),
            helper.make_node("Mul", [f"{out}.float", f"{out}.scales"], [out]),
        ]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)


def _fold_transposes(graph: onnx.ModelProto) -> None:
    """Replace matrices that are transposed before they are multiplied by transposed copies.

    The output layer may share its matrix with the embedding, which is read by rows.
    """
    weights = {init.name: init for init in graph.graph.initializer}
    nodes, copies = [], {}
    for node in graph.graph.node:
        source = next((name for name in node.input if name in weights), "")
        if node.op_type == "Transpose" and source and len(weights[source].dims) == 2:
            copies[node.output[0]] = source
        elif node.op_type == "Gemm" and source and len(node.input) == 2:
            copies[f"{source}.transposed"] = source
            nodes.append(helper.make_node("MatMul", [node.input[0], f"{source}.transposed"], list(node.output)))
        else:
            nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [init for init in graph.graph.initializer if init.name in used]
    for name, source in copies.items():
        kept.append(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weights[source]).T), name))
    del graph.graph.initializer[:], graph.graph.node[:]
    graph.graph.initializer.extend(kept)
    graph.graph.node.extend(nodes)


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
    tensors = {name: value.numpy() for name, value in read_safetensors(weights).items()}
    with weights.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(header))
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
