"""Convert published checkpoints to folders for `from_pretrained` and timm; see `lhrs convert`.

System and sizes are inferred from the tensors. The number of attention heads is that of the published models, or for
checkpoints of another size that of a `meta.json` next to them.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoModel,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)

from lhrs.atomic_io import atomic_dir, save_safetensors, write_atomic
from lhrs.errors import CheckpointError, LHRSError
from lhrs.models.bridge import Bridge, collapse_experts
from lhrs.models.configuration import LHRSBridgeConfig, LHRSConfig
from lhrs.models.encoder import remove_unused_layers, truncate_layers
from lhrs.models.importers.cmid import is_cmid, read_backbone, save_backbone
from lhrs.models.importers.lhrs_bot import (
    ADAPTER,
    State,
    adapter_config,
    adapter_weights,
    load_into,
    merge_lora,
    split_final,
)
from lhrs.models.importers.safe_unpickle import read_table
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.presets import PRESETS, Preset, generation_settings, load_language
from lhrs.models.processing import IMAGE_TOKEN, LHRSProcessor

_SYSTEMS = {"lhrs-bot": "lhrs-bot-7b", "lhrs-bot-nova": "lhrs-bot-nova-8b"}
_ENCODER_HEADS = {1024: 16, 1152: 16}
"""Attention heads of CLIP-L/14 and SigLIP-so400m by their width."""
_WEIGHT_FILES = ("*.pt", "*.pth", "*.safetensors")


@dataclass
class Conversion:
    """Report of a conversion."""

    system: str
    stage: str
    found: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    """Dropped tensors, by reason."""


def convert(
    source: str | Path,
    out: Path,
    language_model: str | None = None,
    teacher: bool = False,
    keep_lora: bool = False,
    collapse: bool = False,
    system: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Conversion:
    """Convert a checkpoint of LHRS-Bot, LHRS-Bot-Nova or CMID; `out` is written atomically.

    Args:
        source: file, its folder, or the hub id of a repository laid out like `LHRS/LHRS-Bot-Nova`.
        out: folder to write; must not exist.
        language_model: hub id or folder of the base language model; None is the published one.
        teacher: take the teacher of a full CMID run.
        keep_lora: write the adapter as `adapter/` for PEFT instead of merging it.
        collapse: multiply each linear expert of Nova out to one matrix.
        system: what the checkpoint must be: "lhrs-bot", "lhrs-bot-nova" or "cmid"; None takes what it is.
        dtype: of the written weights.

    Raises:
        CheckpointError: the checkpoint is missing, broken, incomplete, of another system, or does not fit.
    """
    if out.exists():
        raise CheckpointError(f"{out} exists; choose another folder, or remove it")
    path = find_checkpoint(source)
    table = read_table(path)
    found = _system(table)
    if system is not None and found != system:
        raise CheckpointError(f"{path} is {found or 'of no system known here'}, not {system}")
    with atomic_dir(out) as part:
        if found in _SYSTEMS:
            if teacher:
                raise CheckpointError(f"{path} is a chat model; only CMID runs have a teacher")
            done = _convert_chat(table, path, part, language_model, keep_lora, collapse, dtype)
        else:
            done = _convert_backbone(path, part, teacher)
    return done


def _system(table: dict[str, Any]) -> str | None:
    """Return the system of a state dict."""
    nested = table.get("model", table)
    if isinstance(nested, dict) and isinstance(vision := nested.get("rgb_ckpt"), dict):
        return "lhrs-bot" if any(name.endswith("class_embedding") for name in vision) else "lhrs-bot-nova"
    return "cmid" if is_cmid(table) else None


def find_checkpoint(source: str | Path) -> Path:
    """Return the checkpoint's file.

    Raises:
        CheckpointError: there is none, or there are several.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        for final in (path / "FINAL.pt", path / "checkpoints" / "FINAL.pt"):
            if final.is_file():
                return final
        found = sorted(file for pattern in _WEIGHT_FILES for file in path.glob(pattern))
        if len(found) == 1:
            return found[0]
        listed = ", ".join(file.name for file in found[:5]) or "none"
        raise CheckpointError(f"{path} needs FINAL.pt or exactly one weight file; it has {listed}")
    if re.fullmatch(r"[\w.\-]+/[\w.\-]+", str(source)):
        return _download(str(source))
    raise CheckpointError(f"{path} does not exist")


def _download(repository: str) -> Path:
    """Fetch the last stage of a repository on the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=["Stage3/FINAL.pt", f"Stage3/{ADAPTER}/*"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{repository} is no file here and cannot be fetched from the hub: {reason}") from error
    return find_checkpoint(folder / "Stage3")


def _convert_backbone(path: Path, part: Path, teacher: bool) -> Conversion:
    backbone = read_backbone(path, teacher)
    save_backbone(backbone, part)
    whose = "teacher" if teacher else "student, or a backbone alone"
    sizes = ", ".join(f"{name} {value}" for name, value in backbone.sizes.items())
    found = [f"timm {backbone.architecture}" + (f" with {sizes}" if sizes else ""), f"{len(backbone.state)} tensors"]
    return Conversion("cmid", whose, found, backbone.dropped)


def _convert_chat(
    table: dict[str, Any], path: Path, part: Path, base: str | None, keep_lora: bool, collapse: bool,
    dtype: torch.dtype,
) -> Conversion:  # fmt: skip
    vision, bridge = split_final(table, path)
    system = cast(str, _system(table))
    preset = PRESETS[_SYSTEMS[system]]
    adapter = path.parent / ADAPTER
    experts = any(".calculator.experts." in name for name in bridge)
    if experts and not adapter.is_dir():
        raise CheckpointError(f"{path} is of stage 2 or 3 (it has experts), but there is no {ADAPTER} beside it")
    meta = _meta(path)
    vision_config = _vision_config(system, vision, meta)
    bridge_config = _bridge_config(preset, bridge, meta, path)
    levels = list(meta.get("taps", preset.levels))
    if (depth := vision_config.num_hidden_layers) < max(levels):
        raise CheckpointError(f"{path}: the encoder has {depth} layers, but {system} reads level {max(levels)}")
    try:
        language, tokenizer = load_language(base or preset.language_model, preset, dtype)
    except (OSError, ValueError) as error:
        if isinstance(error, LHRSError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the base language model (--llm) cannot be loaded: {reason}") from error
    width, needed = cast(int, language.config.hidden_size), bridge["out_proj.weight"].shape[0]
    if width != needed:
        raise CheckpointError(
            f"{path} was trained on a language model of width {needed}, {base or preset.language_model} has {width}; "
            "give the right one with --llm"
        )
    model = _join(vision_config, language, tokenizer, bridge_config, levels, dtype)
    model.config.model_family = system.replace("-", "_")  # type: ignore[attr-defined]
    load_into(model, vision, bridge, path)
    done = Conversion(system, "1", [
        f"encoder: {type(vision_config).__name__} of width {vision_config.hidden_size}, levels {levels}",
        f"bridge: {bridge_config.queries} queries, {bridge_config.num_layers} layers"
        + (f", {bridge_config.num_experts} linear experts" if experts else ""),
    ])  # fmt: skip
    if collapse:
        model.model.bridge = collapse_experts(model.model.bridge)
        model.config.bridge_config = model.model.config.bridge_config = model.model.bridge.config
        done.found.append("each linear expert multiplied out to one matrix")
    if adapter.is_dir():
        done.stage = "2 or 3"
        settings = adapter_config(adapter)
        done.found.append(f"LoRA: rank {settings['r']}, alpha {settings['lora_alpha']}, "
                          + ("kept in adapter/" if keep_lora else "merged"))  # fmt: skip
        for name in adapter_weights(adapter):
            if "lora_" not in name:
                done.dropped[name] = "embeddings were never trained"
        if keep_lora:
            _save_adapter(adapter, part / "adapter")
        else:
            merge_lora(model.model.language_model, adapter)
    else:
        done.found.append(f"no {ADAPTER} beside it: the language model is the base's")
    for name, values in cast(dict, table.get("model", table))["other_ckpt"].items():
        if name != "rgb_pooler" and values:
            done.dropped[name] = "never read back by the original"
    unread = [
        name for name in vision if (m := re.search(r"encoder\.layers\.(\d+)\.", name)) and int(m[1]) >= max(levels)
    ]
    if unread:
        done.dropped[f"{len(unread)} tensors of encoder layers from {max(levels)} on"] = "deeper than the bridge reads"
    model.generation_config = generation_settings(language, tokenizer)
    model.save_pretrained(part)
    if tokenizer is None:
        done.dropped["processor"] = "the base language model has no tokenizer"
    else:
        _processor(system, vision_config.image_size, tokenizer, bridge_config.num_tokens).save_pretrained(part)
    return done


def _join(
    vision_config: Any, language: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None,
    bridge_config: LHRSBridgeConfig, levels: list[int], dtype: torch.dtype,
) -> LHRSForConditionalGeneration:  # fmt: skip
    """Build the model around the language model; encoder and bridge are still random."""
    truncate_layers(vision_config, levels)
    if tokenizer is None:
        image_token_id = cast(int, language.config.vocab_size)
        language.resize_token_embeddings(image_token_id + 1)
    else:
        image_token_id = cast(int, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    config = LHRSConfig(vision_config, language.config, bridge_config, levels, image_token_id, dtype=dtype)
    with torch.device("meta"):  # all of it is replaced
        model = LHRSForConditionalGeneration(config)
    tower = AutoModel.from_config(vision_config, dtype=dtype)
    remove_unused_layers(tower, levels)
    model.model.vision_tower, model.model.language_model = tower, language.base_model
    model.lm_head = cast(Any, language.get_output_embeddings())
    model.model.bridge = Bridge(bridge_config, cast(int, language.config.hidden_size)).to(dtype)
    return model.eval()


def _meta(path: Path) -> dict[str, Any]:
    """Return the contents of `meta.json` next to a checkpoint with other sizes than the published ones."""
    file = path.parent / "meta.json"
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise CheckpointError(f"{file} is no JSON object: {error}") from error


def _vision_config(system: str, vision: State, meta: dict[str, Any]) -> Any:
    state = {name.removeprefix("encoder.vision_model."): value for name, value in vision.items()}
    try:
        patch = state["embeddings.patch_embedding.weight"]
        positions = state["embeddings.position_embedding.weight"].shape[0] - (system == "lhrs-bot")
        inner = state["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(f"the encoder of the checkpoint lacks {error}") from error
    side = math.isqrt(positions) * patch.shape[2]
    known = meta.get("vision", {})
    sizes: dict[str, Any] = {
        "hidden_size": patch.shape[0],
        "intermediate_size": inner,
        "num_hidden_layers": 1 + max(int(m[1]) for n in state if (m := re.match(r"encoder\.layers\.(\d+)\.", n))),
        "num_attention_heads": known.get("num_attention_heads") or _ENCODER_HEADS.get(patch.shape[0]),
        "patch_size": patch.shape[2],
        # SigLIP-so400m cuts the six pixels that do not fill a patch
        "image_size": known.get("image_size") or (384 if (side, patch.shape[0]) == (378, 1152) else side),
    }
    if sizes["num_attention_heads"] is None:
        raise CheckpointError(
            f"an encoder of width {patch.shape[0]} is of no published size; say its num_attention_heads in meta.json"
        )
    return CLIPVisionConfig(**sizes) if system == "lhrs-bot" else SiglipVisionConfig(**sizes)


def _bridge_config(preset: Preset, bridge: State, meta: dict[str, Any], path: Path) -> LHRSBridgeConfig:
    try:
        total, width = bridge["query"].shape[-2:]
    except KeyError as error:
        raise CheckpointError(f"{path}: the bridge lacks {error}") from error
    known, published = meta.get("bridge", {}), preset.bridge
    queries = known.get("queries") or [count * total // sum(published["queries"]) for count in published["queries"]]
    heads = known.get("heads") or (published["num_heads"] if width == published["hidden_size"] else None)
    if heads is None or sum(queries) != total:
        raise CheckpointError(
            f"{path}: a bridge of {total} queries and width {width} is of no published size; "
            "say its queries and heads in meta.json"
        )
    layers = 1 + max(int(m[1]) for name in bridge if (m := re.match(r"layers\.(\d+)\.", name)))
    numbers = {int(m[1]) for name in bridge if (m := re.search(r"\.experts\.\w+\.(\d+)$", name))}
    settings = {**published, "queries": queries, "hidden_size": width, "num_layers": layers, "num_heads": heads}
    if numbers:
        top_k = known.get("top_k") or 2
        settings |= {"num_experts": 1 + max(numbers), "top_k": top_k, "expert_style": "nova_linear"}
    return LHRSBridgeConfig(**settings)


def _processor(system: str, side: int, tokenizer: PreTrainedTokenizerBase, num_tokens: int) -> LHRSProcessor:
    """Return the preprocessing that the system was trained with."""
    if system == "lhrs-bot":  # the shorter side is resized, then the center is cropped
        images: Any = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    else:  # resized to a square, without keeping the aspect ratio
        images = SiglipImageProcessorPil(size={"height": side, "width": side})
    return LHRSProcessor(images, tokenizer, num_image_tokens=num_tokens)


def _save_adapter(source: Path, folder: Path) -> None:
    """Write the adapter for `PeftModel.from_pretrained` on the converted model."""
    settings = adapter_config(source)
    names = settings.get("target_modules")
    if isinstance(names, list):
        settings["target_modules"] = [re.sub(r"^model\.layers\.", "model.language_model.layers.", n) for n in names]
    settings["base_model_name_or_path"] = None
    old, new = "base_model.model.model.layers.", "base_model.model.model.language_model.layers."
    tensors = {n.replace(old, new): v for n, v in adapter_weights(source).items() if "lora_" in n}
    folder.mkdir(parents=True)
    save_safetensors(folder / "adapter_model.safetensors", tensors)
    write_atomic(folder / "adapter_config.json", json.dumps(settings, indent=2) + "\n")
