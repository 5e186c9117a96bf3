"""Model presets, and new models from a pretrained encoder, a language model and a randomly initialized bridge."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import (
    AddedToken,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.chat_template_utils import render_jinja_template

from lhrs.errors import CheckpointError, ConfigError, MissingExtraError
from lhrs.models.bridge import Bridge
from lhrs.models.configuration import LHRSBridgeConfig, LHRSConfig
from lhrs.models.dense_heads import HEADS_CONFIG, load_heads
from lhrs.models.encoder import level_widths, remove_unused_layers, truncate_layers
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.processing import IMAGE_TOKEN, LHRSProcessor, load_image_processor

NANO = "lhrs-nano"
"""Name of the trained model that is included in the package."""


@dataclass(frozen=True)
class Preset:
    """A model by its parts."""

    encoder: str
    """Hub id or folder of the vision encoder."""
    language_model: str
    """Hub id or folder of the causal language model."""
    levels: tuple[int, ...]
    """Encoder levels that the bridge reads, see `LHRSConfig`."""
    bridge: dict[str, Any]
    """Settings of `LHRSBridgeConfig`."""
    chat: str
    """Chat template, see `chat_template`."""


PRESETS = {
    # arXiv:2402.02544: 144 image tokens of a frozen encoder
    "lhrs-bot-7b": Preset(
        encoder="openai/clip-vit-large-patch14",
        language_model="meta-llama/Llama-2-7b-chat-hf",
        levels=(7, 15, 22),
        bridge={"queries": [64, 48, 32], "hidden_size": 1024, "num_heads": 16, "keys_include_queries": True},
        chat="llava_llama_2",
    ),
    # arXiv:2411.09301: 272 image tokens; stage 1 trains this dense bridge, `upcycle_bridge` adds experts for 2 and 3
    "lhrs-bot-nova-8b": Preset(
        encoder="google/siglip-so400m-patch14-384",
        language_model="meta-llama/Meta-Llama-3-8B-Instruct",
        levels=(9, 18, 26),
        bridge={
            "queries": [112, 96, 64],
            "hidden_size": 1152,
            "num_heads": 8,
            "key_positions": "sincos2d",
            "outer_norms": True,
        },
        chat="llama3",
    ),
}


def get_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        ConfigError: no preset has that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}")
    return PRESETS[name]


def nano_folder() -> Path:
    """Return the folder of the embedded model, ready for `from_pretrained`.

    Raises:
        CheckpointError: this build of the package does not carry it.
    """
    folder = Path(str(files("lhrs") / "resources" / NANO))
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"this build of lhrs does not contain {NANO}: {folder} is missing; reinstall lhrs")
    return folder


def chat_template(name: str) -> str:
    """Return a Jinja chat template.

    Args:
        name: `llava_llama_2`, `llama3`, `chatml` or `plain` (captions only, no roles); or the path of a `.jinja` file,
            which writes `<image>` for each image and marks answers with `{% generation %}`, including their end token.

    Raises:
        ConfigError: no template has that name, or the file cannot be read.
    """
    if name.endswith(".jinja"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"chat template {name} cannot be read: {error}") from None
    folder = files("lhrs") / "resources" / "chat"
    known = sorted(p.name.removesuffix(".jinja") for p in folder.iterdir() if p.name.endswith(".jinja"))
    if name not in known:
        raise ConfigError(f"unknown chat template {name!r}; known: {', '.join(known)}, or the path of a .jinja file")
    return (folder / f"{name}.jinja").read_text(encoding="utf-8")


def answer_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the text with which the tokenizer's chat template ends an answer; empty if there is none.

    Raises:
        ConfigError: the template is no valid Jinja.
    """
    chat = [{"role": role, "content": [{"type": "text", "text": "."}]} for role in ("user", "assistant")]
    settings: dict[str, Any] = {"return_assistant_tokens_mask": True, **tokenizer.special_tokens_map}
    try:
        rendered = render_jinja_template([chat], chat_template=cast(str, tokenizer.chat_template), **settings)
    except TemplateError as error:
        raise ConfigError(f"the chat template cannot be rendered: {' '.join(str(error).split())}") from None
    texts, spans = cast(tuple[list[str], list[list[tuple[int, int]]]], rendered)
    return "".join(texts[0][start:stop] for start, stop in spans[0]).rpartition(".")[2].strip()


def _check_answer_end(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Refuse a template whose end token the language model could never write.

    Raises:
        ConfigError: it is, or the template is no valid Jinja.
    """
    end = answer_end(tokenizer)
    if end.startswith("<|") and end not in tokenizer.get_vocab():
        raise ConfigError(
            f"the chat template ends answers with {end!r}, which is no token of {source}: choose another "
            "`chat_template`."
        )


def build_bridge(preset: str | Preset, **changes: Any) -> LHRSBridgeConfig:
    """Return the bridge's configuration of a preset, for example with `num_experts=4`."""
    preset = get_preset(preset) if isinstance(preset, str) else preset
    return LHRSBridgeConfig(**{**preset.bridge, **changes})


def build_model(
    preset: str | Preset,
    *,
    encoder: str | Path | None = None,
    language_model: str | Path | None = None,
    dtype: torch.dtype = torch.float32,
    quantize: str | None = None,
    image_size: int | None = None,
    has_bridge: bool = True,
    **bridge: Any,
) -> tuple[LHRSForConditionalGeneration, LHRSProcessor]:
    """Join a pretrained encoder and language model by a bridge with random weights; training starts from this.

    Args:
        preset: a name of `PRESETS`, or parts of your own.
        encoder: another hub id or folder (transformers or timm) than the preset's.
        language_model: another hub id or folder than the preset's.
        dtype: of all weights.
        quantize: "8bit" or "4bit" keeps the language model's matrices in these (bitsandbytes), to train LoRA on them.
        image_size: side in pixels to which images are resized, see `load_image_processor`.
        has_bridge: False leaves the bridge away, for an encoder with dense heads, see `lhrs.training.perception`.
        bridge: changes to the preset's bridge.

    Raises:
        CheckpointError: a part lacks weights, or lacks the tapped levels.
        ConfigError: the preset or the bridge is wrong.
    """
    preset = get_preset(preset) if isinstance(preset, str) else preset
    levels = list(preset.levels)
    encoder = str(encoder or preset.encoder)
    heads = load_heads(Path(encoder)) if (Path(encoder) / HEADS_CONFIG).is_file() else None
    if not has_bridge and heads is None:
        raise ConfigError(f"{encoder} has no dense heads: a model without a bridge would not see images")
    vision = _load_encoder(encoder, levels, dtype)
    source = str(language_model or preset.language_model)
    language, tokenizer = load_language(source, preset, dtype, quantize)
    if tokenizer is None:
        raise CheckpointError(f"{source} has no tokenizer")
    _check_answer_end(tokenizer, source)
    widths = level_widths(vision, levels)
    bridge_config = build_bridge(preset, **{"level_sizes": widths, **bridge}) if has_bridge else None
    image_token_id = cast(int, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))
    heads_config = None if heads is None else heads.config
    config = LHRSConfig(
        vision.config, language.config, bridge_config, levels, image_token_id, heads_config=heads_config, dtype=dtype
    )
    with torch.device("meta"):  # all weights are replaced: skip random initialization
        model = LHRSForConditionalGeneration(config)
    model.model.vision_tower = vision
    model.model.language_model = language.base_model
    model.lm_head = language.get_output_embeddings()
    if bridge_config is not None:
        model.model.bridge = Bridge(bridge_config, config.text_config.hidden_size).to(dtype)
        model.model.bridge.apply(model._init_weights)
    model.model.dense_heads = None if heads is None else heads.to(dtype)
    model.generation_config = generation_settings(language, tokenizer)
    image_processor = load_image_processor(encoder, image_size)
    return model.eval(), LHRSProcessor(
        image_processor, tokenizer, num_image_tokens=bridge_config.num_tokens if bridge_config else 0
    )


def _load_encoder(source: str, levels: list[int], dtype: torch.dtype) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(source)
    config = getattr(config, "vision_config", config)  # encoders are often published with their text tower
    depth = getattr(config, "num_hidden_layers", None)
    if depth is not None and max(levels) > depth:
        raise CheckpointError(f"{source} has {depth} layers; level {max(levels)} cannot be tapped")
    truncate_layers(config, levels)
    encoder, info = AutoModel.from_pretrained(source, dtype=dtype, output_loading_info=True, config=config)
    try:
        level_widths(encoder, levels)
    except IndexError:
        raise CheckpointError(f"{source} has no level {max(levels)}; choose others with `levels`") from None
    remove_unused_layers(encoder, levels)
    _check_complete(encoder, info["missing_keys"], source)
    return encoder


def load_language(
    source: str, preset: Preset, dtype: torch.dtype, quantize: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """Load a causal language model, and its tokenizer if it has one, made ready for images."""
    model = _load(AutoModelForCausalLM, source, dtype, **quantization(quantize, dtype))
    prepare_quantized(model)
    if Path(source).is_dir() and not any(Path(source).glob("token*")):
        return model, None
    tokenizer = load_tokenizer(source, preset.chat)
    if len(tokenizer) > len(cast(Tensor, model.get_input_embeddings().weight)):
        # New rows are the mean of the old ones, so that the placeholder's logit is never the largest.
        model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer


def load_tokenizer(source: str, chat: str) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a language model with the image placeholder and a chat template, see `chat_template`."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, special=True, normalized=False)], special_tokens=True)
    tokenizer.chat_template = chat_template(chat)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def quantization(bits: str | None, dtype: torch.dtype) -> dict[str, Any]:
    """Return the quantization arguments of `from_pretrained`."""
    if bits is None:
        return {}
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(f"{bits} weights need bitsandbytes: pip install 'lhrs[quantize]'")
    config = BitsAndBytesConfig(
        load_in_8bit=bits == "8bit",
        load_in_4bit=bits == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": config, "device_map": {"": PartialState().device}}


def prepare_quantized(model: nn.Module) -> None:
    """Keep gradients of frozen 4-bit matrices.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks these matrices for a kernel without a gradient, so that nothing
    before them would be trained.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010


def _load(auto: Any, source: str, dtype: torch.dtype, **kwargs: Any) -> PreTrainedModel:
    model, info = auto.from_pretrained(source, dtype=dtype, output_loading_info=True, **kwargs)
    _check_complete(model, info["missing_keys"], source)
    return model


def _check_complete(model: nn.Module, missing: Iterable[str], source: str) -> None:
    """Raise CheckpointError if a source lacks weights that a model has."""
    if lacking := sorted(model.state_dict().keys() & set(missing)):
        raise CheckpointError(f"{source} lacks {len(lacking)} weights of {type(model).__name__}, such as {lacking[0]}")


def generation_settings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> GenerationConfig:
    """Return the settings of greedy decoding, as in both papers; the defaults of the language models sample.

    An answer ends with an end token of the language model, or that of the chat template.

    Raises:
        ConfigError: see `answer_end`.
    """
    eos = model.generation_config.eos_token_id
    if tokenizer is None:
        return GenerationConfig(do_sample=False, eos_token_id=eos, pad_token_id=eos if isinstance(eos, int) else None)
    stop = [eos] if isinstance(eos, int) else list(eos or [tokenizer.eos_token_id])
    if (end := tokenizer.get_vocab().get(answer_end(tokenizer))) is not None:
        stop.append(end)
    return GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(stop)),
        pad_token_id=tokenizer.pad_token_id,
    )
