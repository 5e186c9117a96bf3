"""One stage of LHRS-Bot or LHRS-Bot-Nova: build or take over the model, freeze, train, hand on.

The result of a stage is `learned.safetensors`, all parts that changed since the model was joined, from which the next
stage goes on exactly; and `model/`, the whole model with its LoRA merged, for use.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from lhrs.data.chat import ChatDataset, ChatEncoder
from lhrs.data.collate import Collator
from lhrs.data.dataset import Dataset, open_dataset
from lhrs.data.features import FeatureFolder
from lhrs.errors import CheckpointError, ConfigError
from lhrs.files import new_folder, write_tensors
from lhrs.inference.model_family import get_family
from lhrs.models.modeling import LHRSForConditionalGeneration
from lhrs.models.presets import build_model, chat_template, get_preset
from lhrs.models.processing import LHRSProcessor
from lhrs.training.callbacks import WriteSamples
from lhrs.training.defaults import PRESET
from lhrs.training.engine import KeyedTrainer, fit, training_arguments
from lhrs.training.features import keep_features
from lhrs.training.output import (
    Record,
    absolute,
    finished_record,
    is_main_process,
    is_to_do,
    load_tensors,
    mark_finished,
    open_run,
    put_in,
)
from lhrs.training.run import CurriculumRun, LoraConfig, ModelConfig
from lhrs.training.schedule import make_optimizer, make_schedule
from lhrs.training.shard import load_whole, shard_on_cpu, sharding, whole_state
from lhrs.training.trainable import freeze_all_but, part_of, print_trainable

LEARNED = "learned.safetensors"


class StageModel(nn.Module):
    """The model as the Trainer sees it: frozen parts stay in evaluation mode and out of checkpoints.

    Args:
        model: the whole model, with LoRA layers if they are trained.
        train: the parts that learn, see `lhrs.training.trainable`.
        learned: the parts that learned in earlier stages; kept in the state as well.
    """

    accepts_loss_kwargs = True
    """The Trainer counts the answer tokens of the whole step, so that every token weighs the same whatever the
    micro-batch, the accumulation and the number of processes."""

    def __init__(
        self, model: LHRSForConditionalGeneration, train: Collection[str], learned: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.model = model
        self.loss_type = model.loss_type  # tells the Trainer that labels are shifted by the loss
        self.parts = set(train)
        self.kept = self.parts | set(learned)
        freeze_all_but(model, train)
        self.register_state_dict_post_hook(_keep_learned)
        self._usage: Tensor | None = None
        self._num_batches = 0

    def train(self, mode: bool = True) -> "StageModel":
        super().train(mode)
        for part in ("vision_tower", "bridge"):
            if part not in self.parts:
                getattr(self.model.model, part).eval()
        if not self.parts & {"language_model", "lora"}:
            self.model.model.language_model.eval()
        return self

    def forward(self, **inputs: Any) -> dict[str, Tensor]:
        """Return `{"loss"}` of a batch of `lhrs.data.collate.Collator`."""
        out = self.model(use_cache=False, **inputs)
        loss = cast(Tensor, out.loss)
        if not inputs.keys() & {"pixel_values", "image_levels"}:
            # several processes need a gradient of everything that learns, even if zero
            loss = loss + 0.0 * sum(p.sum() for p in self.parameters() if p.requires_grad)
        if out.expert_usage is not None and self.training:
            self._usage = out.expert_usage if self._usage is None else self._usage + out.expert_usage
            self._num_batches += 1
        return {"loss": loss}

    def take_expert_usage(self) -> list[float]:
        """Return the share of tokens that each expert got since the last call; empty without experts."""
        usage = [] if self._usage is None else (self._usage / self._num_batches).tolist()
        self._usage, self._num_batches = None, 0
        return usage


def _keep_learned(module: nn.Module, state: dict[str, Any], prefix: str, _: dict) -> None:
    """Leave out what no stage changed, and an output layer that is the input embedding."""
    stage = cast(StageModel, module)
    tied = cast(Any, stage.model.config).tie_word_embeddings
    for name in list(state):
        if part_of(name) not in stage.kept or (tied and name == f"{prefix}model.lm_head.weight"):
            del state[name]


class StageTrainer(KeyedTrainer):
    """Optimizer and schedule of a curriculum run; logs how the experts are used."""

    def __init__(self, run: CurriculumRun, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._run = run

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.args.fsdp and not self.is_fsdp_enabled:
            shard_on_cpu(self)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled:
            found = load_tensors(Path(resume_from_checkpoint) / "model.safetensors")
            self._issue_warnings_after_load(load_whole(cast(nn.Module, model or self.model), found))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        self.optimizer = make_optimizer(cast(nn.Module, self.model), self._run.fit)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        target = optimizer or cast(torch.optim.Optimizer, self.optimizer)
        self.lr_scheduler = make_schedule(target, self._run.fit, num_training_steps)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            usage = cast(StageModel, self.accelerator.unwrap_model(cast(nn.Module, self.model))).take_expert_usage()
            logs.update({f"expert_{n}": share for n, share in enumerate(usage)})
        super().log(logs, *args, **kwargs)


@dataclass(frozen=True)
class Stage:
    """A model ready to be trained."""

    module: StageModel
    processor: LHRSProcessor
    lora: PeftModel | None
    """Handle on the LoRA layers inside the model."""
    record: Record


def train_stage(run: CurriculumRun) -> None:
    """Train one stage.

    Raises:
        ConfigError: the stage before is missing or unfinished, or the run contradicts itself or its folder.
        DataError: data is missing or broken.
        CheckpointError: weights do not fit.
    """
    before = require_stage_before(run)
    if not is_to_do(run):
        return
    sources = _open_sources(run)
    torch.manual_seed(run.seed)
    stage = build_stage(run, before)
    if run.gradient_checkpointing:
        stage.module.model.gradient_checkpointing_enable({"use_reentrant": False})
    features = None
    if run.cache_features is not None:
        images = [image for source in sources for sample in source for image in sample.images]
        features = keep_features(stage.module.model, stage.processor, images, run.cache_features)
    dataset = _dataset(run, sources, stage, features)
    arguments = training_arguments(
        run,
        run.fit.batch_size,
        run.fit.micro_batch_size,
        max_steps=run.fit.steps or -1,
        num_train_epochs=run.fit.epochs or 1.0,
        max_grad_norm=run.fit.max_grad_norm,
        learning_rate=run.fit.lr,
        ddp_find_unused_parameters=False,  # `StageModel.forward` uses all of them
        **(sharding(stage.module) if run.shard else {}),
    )
    open_run(run, stage.record)
    print_trainable(stage.module.model)
    trainer = StageTrainer(
        run,
        model=stage.module,
        args=arguments,
        train_dataset=dataset,
        data_collator=Collator(cast(int, stage.processor.tokenizer.pad_token_id), run.pack),
    )
    if run.samples.num and not run.shard:  # only one process writes samples, but it has a part of the weights
        settings = run.samples.model_dump()
        trainer.add_callback(WriteSamples(stage.module.model, dataset, run.out, **settings))
    fit(trainer)
    learned = whole_state(cast(nn.Module, trainer.model)) if run.shard else stage.module.state_dict()
    if is_main_process():
        if run.shard or run.quantize:  # the model in memory is in pieces, or its numbers are rough
            torch.manual_seed(run.seed)
            stage = build_stage(run.model_copy(update={"quantize": None}), before)
            stage.module.load_state_dict(learned, strict=False)
        _hand_on(run, stage, learned)


def require_stage_before(run: CurriculumRun) -> Record | None:
    """Return the record of the stage that this one goes on from; None for stage 1.

    Raises:
        ConfigError: it is missing, not finished, or not the stage before.
    """
    if run.stage == 1:
        return None
    needed = f"stage {run.stage} of {run.system} goes on from the result of stage {run.stage - 1}"
    if run.start is None:
        raise ConfigError(f"{needed}: give the folder of that run as `start`.")
    try:
        record = finished_record(run.start, "curriculum")
    except ConfigError as error:
        raise ConfigError(f"{needed}, but {error}") from None
    if (record.system, record.stage) != (run.system, run.stage - 1):
        raise ConfigError(f"{needed}, but {run.start} holds stage {record.stage} of {record.system}.")
    if record.lora is not None and run.lora is not None and record.lora.rank != run.lora.rank:
        raise ConfigError(f"lora.rank is {run.lora.rank}, but {run.start} goes on with rank {record.lora.rank}.")
    return record


def build_stage(run: CurriculumRun, before: Record | None) -> Stage:
    """Build the model, put in what earlier stages learned, add experts and LoRA where they begin, and freeze.

    Raises:
        CheckpointError: weights do not fit.
        ConfigError: a setting of the model is wrong.
    """
    record = _record(run, before)
    model, processor = load_parts(cast(ModelConfig, record.model), run.system, run.quantize)
    lora = None
    if before is not None:
        start = cast(Path, run.start)
        if before.experts is not None:
            _upcycle(model, before)
        if before.lora is not None:
            lora = add_lora(model, before.lora.model_copy(update={"dropout": (run.lora or before.lora).dropout}))
        learned_before = StageModel(model, (), before.learned)
        put_in(learned_before, start / LEARNED)
        learned_before.requires_grad_(False)
    if before is None or before.experts is None:
        _upcycle(model, record)
    if lora is None and record.lora is not None:
        lora = add_lora(model, record.lora)
    learned = () if before is None else before.learned
    return Stage(StageModel(model, run.train, learned), processor, lora, record)


def load_parts(
    config: ModelConfig, system: str, quantize: str | None = None
) -> tuple[LHRSForConditionalGeneration, LHRSProcessor]:
    """Join the parts that stage 1 begins with, or load a whole model; `quantize` is for the language model.

    Raises:
        CheckpointError: a part is missing or lacks weights.
        ConfigError: the preset is unknown, or the bridge's settings are wrong.
    """
    dtype = cast(torch.dtype, getattr(torch, config.dtype))
    try:
        if config.folder is not None:
            model = LHRSForConditionalGeneration.from_pretrained(config.folder, dtype=dtype)
            processor = LHRSProcessor.from_pretrained(config.folder)
        else:
            preset = get_preset(config.preset or PRESET[system])
            changes: dict[str, Any] = {"levels": config.levels and tuple(config.levels), "chat": config.chat}
            preset = replace(preset, **{name: value for name, value in changes.items() if value is not None})
            parts = {"encoder": config.encoder, "language_model": config.language_model}
            model, processor = build_model(preset, **parts, dtype=dtype, quantize=quantize, **config.bridge)  # type: ignore[arg-type]
    except (OSError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise CheckpointError(f"the model cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    if getattr(model.config, "model_family", None) is None:
        model.config.model_family = system.replace("-", "_")
    return model, processor


def add_lora(model: LHRSForConditionalGeneration, config: LoraConfig) -> PeftModel:
    """Put LoRA layers beside every linear layer of the language model, its head apart; they begin without effect."""
    language: Any = model.model.language_model
    targets = [name for name, module in language.named_modules() if isinstance(module, nn.Linear)]
    settings = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it, a float is as good
        lora_dropout=config.dropout,
        target_modules=targets,
        bias="none",
    )
    return cast(PeftModel, get_peft_model(language, settings))


def _record(run: CurriculumRun, before: Record | None) -> Record:
    """Return what this run is, with all that earlier stages have laid down."""
    model = absolute(run.model or ModelConfig()) if before is None else before.model
    learned = sorted({*run.train, *(before.learned if before else ())})
    lora = before.lora if before is not None and before.lora is not None else run.lora if "lora" in run.train else None
    experts = before.experts if before is not None and before.experts is not None else run.experts
    return Record(
        kind=run.kind, system=run.system, stage=run.stage, model=model, learned=learned, lora=lora, experts=experts
    )


def _upcycle(model: LHRSForConditionalGeneration, record: Record) -> None:
    if record.experts is not None:
        experts = record.experts
        model.upcycle_bridge(experts.num, experts.top_k, experts.balance_weight)


def _open_sources(run: CurriculumRun) -> list[Dataset]:
    """Open the data first: a wrong path shows before a large model is fetched."""
    sources = [open_dataset(source.path, source.reader, source.split) for source in run.data]
    for source, config in zip(sources, run.data, strict=True):
        if not len(source):
            raise ConfigError(f"{config.path} has no samples.")
    return sources


def _dataset(run: CurriculumRun, sources: list[Dataset], stage: Stage, features: FeatureFolder | None) -> ChatDataset:
    template = None if run.template is None else chat_template(run.template)
    box_style = get_family(cast(Any, stage.module.model.config).model_family).box_style
    encoder = ChatEncoder(stage.processor, template, run.system_prompt, run.max_tokens, features, box_style)
    return ChatDataset(list(sources), [source.weight for source in run.data], encoder, run.group_by_length)


def _hand_on(run: CurriculumRun, stage: Stage, learned: dict[str, Tensor]) -> None:
    """Write what was learned, then the whole model with its LoRA merged."""
    write_tensors(run.out / LEARNED, learned)
    model = stage.module.model
    if stage.lora is not None:
        model.model.language_model = cast(Any, stage.lora).merge_and_unload()
    dtype = cast(torch.dtype, getattr(torch, cast(ModelConfig, stage.record.model).dtype))
    with new_folder(run.out / "model") as folder:
        cast(nn.Module, model).to(dtype)
        model.save_pretrained(folder)
        stage.processor.save_pretrained(folder)
    mark_finished(run.out, stage.record)
