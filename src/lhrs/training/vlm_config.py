"""Run files of kind `vlm`: one stage of LHRS-Bot or LHRS-Bot-Nova. No torch here."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.data.training_sets import get_set, locate_sets
from lhrs.training.run_config import Fraction, OptimConfig, RunConfig

Module = Literal["vision_tower", "bridge", "language_model", "lora"]


class ModelConfig(Config):
    """What stage 1 starts from: the modules of a preset, some of them replaced, or a whole model folder."""

    preset: str | None = None
    """Name in `lhrs.models.presets`; None is the recipe's own."""
    encoder: str | None = None
    """Hub id or folder of another vision encoder."""
    language_model: str | None = None
    """Hub id or folder of another language model."""
    vision_feature_layers: list[int] | None = None
    """Encoder layers that the bridge reads, for another encoder."""
    family: str | None = None
    """Prompts and box format of the finished model, a name in `lhrs.inference.families`, such as `instruct` for a model
    that is trained on questions of `lhrs instruct build`; None is the recipe's."""
    image_size: PositiveInt | None = None
    """Side in pixels of the square that images are resized to, for a timm encoder of any input size; None is the size
    of its pretraining."""
    bridge: dict[str, Any] | None = {}
    """Changes to the preset's bridge, see `LHRSBridgeConfig`. None is no bridge, for an encoder with dense heads: the
    language model then learns to write queries (`lhrs.perception.query`) and sees no images."""
    chat_template: str | None = None
    """Chat template of the finished model, for another language model: `llava_llama_2`, `llama3`, `chatml`, or the path
    of a `.jinja` file."""
    folder: str | None = None
    """Hub id or folder of a whole LHRS model, instead of modules."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the frozen modules and of the finished model."""

    @model_validator(mode="after")
    def _is_modules_or_whole(self) -> "ModelConfig":
        given = {name for name, value in self if value != ModelConfig.model_fields[name].default}
        if self.folder and (changed := given - {"folder", "dtype", "family"}):
            raise ValueError(f"a whole model (`folder`) has its modules already; remove {sorted(changed)[0]!r}")
        return self


class DataConfig(Config):
    """Conversation data, in any format that `lhrs data show` reads."""

    path: Path | None = None
    """None is the training set `name`, where `lhrs data get` puts it."""
    format: str | None = None
    """None detects it."""
    split: str | None = None
    skip_bad: NonNegativeInt = 0
    """Number of broken samples that may be left out; the data is then read once before training."""
    name: str | None = None
    """A set of `lhrs data list`, or any name; also for overrides on the command line."""
    weight: PositiveFloat = 1.0
    """Samples of larger weight come earlier in an epoch; matters only where `optim.steps` ends before the epoch."""

    @model_validator(mode="after")
    def _is_somewhere(self) -> "DataConfig":
        if self.path is None:
            if self.name is None:
                raise ValueError("give the `path` of data, or the `name` of a set of `lhrs data list`")
            get_set(self.name)
        return self

    @property
    def location(self) -> Path:
        """Where the data is.

        Raises:
            DataError: it is a training set that is not downloaded.
        """
        return locate_sets([str(self.name)])[0] if self.path is None else self.path

    @property
    def format_or_known(self) -> str | None:
        """`format`, or that of the training set; None detects it."""
        return get_set(str(self.name)).format if self.path is None and self.format is None else self.format


class VLMOptimConfig(OptimConfig):
    """Optimizer, schedule and length."""

    vision_lr: PositiveFloat | None = None
    """Learning rate of the encoder, if it is trained; None is `lr`."""


class LoraConfig(Config):
    """LoRA (arXiv:2106.09685) on every linear layer of the language model except its head."""

    rank: PositiveInt
    alpha: PositiveFloat
    dropout: Fraction


class ExpertsConfig(Config):
    """Experts that a dense bridge is upcycled to in stage 2."""

    num_experts: Annotated[int, Field(ge=2)]
    top_k: PositiveInt
    balance_weight: NonNegativeFloat


class GenerationsConfig(Config):
    """Answers generated during training, for inspection."""

    every: PositiveInt = 500
    """Optimizer steps."""
    num: NonNegativeInt = 4
    """Prompts are the first samples of the data."""
    max_new_tokens: PositiveInt = 64


class VLMConfig(RunConfig):
    """One stage of LHRS-Bot or LHRS-Bot-Nova."""

    kind: Literal["vlm"]
    recipe: Literal["lhrs-bot", "lhrs-bot-nova"]
    stage: Literal[1, 2, 3]
    init_from: Path | None = None
    """Output folder of the finished previous stage; required by stages 2 and 3."""
    model: ModelConfig | None = None
    """What stage 1 starts from; None is the recipe's preset. Later stages use the model of `init_from`."""
    data: list[DataConfig] = Field(min_length=1)
    trainable: list[Module] = Field(min_length=1)
    """Modules that are trained. All others are frozen."""
    optim: VLMOptimConfig
    chat_template: str | None = None
    """Chat template during training, a name or path as in `model`; None is the model's."""
    system_prompt: str | None = None
    """Inserted before conversations that have none, in training and by the finished model; None is none."""
    max_unreadable: Fraction = 0.01
    """Fraction of samples whose image may be missing or broken. Such a sample is replaced by another one of its source
    and reported; more of them end the run. 0 allows none."""
    max_length: PositiveInt = 4096
    """Longer samples are truncated; image tokens count."""
    packing_length: PositiveInt | None = None
    """Tokens of a row that several samples are packed into; they do not attend to each other. None pads each sample to
    the longest of its batch."""
    group_by_length: bool = False
    """Batches of samples of similar length, which need less padding."""
    cache_features: Path | None = None
    """Folder for the features of the frozen encoder; computed before training, reused by later runs."""
    quantize: Literal["8bit", "4bit"] | None = None
    """Quantize the frozen language model (bitsandbytes). The saved model has the original weights."""
    fsdp: bool = False
    """Shard weights, gradients and optimizer over the processes (FSDP2), for models that exceed one GPU."""
    lora: LoraConfig | None = None
    experts: ExpertsConfig | None = None
    sample_generations: GenerationsConfig = GenerationsConfig()
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> "VLMConfig":
        if "lora" in self.trainable and self.lora is None:
            raise ValueError("`trainable` names lora, but there are no `lora` settings")
        if "lora" in self.trainable and "language_model" in self.trainable:
            raise ValueError("`trainable` names both lora and language_model; LoRA is for a frozen language model")
        if self.cache_features is not None and "vision_tower" in self.trainable:
            raise ValueError("`cache_features` is for a frozen encoder, but `trainable` names vision_tower")
        if self.quantize is not None and ("language_model" in self.trainable or self.fsdp):
            raise ValueError("`quantize` is for a frozen language model that each process holds whole")
        if self.stage == 1 and self.experts is not None:
            raise ValueError("stage 1 trains a dense bridge; experts come with stage 2")
        if self.stage == 1 and self.init_from is not None:
            raise ValueError("stage 1 starts from `model`, not from another stage (`init_from`)")
        if self.stage > 1 and self.model is not None:
            raise ValueError(f"stage {self.stage} uses the model of `init_from`; remove `model`")
        return self
