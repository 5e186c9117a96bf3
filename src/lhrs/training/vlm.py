"""One stage of LHRS-Bot or LHRS-Bot-Nova: build or load the model, freeze, train, save.

The result is `model/`, with modules that were trained in float32; a trained LoRA is `model/adapter/`, a PEFT adapter
that `lhrs export` merges. The next stage starts from this folder exactly.
"""

import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback

from lhrs.atomic_io import atomic_dir
from lhrs.data.chat_dataset import ChatDataset, ChatEncoder
from lhrs.data.collate import Collator
from lhrs.data.dataset import Dataset
from lhrs.data.good_samples import open_samples
from lhrs.data.training_sets import locate_sets
from lhrs.errors import CheckpointError, ConfigError
from lhrs.inference.model_family import get_family
from lhrs.models.load import ADAPTER, copy_beside, load_model, read_float32
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.presets import build_model, chat_template, get_preset
from lhrs.models.processing import LHRSProcessor
from lhrs.training import data_fingerprint
from lhrs.training.cache_features import cache_features
from lhrs.training.callbacks import LogGenerations
from lhrs.training.freeze import freeze_except, module_of
from lhrs.training.fsdp import fsdp_args, gather_state_dict
from lhrs.training.optim import make_groups
from lhrs.training.recipe import MODEL, Recipe, run
from lhrs.training.run_dir import RunRecord, finished_record
from lhrs.training.vlm_config import LoraConfig, ModelConfig, VLMConfig

PRESETS = {"lhrs-bot": "lhrs-bot-7b", "lhrs-bot-nova": "lhrs-bot-nova-8b"}
"""Modules that each recipe joins, by name in `lhrs.models.presets`."""


def train_vlm(config: VLMConfig) -> None:
    """Train one stage; see `lhrs.training.recipe.run`."""
    run(VLMRecipe(config))


class StageModel(nn.Module):
    """The model as the Trainer sees it: frozen modules stay in evaluation mode and out of checkpoints.

    Args:
        model: the whole model, with LoRA layers if they are trained.
        trainable: the modules that are trained, see `lhrs.training.freeze`.
    """

    accepts_loss_kwargs = True
    """The Trainer counts the answer tokens of the whole step, so that every token weighs the same whatever the
    micro-batch, the accumulation and the number of processes."""

    def __init__(self, model: LHRSForConditionalGeneration, trainable: Collection[str]) -> None:
        super().__init__()
        self.model = model
        self.loss_type = model.loss_type  # tells the Trainer that labels are shifted by the loss
        self.trainable = set(trainable)
        freeze_except(model, trainable)
        self.register_state_dict_post_hook(_keep_trainable)
        self._usage: Tensor | None = None
        self._num_batches = 0

    def train(self, mode: bool = True) -> "StageModel":
        super().train(mode)
        for name in ("vision_tower", "bridge", "dense_heads"):
            module = getattr(self.model.model, name)
            if name not in self.trainable and module is not None:
                module.eval()
        if not self.trainable & {"language_model", "lora"}:
            self.model.model.language_model.eval()
        return self

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        """Return `{"loss"}` of a batch of `lhrs.data.collate.Collator`."""
        out = self.model(use_cache=False, **inputs)
        loss = cast(Tensor, out.loss)
        if not inputs.keys() & {"pixel_values", "image_levels"}:
            # several processes need a gradient of every trained parameter, even if zero
            loss = loss + 0.0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        if out.expert_usage is not None and self.training:
            self._usage = out.expert_usage if self._usage is None else self._usage + out.expert_usage
            self._num_batches += 1
        return {"loss": loss}

    def take_expert_usage(self) -> list[float]:
        """Return the fraction of tokens of each expert since the last call; empty without experts."""
        usage = [] if self._usage is None else (self._usage / self._num_batches).tolist()
        self._usage, self._num_batches = None, 0
        return usage


def _keep_trainable(module: nn.Module, state: dict[str, Any], prefix: str, _: dict) -> None:
    """Leave out frozen modules, and an output layer that is the input embedding."""
    stage = cast(StageModel, module)
    tied = cast(Any, stage.model.config).tie_word_embeddings
    for name in list(state):
        if module_of(name) not in stage.trainable or (tied and name == f"{prefix}model.lm_head.weight"):
            del state[name]


class VLMRecipe(Recipe[VLMConfig]):
    """One stage."""

    betas = {"adamw": (0.9, 0.95), "adan": (0.98, 0.92, 0.99)}

    def __init__(self, config: VLMConfig) -> None:
        super().__init__(config)
        self.optim = config.optim
        self.previous = load_previous_stage(config)

    @property
    def arguments(self) -> dict[str, Any]:  # type: ignore[override]
        extra = fsdp_args(self.stage) if self.config.fsdp else {}
        return {"ddp_find_unused_parameters": False, **extra}  # `StageModel.forward` uses all of them

    def open_data(self) -> dict[str, str]:
        self.sources = open_sources(self.config)
        fingerprints: dict[str, str] = {}
        for n, (source, data) in enumerate(zip(self.sources, self.config.data, strict=True)):
            fingerprints |= data_fingerprint.of_samples(data.name or str(n), data.location, source)
        return fingerprints

    def build(self) -> nn.Module:
        self.stage, self.processor, self.lora = build_vlm(self.config, self.previous)
        if self.config.gradient_checkpointing:
            self.stage.model.gradient_checkpointing_enable({"use_reentrant": False})
        return self.stage

    def dataset(self) -> tuple[ChatDataset, Callable[..., Any]]:
        self.rows = make_dataset(self.config, self.sources, self.stage.model, self.processor)
        return self.rows, Collator(cast(int, self.processor.tokenizer.pad_token_id), self.config.packing_length)

    def param_groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """The encoder has its own rate; queries have no decay."""
        optim = self.config.optim
        return make_groups(module, optim.weight_decay, (".query",), lambda name: (
            optim.vision_lr if module_of(name) == "vision_tower" else None) or optim.lr)  # fmt: skip

    def details(self) -> dict[str, Any]:
        lora = _lora_settings(self.config, self.previous)
        return {
            "recipe": self.config.recipe,
            "stage": self.config.stage,
            "dtype": _dtype_name(self.config, self.previous),
            "lora": None if lora is None else lora.model_dump(),
        }

    def callbacks(self, trainer: Trainer) -> list[TrainerCallback]:
        settings = self.config.sample_generations
        if not settings.num or self.config.fsdp:  # only one process generates, but it has a part of the weights
            return []
        return [LogGenerations(self.stage.model, self.rows, self.config.output_dir, **settings.model_dump())]

    def metrics(self, trainer: Trainer, means: dict[str, float]) -> dict[str, float]:
        stage = cast(StageModel, trainer.accelerator.unwrap_model(cast(nn.Module, trainer.model)))
        return {f"expert_{n}": fraction for n, fraction in enumerate(stage.take_expert_usage())}

    def collect(self, trainer: Trainer) -> dict[str, Tensor]:
        return gather_state_dict(cast(nn.Module, trainer.model)) if self.config.fsdp else self.stage.state_dict()

    def save(self, trainer: Trainer, state: dict[str, Tensor]) -> None:
        config = self.config
        stage, lora = self.stage, self.lora
        if config.fsdp or config.quantize:  # the model in memory is sharded, or its weights are rounded
            torch.manual_seed(config.seed)
            stage, _, lora = build_vlm(config.model_copy(update={"quantize": None}), self.previous)
            stage.load_state_dict(state, strict=False)
        if count := int(self.rows.unreadable.sum()):
            print(f"{count} of {len(self.rows)} samples were replaced: their images cannot be read", file=sys.stderr)
        cast(Any, stage.model.config).system_prompt = config.system_prompt or ""
        save_model(self.model_dir, stage, self.processor, lora, _dtype_name(config, self.previous), _origin(config))

    def module_of(self, name: str) -> str:
        return module_of(name)


def load_previous_stage(config: VLMConfig) -> RunRecord | None:
    """Return the record of the stage that this one starts from; None for stage 1.

    Raises:
        ConfigError: it is missing, not finished, or not the previous stage.
    """
    if config.stage == 1:
        return None
    needed = f"stage {config.stage} of {config.recipe} starts from the result of stage {config.stage - 1}"
    if config.init_from is None:
        raise ConfigError(f"{needed}: set `init_from` to the output folder of that run.")
    try:
        record = finished_record(config.init_from, "vlm")
    except ConfigError as error:
        raise ConfigError(f"{needed}, but {error}") from None
    recipe, stage, lora = (record.details.get(key) for key in ("recipe", "stage", "lora"))
    if (recipe, stage) != (config.recipe, config.stage - 1):
        raise ConfigError(f"{needed}, but {config.init_from} contains stage {stage} of {recipe}.")
    if lora is not None and config.lora is not None and lora["rank"] != config.lora.rank:
        raise ConfigError(f"lora.rank is {config.lora.rank}, but the adapter of {config.init_from} has {lora['rank']}.")
    return record


def build_vlm(config: VLMConfig, previous: RunRecord | None) -> tuple[StageModel, LHRSProcessor, PeftModel | None]:
    """Return the model of a stage with what it starts from, its processor, and its LoRA layers if it has any.

    Raises:
        CheckpointError: weights do not fit.
        ConfigError: a setting of the model is wrong.
    """
    lora = None
    if previous is None:
        model, processor = load_modules(config.model or ModelConfig(), config.recipe, config.quantize)
    else:
        folder = cast(Path, config.init_from) / MODEL
        dtype = cast(torch.dtype, getattr(torch, _dtype_name(config, previous)))
        model, processor = load_model(folder, dtype, config.quantize)
        read_float32(model, folder, set(config.trainable) - {"lora"}, module_of)
        if (folder / ADAPTER).is_dir():
            lora = _load_lora(model, folder / ADAPTER, config.lora)
    if config.experts is not None and getattr(model.config.bridge_config, "num_experts", 1) == 1:
        experts = config.experts
        model.upcycle_bridge(experts.num_experts, experts.top_k, experts.balance_weight)
    if lora is None and "lora" in config.trainable:
        lora = add_lora(model, cast(LoraConfig, config.lora))
    return StageModel(model, config.trainable), processor, lora


def load_modules(
    config: ModelConfig, recipe: str, quantize: str | None = None
) -> tuple[LHRSForConditionalGeneration, LHRSProcessor]:
    """Join the modules that stage 1 starts from, or load a whole model; `quantize` is for the language model.

    Raises:
        CheckpointError: a module is missing or lacks weights.
        ConfigError: preset or family is unknown, or the bridge's settings are wrong.
    """
    dtype = cast(torch.dtype, getattr(torch, config.dtype))
    if config.family is not None:
        get_family(config.family)  # a wrong name is reported before a large model is downloaded
    if config.folder is not None:
        model, processor = load_model(config.folder, dtype, quantize)
    else:
        preset = get_preset(config.preset or PRESETS[recipe])
        layers = config.vision_feature_layers
        changes: dict[str, Any] = {"levels": layers and tuple(layers), "chat": config.chat_template}
        preset = replace(preset, **{name: value for name, value in changes.items() if value is not None})
        bridge: dict[str, Any] = {"has_bridge": False} if config.bridge is None else config.bridge
        modules: dict[str, Any] = {name: getattr(config, name) for name in ("encoder", "language_model", "image_size")}
        try:
            model, processor = build_model(preset, **modules, dtype=dtype, quantize=quantize, **bridge)
        except (OSError, ValueError) as error:
            if isinstance(error, ConfigError):
                raise
            raise CheckpointError(f"the model cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    if config.family is not None or getattr(model.config, "model_family", None) is None:
        model.config.model_family = config.family or recipe.replace("-", "_")
    return model, processor


def add_lora(model: LHRSForConditionalGeneration, config: LoraConfig) -> PeftModel:
    """Add LoRA layers to every linear layer of the language model except its head; initially they have no effect."""
    language: Any = model.model.language_model
    targets = [f"model.language_model.{n}" for n, module in language.named_modules() if isinstance(module, nn.Linear)]
    settings = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it, a float works
        lora_dropout=config.dropout,
        target_modules=targets,
        bias="none",
    )
    return cast(PeftModel, get_peft_model(cast(Any, model), settings))


def _load_lora(model: LHRSForConditionalGeneration, folder: Path, changed: LoraConfig | None) -> PeftModel:
    """Load the adapter of the previous stage, with this one's dropout, ready to be trained."""
    try:
        settings = PeftLoraConfig.from_pretrained(str(folder))
        if changed is not None:
            settings.lora_dropout = changed.dropout
        return PeftModel.from_pretrained(cast(Any, model), str(folder), is_trainable=True, config=settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{folder} does not load: {' '.join(str(error).split())[:300]}") from error


def _lora_settings(config: VLMConfig, previous: RunRecord | None) -> LoraConfig | None:
    if previous is not None and previous.details["lora"] is not None:
        return LoraConfig.model_validate(previous.details["lora"])
    return config.lora if "lora" in config.trainable else None


def _dtype_name(config: VLMConfig, previous: RunRecord | None) -> str:
    return previous.details["dtype"] if previous is not None else (config.model or ModelConfig()).dtype


def open_sources(config: VLMConfig) -> list[Dataset]:
    """Open the data first: a wrong path is reported before a large model is downloaded."""
    locate_sets([str(data.name) for data in config.data if data.path is None])  # one message for all that is missing
    sources = [open_samples(data.location, data.format_or_known, data.split, data.skip_bad) for data in config.data]
    for source, data in zip(sources, config.data, strict=True):
        if not len(source):
            raise ConfigError(f"{data.location} has no samples. {source.dropped.summary()}".strip())
    return sources


def make_dataset(
    config: VLMConfig, sources: list[Dataset], model: LHRSForConditionalGeneration, processor: LHRSProcessor
) -> ChatDataset:
    """Return the training rows; features of the frozen encoder are computed here if the run keeps them."""
    features = None
    if config.cache_features is not None:
        images = [image for source in sources for sample in source for image in sample.images]
        features = cache_features(model, processor, images, config.cache_features)
    template = None if config.chat_template is None else chat_template(config.chat_template)
    box_style = get_family(cast(Any, model.config).model_family).box_style
    encoder = ChatEncoder(processor, template, config.system_prompt, config.max_length, features, box_style)
    weights = [data.weight for data in config.data]
    return ChatDataset(sources, weights, encoder, config.group_by_length, config.seed, config.max_unreadable)


def _origin(config: VLMConfig) -> str | Path | None:
    """Return the folder that the encoder of a stage comes from."""
    if config.init_from is not None:
        return config.init_from / MODEL
    return None if config.model is None else config.model.folder or config.model.encoder


def save_model(
    folder: Path,
    stage: StageModel,
    processor: LHRSProcessor,
    lora: PeftModel | None,
    dtype: str,
    source: str | Path | None,
) -> None:
    """Write the model: trained modules in float32, others in `dtype`, LoRA layers apart as a PEFT adapter.

    Files besides the weights, see `lhrs.models.load.copy_beside`, come from the folder `source`.
    """
    model: Any = stage.model
    with atomic_dir(folder) as part:
        if lora is not None:
            lora.save_pretrained(str(part / ADAPTER))
            lora.unload()  # the plain language model again
        trained = {n: p.detach().clone() for n, p in model.named_parameters() if module_of(n) in stage.trainable}
        model.to(getattr(torch, dtype))
        model.save_pretrained(part, state_dict={**model.state_dict(), **trained})
        processor.save_pretrained(part)
        if source is not None:
            copy_beside(Path(source), part)
