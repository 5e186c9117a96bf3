"""Run files of `lhrs finetune`: one task on top of a backbone. No torch here."""

from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveInt, create_model, model_validator

from lhrs.config import Config
from lhrs.downstream.task import TaskConfig, get_task
from lhrs.training.run_config import BandsConfig, Fraction, OptimConfig, RunConfig


class BackboneConfig(Config):
    """Any backbone of timm, a result of `lhrs pretrain`, or the encoder of a multimodal model."""

    name: str
    """timm's, or a folder such as `runs/cmid-resnet50/model`; `lhrs-nano` is the encoder of the embedded model."""
    pretrained: bool = False
    """With a name: download timm's weights."""
    args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`, such as `drop_path_rate`."""


class SplitConfig(Config):
    """Labeled images."""

    path: Path
    format: str | None = None
    """None detects it."""
    split: str | None = None
    include: list[str] = []
    """Patterns such as `tile7/*`. Images whose id matches none of them are left out."""


class LabeledDataConfig(BandsConfig):
    """Training, validation and test data."""

    train: SplitConfig
    val: SplitConfig | None = None
    """None is a fraction of `train`."""
    val_fraction: Fraction = 0.1
    """Of the images of `train`, chosen by a hash of seed and id. They are not trained on."""
    test: SplitConfig | None = None
    """Scored once, at the end."""

    @model_validator(mode="after")
    def _has_validation_data(self) -> "LabeledDataConfig":
        if self.val is None and not 0 < self.val_fraction < 1:
            raise ValueError("without `val`, `val_fraction` must be between 0 and 1: the model is selected on it")
        return self


class FinetuneOptimConfig(OptimConfig):
    """Optimizer, schedule and length."""

    layer_decay: Fraction = 0.75
    """With `train_backbone: layerwise`, learning rate of each layer as a fraction of the layer above."""


class FinetuneConfig(TaskConfig, RunConfig):
    """Settings of all tasks."""

    backbone: BackboneConfig
    data: LabeledDataConfig
    optim: FinetuneOptimConfig
    freeze_bn: bool | None = None
    """Keep the batch-norm statistics of the backbone. None: for detection with a pretrained backbone, and with
    `lp_ft`."""
    num_evals: PositiveInt = 10
    """Evaluations on the validation data, evenly over the run; the best model is kept."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.kind


def get_schema(task: str) -> type[FinetuneConfig]:
    """Return the run files of a task: what all have, with the task's own keys.

    Raises:
        ConfigError: there is no such task.
    """
    section = get_task(task).config
    fields: Any = {"kind": (Literal[task], ...)}  # type: ignore[valid-type]
    name = section.__name__.replace("Config", "RunConfig")
    bases: Any = (section, FinetuneConfig)
    return create_model(name, __base__=bases, __doc__=section.__doc__, **fields)
