"""The `config.json` of a model folder: the network's settings and its input. No torch."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from lhrs.config import validation_message
from lhrs.downstream.task import get_task, list_tasks
from lhrs.errors import CheckpointError
from lhrs.imagery.normalization import Normalization

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


class EncoderConfig(BaseModel):
    """Arguments of `lhrs.downstream.backbone.Backbone`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    in_chans: PositiveInt
    args: dict[str, Any] = {}
    levels: list[int] | None = None


class ModelConfig(BaseModel):
    """A finished model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    encoder: EncoderConfig
    head: str
    head_args: dict[str, Any] = {}
    """Settings of the head, see the network."""
    classes: list[str] = Field(min_length=1)
    """Names in the order of their indices, which are the values of masks. Detection needs one, other tasks two."""
    normalization: Normalization
    """Normalization of the training images, applied to all inputs."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Interpolation of resizing, with antialiasing."""
    image_size: PositiveInt
    """Side in pixels of the network's input; for objects, larger windows are downsampled."""
    inference: dict[str, Any] = {}
    """How whole images are predicted, see the task's `inference_config`."""
    scores: dict[str, float] = {}
    """Scores on the validation split, by which these weights were selected."""

    @field_validator("task")
    @classmethod
    def _is_known(cls, task: str) -> str:
        if task not in list_tasks():
            raise ValueError(f"must be one of {', '.join(list_tasks())}")
        return task

    @model_validator(mode="after")
    def _fits(self) -> "ModelConfig":
        task = get_task(self.task)
        if len(self.normalization.mean) != self.encoder.in_chans:
            raise ValueError(f"normalization is not of {self.encoder.in_chans} bands")
        if len(self.classes) < task.min_classes:
            raise ValueError("there is only one class")
        try:
            task.inference_config.model_validate(self.inference)
        except ValidationError as error:
            raise ValueError(f"inference: {validation_message(error, task.inference_config, self.inference)}") from None
        return self


def read_model_config(folder: Path) -> ModelConfig:
    """Read `config.json`.

    Raises:
        CheckpointError: there is none, or it describes no model of `lhrs finetune`.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return ModelConfig.model_validate(values)
    except FileNotFoundError:
        raise CheckpointError(f"{folder} contains no model of `lhrs finetune`: there is no {CONFIG} in it.") from None
    except ValidationError as error:
        raise CheckpointError(
            f"{path} is no model of `lhrs finetune`: {validation_message(error, ModelConfig, values)}"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
