"""The model of a stage without its weights, on torch's `meta` device, and its processor: for `lhrs train --check`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from transformers import AutoConfig, AutoModel, CLIPVisionConfig, LlamaConfig, PreTrainedConfig, SiglipVisionConfig

from lhrs.errors import CheckpointError, ConfigError
from lhrs.models.configuration import LHRSConfig
from lhrs.models.dense_heads import HEADS_CONFIG, load_heads
from lhrs.models.encoder import level_widths, truncate_layers
from lhrs.models.load import ADAPTER
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.presets import Preset, build_bridge, get_preset, load_tokenizer
from lhrs.models.processing import LHRSProcessor, load_image_processor
from lhrs.training.recipe import MODEL
from lhrs.training.vlm import PRESETS, StageModel, add_lora
from lhrs.training.vlm_config import LoraConfig, ModelConfig, VLMConfig

_PUBLISHED: dict[str, Callable[[], PreTrainedConfig]] = {
    "openai/clip-vit-large-patch14": lambda: CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=14,
        image_size=224,
    ),
    "google/siglip-so400m-patch14-384": lambda: SiglipVisionConfig(
        hidden_size=1152, intermediate_size=4304, num_hidden_layers=27, num_attention_heads=16, patch_size=14,
        image_size=384,
    ),
    "meta-llama/Llama-2-7b-chat-hf": lambda: LlamaConfig(
        vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32,
    ),
    "meta-llama/Meta-Llama-3-8B-Instruct": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8,
    ),
}  # fmt: skip
"""Sizes of the presets' parts, for when the hub is out of reach or a license is not accepted yet."""


@dataclass
class MetaModel:
    """A stage's model without weights."""

    stage: StageModel
    processor: LHRSProcessor | None
    """None: the tokenizer or the image processor is out of reach."""
    num_image_tokens: int
    remarks: list[str]
    """What was assumed."""


def build_meta_model(config: VLMConfig) -> MetaModel:
    """Return the model that a stage will train, from configuration files only.

    Where the previous stage has no result yet, the recipe's preset stands in.

    Raises:
        CheckpointError: a configuration cannot be read and its sizes are not known.
        ConfigError: a setting of the model is wrong.
    """
    remarks: list[str] = []
    settings = config.model or ModelConfig()
    previous = None if config.init_from is None else config.init_from / MODEL
    if previous is not None and not previous.is_dir():
        remarks.append(f"{config.init_from} has no result yet: sizes are those of the preset {PRESETS[config.recipe]}")
        previous = None
    folder = str(previous) if previous is not None else settings.folder
    if folder is not None:
        whole, processor = _read_config(folder), _try_processor(remarks, lambda: LHRSProcessor.from_pretrained(folder))
        if not isinstance(whole, LHRSConfig):
            raise CheckpointError(f"{folder} is no LHRS model, but a {whole.model_type}.")
    else:
        whole, processor = _join(config, settings, remarks)
    with torch.device("meta"):
        model = LHRSForConditionalGeneration(whole)
        if config.experts is not None and whole.bridge_config is not None and whole.bridge_config.num_experts == 1:
            model.upcycle_bridge(config.experts.num_experts, config.experts.top_k, config.experts.balance_weight)
        if (lora := _lora(config, previous)) is not None:
            add_lora(model, lora)
    bridge = whole.bridge_config
    return MetaModel(StageModel(model, config.trainable), processor, bridge.num_tokens if bridge else 0, remarks)


def _join(config: VLMConfig, settings: ModelConfig, remarks: list[str]) -> tuple[LHRSConfig, LHRSProcessor | None]:
    """Return the configuration and the processor of the modules that stage 1 joins."""
    preset = _changed_preset(config, settings)
    vision_source = settings.encoder or preset.encoder
    language_source = settings.language_model or preset.language_model
    vision, language = _read_config(vision_source, remarks), _read_config(language_source, remarks)
    vision = getattr(vision, "vision_config", vision)
    levels = list(preset.levels)
    truncate_layers(vision, levels)
    with torch.device("meta"):
        widths = level_widths(AutoModel.from_config(vision), levels)
    has_bridge = settings.bridge is not None
    bridge = build_bridge(preset, **{"level_sizes": widths, **(settings.bridge or {})}) if has_bridge else None
    heads = load_heads(Path(vision_source)).config if (Path(vision_source) / HEADS_CONFIG).is_file() else None
    num_tokens = bridge.num_tokens if bridge else 0
    processor = _try_processor(remarks, lambda: LHRSProcessor(
        load_image_processor(vision_source, settings.image_size), load_tokenizer(language_source, preset.chat),
        num_image_tokens=num_tokens,
    ))  # fmt: skip
    vocabulary = language.vocab_size + 1  # the image placeholder
    if processor is not None:
        vocabulary = max(language.vocab_size, len(cast(Any, processor.tokenizer)))
    language.vocab_size = vocabulary
    return LHRSConfig(vision, language, bridge, levels, vocabulary - 1, heads_config=heads), processor


def _lora(config: VLMConfig, previous: Path | None) -> LoraConfig | None:
    """Return the settings of the LoRA layers that are trained, or that the previous stage left."""
    if "lora" in config.trainable or previous is None or not (previous / ADAPTER).is_dir():
        return config.lora if "lora" in config.trainable else None
    settings = PeftLoraConfig.from_pretrained(str(previous / ADAPTER))
    return LoraConfig(rank=settings.r, alpha=settings.lora_alpha, dropout=0.0)


def _changed_preset(config: VLMConfig, settings: ModelConfig) -> Preset:
    preset = get_preset(settings.preset or PRESETS[config.recipe])
    layers = settings.vision_feature_layers
    changes: dict[str, Any] = {"levels": layers and tuple(layers), "chat": settings.chat_template}
    return replace(preset, **{name: value for name, value in changes.items() if value is not None})


def _read_config(source: str, remarks: list[str] | None = None) -> Any:
    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        if remarks is None or source not in _PUBLISHED:
            raise CheckpointError(f"{source} cannot be read: {' '.join(str(error).split())[:200]}") from error
        remarks.append(f"{source} is out of reach: its published sizes are used")
        return _PUBLISHED[source]()


def _try_processor(remarks: list[str], load: Callable[[], Any]) -> LHRSProcessor | None:
    try:
        return cast(LHRSProcessor, load())
    except ConfigError:
        raise
    except (OSError, ValueError, KeyError):
        remarks.append("the tokenizer or image processor is out of reach: tokens are not counted")
        return None
