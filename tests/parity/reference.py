"""LHRS-Bot and LHRS-Bot-Nova once more, straight from their descriptions: one level after the other, torch's own
attention, the checkpoint's own tensor names. Written apart from `lhrs.models`, to check it at sizes nobody recorded.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SIZES = {
    "small": {"width": 24, "layers": 5, "heads": 3, "side": 28, "patch": 7, "taps": [1, 2, 4], "queries": [6, 4, 2],
              "depth": 2, "bridge_heads": 4, "experts": 3, "llm": 40, "rank": 3, "alpha": 12},
    "odd": {"width": 40, "layers": 7, "heads": 5, "side": 42, "patch": 14, "taps": [2, 4, 6], "queries": [5, 5, 3],
            "depth": 3, "bridge_heads": 2, "experts": 5, "llm": 24, "rank": 8, "alpha": 4},
}  # fmt: skip
PLACEHOLDER = -200


def norm(state: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)


def attend(state: dict, block: str, heads: int, q, k, v) -> torch.Tensor:
    attention = nn.MultiheadAttention(q.shape[-1], heads, batch_first=True)
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    attention.load_state_dict({name: state[f"{block}.attn.{name}"] for name in names})
    return attention(q, k, v, need_weights=False)[0]


def feed_forward(state: dict, block: str, x: torch.Tensor) -> torch.Tensor:
    if f"{block}.mlp.c_fc.weight" in state:
        h = F.gelu(F.linear(x, state[f"{block}.mlp.c_fc.weight"], state[f"{block}.mlp.c_fc.bias"]))
        return F.linear(h, state[f"{block}.mlp.c_proj.weight"], state[f"{block}.mlp.c_proj.bias"])
    gate, experts = f"{block}.mlp.gate.gate_network", f"{block}.mlp.calculator.experts"
    logits = F.linear(torch.tanh(F.linear(x, state[f"{gate}.0.weight"])), state[f"{gate}.2.weight"])
    best = logits.topk(2, -1)
    weight, out = best.values.softmax(-1), torch.zeros_like(x)
    for token in range(x.shape[1]):
        for image in range(x.shape[0]):
            for share, e in zip(weight[image, token], best.indices[image, token].tolist(), strict=True):
                h = state[f"{experts}.weight_up.{e}"] @ x[image, token] + state[f"{experts}.bias_up.{e}"]
                out[image, token] += share * (
                    h @ state[f"{experts}.weight_down.{e}"] + state[f"{experts}.bias_down.{e}"]
                )
    return out


def sincos(side: int, width: int) -> torch.Tensor:
    quarter = width // 4
    omega = torch.tensor([10000 ** (-i / quarter) for i in range(quarter)], dtype=torch.float64)
    rows = []
    for row in range(side):
        for column in range(side):
            rows.append(torch.cat([(column * omega).sin(), (column * omega).cos(),
                                   (row * omega).sin(), (row * omega).cos()]))  # fmt: skip
    return torch.stack(rows).float()


def bridge(state: dict, levels: list[torch.Tensor], queries: list[int], heads: int) -> torch.Tensor:
    nova = "layernorm_query.weight" in state
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    out, start = [], 0
    for image, count in zip(levels, queries, strict=True):
        q = state["query"][:, start : start + count].expand(len(image), -1, -1)
        start += count
        if nova:
            q, image = norm(state, "layernorm_query", q), norm(state, "layernorm_kv", image)
            keys, values = image + sincos(math.isqrt(image.shape[1]), image.shape[2]), image
        else:
            keys = values = torch.cat([q, image], 1)
        for n in range(depth):
            block = f"layers.{n}"
            k, v = (norm(state, f"{block}.ln_1_kv", x) for x in (keys, values))
            q = q + attend(state, block, heads, norm(state, f"{block}.ln_1", q), k, v)
            q = q + feed_forward(state, block, norm(state, f"{block}.ln_2", q))
        out.append(q)
    x = torch.cat(out, 1)
    if nova:
        x = norm(state, "layernorm_post", x)
    return F.linear(x, state["out_proj.weight"], state["out_proj.bias"])


def draw(variant: str, size: str, seed: int, folder: Path) -> dict[str, torch.Tensor]:
    """Write a checkpoint of random numbers in the released layout; return inputs and what it must compute."""
    torch.manual_seed(seed)
    s, nova = SIZES[size], variant == "nova"
    config = dict(hidden_size=s["width"], intermediate_size=2 * s["width"], num_hidden_layers=s["layers"],
                  num_attention_heads=s["heads"], image_size=s["side"], patch_size=s["patch"])  # fmt: skip
    vision = SiglipVisionModel(SiglipVisionConfig(**config)) if nova else CLIPVisionModel(CLIPVisionConfig(**config))
    llm = LlamaForCausalLM(LlamaConfig(
        vocab_size=70, hidden_size=s["llm"], intermediate_size=2 * s["llm"], num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1 if nova else 2, max_position_embeddings=256, initializer_range=0.3,
    )).eval()  # fmt: skip
    for weight in vision.parameters():
        nn.init.normal_(weight, std=0.2)
    state = _bridge_weights(s, nova)
    folder.mkdir(parents=True)
    llm.save_pretrained(folder / "llm_base")
    names = [n.removesuffix(".weight") for n, p in llm.model.named_parameters() if "proj" in n]
    adapted = get_peft_model(llm, LoraConfig(r=s["rank"], lora_alpha=s["alpha"], task_type="CAUSAL_LM",
                                             target_modules=[f"model.{n}" for n in names]))  # fmt: skip
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(folder / "TextLoRA")
    tensors = {f"encoder.vision_model.{n.removeprefix('vision_model.')}": v for n, v in vision.state_dict().items()}
    saved = {
        "rgb_ckpt": tensors,
        "other_ckpt": {"rgb_pooler": state, "embed_tokens": {}, "text_proj": {}, "lm_head": {}},
    }
    torch.save({"model": saved} if seed % 2 else saved, folder / "FINAL.pt")
    meta = {"vision": config, "taps": s["taps"],
            "bridge": {"queries": s["queries"], "heads": s["bridge_heads"], "top_k": 2}}  # fmt: skip
    (folder / "meta.json").write_text(json.dumps(meta))
    return _expected(vision.eval(), state, adapted.eval(), s, nova)


def _bridge_weights(s: dict, nova: bool) -> dict[str, torch.Tensor]:
    width, inner = s["width"], 4 * s["width"]
    pair = lambda name, *shape: {f"{name}.weight": shape, f"{name}.bias": shape[:1]}  # noqa: E731
    shapes = {"query": (1, sum(s["queries"]), width), **pair("out_proj", s["llm"], width)}
    for name in ("layernorm_query", "layernorm_kv", "layernorm_post") if nova else ():
        shapes |= pair(name, width)
    for n in range(s["depth"]):
        block = f"layers.{n}"
        for name in ("ln_1", "ln_1_kv", "ln_2"):
            shapes |= pair(f"{block}.{name}", width)
        shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
        shapes |= pair(f"{block}.attn.out_proj", width, width)
        if not nova:
            shapes |= pair(f"{block}.mlp.c_fc", inner, width) | pair(f"{block}.mlp.c_proj", width, inner)
            continue
        gate, experts, count = f"{block}.mlp.gate", f"{block}.mlp.calculator.experts", s["experts"]
        shapes |= {f"{gate}.gate_network.0.weight": (count, width), f"{gate}.gate_network.2.weight": (count, count),
                   f"{gate}.weight_noise.weight": (count, width)}  # fmt: skip
        for e in range(count):
            shapes |= {f"{experts}.weight_up.{e}": (inner, width), f"{experts}.weight_down.{e}": (inner, width),
                       f"{experts}.bias_up.{e}": (inner,), f"{experts}.bias_down.{e}": (width,)}  # fmt: skip
    return {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}


@torch.no_grad()
def _expected(vision, state: dict, llm: PeftModel, s: dict, nova: bool) -> dict[str, torch.Tensor]:
    pixels = torch.randn(2, 3, s["side"], s["side"])
    hidden = vision(pixels, output_hidden_states=True).hidden_states
    levels = [hidden[tap][:, 0 if nova else 1 :] for tap in s["taps"]]
    image = bridge(state, levels, s["queries"], s["bridge_heads"])
    ids = torch.randint(3, 70, (2, 9))
    ids[:, 2] = PLACEHOLDER
    embed = llm.get_input_embeddings()
    x = torch.cat([embed(ids[:, :2]), image, embed(ids[:, 3:])], 1)
    logits, greedy = llm(inputs_embeds=x).logits, []
    for _ in range(6):
        greedy.append(llm(inputs_embeds=x).logits[:, -1].argmax(-1))
        x = torch.cat([x, embed(greedy[-1])[:, None]], 1)
    return {"input_ids": ids, "pixel_values": pixels, "logits": logits, "greedy_ids": torch.stack(greedy, 1)}
