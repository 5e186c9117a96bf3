"""Run files of `lhrs train`: what a YAML may say, by its `kind`. No torch here, so that mistakes show at once."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from lhrs.config import Config
from lhrs.training.base import Run, Share
from lhrs.training.defaults import STAGES

Part = Literal["vision_tower", "bridge", "language_model", "lora"]


class ModelConfig(Config):
    """What stage 1 begins with: the parts of a preset, some of them exchanged, or a whole model folder."""

    preset: str | None = None
    """Name in `lhrs.models.presets`; None is the system's own."""
    encoder: str | None = None
    """Hub id or folder of another vision encoder."""
    language_model: str | None = None
    """Hub id or folder of another language model."""
    levels: list[int] | None = None
    """Encoder levels that the bridge reads, for another encoder."""
    bridge: dict[str, Any] = {}
    """Changes to the preset's bridge, see `LHRSBridgeConfig`."""
    chat: str | None = None
    """Chat template of the finished model, for another language model."""
    folder: str | None = None
    """Hub id or folder of a whole LHRS model, instead of parts."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the frozen parts and of the finished model."""

    @model_validator(mode="after")
    def _is_parts_or_whole(self) -> "ModelConfig":
        if self.folder and (given := self.model_fields_set - {"folder", "dtype"}):
            raise ValueError(f"a whole model (`folder`) has its parts already; remove {sorted(given)[0]!r}")
        return self


class DataConfig(Config):
    """Conversation data, in any format that `lhrs data show` reads."""

    path: Path
    reader: str | None = None
    split: str | None = None
    name: str | None = None
    """For overrides on the command line."""
    weight: PositiveFloat = 1.0
    """Likelier samples come earlier in an epoch; tells only where `fit.steps` ends before the epoch does."""


class CurriculumFit(Config):
    """Optimizer, schedule and length: linear warm-up times a cosine over the whole run."""

    lr: PositiveFloat
    vision_lr: PositiveFloat | None = None
    """Of the encoder, if it is trained; None is `lr`."""
    min_lr: NonNegativeFloat
    """Where every cosine ends."""
    warmup_steps: NonNegativeInt
    warmup_start: Share
    """The warm-up begins at this share of the cosine's value."""
    optimizer: Literal["adamw", "adan"]
    betas: list[Share]
    eps: PositiveFloat
    weight_decay: NonNegativeFloat
    """Of matrices; biases, norms and queries have none."""
    max_grad_norm: PositiveFloat
    batch_size: PositiveInt
    """Samples per optimizer step over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Samples that one process takes at once; None takes its whole share of the batch."""
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _has_one_length(self) -> "CurriculumFit":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        if len(self.betas) != (2 if self.optimizer == "adamw" else 3):
            raise ValueError(f"{self.optimizer} takes {2 if self.optimizer == 'adamw' else 3} betas")
        return self


class LoraConfig(Config):
    """Low-rank updates of every linear layer of the language model (arXiv:2106.09685)."""

    rank: PositiveInt
    alpha: PositiveFloat
    dropout: Share


class ExpertsConfig(Config):
    """Experts that a dense bridge gets in stage 2."""

    num: Annotated[int, Field(ge=2)]
    top_k: PositiveInt
    balance_weight: NonNegativeFloat


class SamplesConfig(Config):
    """Answers written while training, to be looked at."""

    every: PositiveInt = 500
    num: NonNegativeInt = 4
    """The first samples of the data are asked."""
    max_new_tokens: PositiveInt = 64


class CurriculumRun(Run):
    """One stage of LHRS-Bot or LHRS-Bot-Nova; what is left out has the value of `lhrs.training.defaults`."""

    kind: Literal["curriculum"]
    system: Literal["lhrs-bot", "lhrs-bot-nova"]
    stage: Literal[1, 2, 3]
    start: Path | None = None
    """Folder of the finished stage before; stages 2 and 3 need it."""
    model: ModelConfig | None = None
    """What stage 1 begins with; None is the system's preset. Later stages go on with the model of `start`."""
    data: list[DataConfig] = Field(min_length=1)
    train: list[Part] = Field(min_length=1)
    """The parts that learn; everything else is frozen."""
    fit: CurriculumFit
    template: str | None
    """Chat template while training; None is that of the model."""
    system_prompt: str | None = None
    """Put before conversations that have none."""
    max_tokens: PositiveInt = 4096
    """Longer samples are cut, image tokens counted."""
    pack: PositiveInt | None = None
    """Tokens of a row into which several samples are laid; they do not see each other. None pads each sample to the
    longest of its batch."""
    group_by_length: bool = False
    """Batches of samples of similar length, so that less is padded."""
    cache_features: Path | None = None
    """Folder for what the frozen encoder makes of each image; computed before training, used by later runs too."""
    quantize: Literal["8bit", "4bit"] | None = None
    """Keep the frozen language model's matrices in so many bits (bitsandbytes); what is handed on is merged into the
    exact ones."""
    shard: bool = False
    """Split weights, gradients and optimizer over the processes (FSDP2), for models that do not fit one GPU."""
    lora: LoraConfig | None = None
    experts: ExpertsConfig | None = None
    samples: SamplesConfig = SamplesConfig()
    gradient_checkpointing: bool

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        known: dict[Any, dict[str, Any]] = dict(STAGES)
        defaults = known.get((values.get("system"), values.get("stage"))) if isinstance(values, dict) else None
        if not defaults:
            return values  # refused below, with the reason
        fit = values.get("fit") or {}
        if not isinstance(fit, dict):
            return values
        from_paper = dict(defaults["fit"])
        if "steps" in fit or "epochs" in fit:
            from_paper = {k: v for k, v in from_paper.items() if k not in ("steps", "epochs")}
        if fit.get("optimizer", from_paper["optimizer"]) != from_paper["optimizer"]:
            del from_paper["betas"]  # of another optimizer
        return {**defaults, **values, "fit": {**from_paper, **fit}}

    @model_validator(mode="after")
    def _is_consistent(self) -> "CurriculumRun":
        if "lora" in self.train and self.lora is None:
            raise ValueError("`train` names lora, but there are no `lora` settings")
        if "lora" in self.train and "language_model" in self.train:
            raise ValueError("`train` names both lora and language_model; LoRA is for a frozen language model")
        if self.cache_features is not None and "vision_tower" in self.train:
            raise ValueError("`cache_features` is for a frozen encoder, but `train` names vision_tower")
        if self.quantize is not None and ("language_model" in self.train or self.shard):
            raise ValueError("`quantize` is for a frozen language model that each process holds whole")
        if self.stage == 1 and self.experts is not None:
            raise ValueError("stage 1 trains a dense bridge; experts come with stage 2")
        if self.stage == 1 and self.start is not None:
            raise ValueError("stage 1 begins with `model`, not with the result of another stage (`start`)")
        if self.stage > 1 and self.model is not None:
            raise ValueError(f"stage {self.stage} goes on with the model of `start`; remove `model`")
        return self
