"""The `config.json` of a model folder: how the network is rebuilt, and what its input is. No torch."""

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
    """Arguments of `lhrs.downstream.backbone.Encoder`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    in_chans: PositiveInt
    args: dict[str, Any] = {}


class ModelConfig(BaseModel):
    """A finished model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str
    encoder: EncoderConfig
    head: str
    head_args: dict[str, Any] = {}
    """From which its layers follow, see the network."""
    classes: list[str] = Field(min_length=1)
    """Their positions are the values of masks; for objects one is enough."""
    normalization: Normalization
    """Of the training images; files are read by it."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """With which images are resized, antialiased."""
    image_size: PositiveInt
    """Side in pixels of the network's input; for objects, larger windows are downsampled."""
    inference: dict[str, Any] = {}
    """How whole images are predicted, see the task's `inference_config`."""
    scores: dict[str, float] = {}
    """On the validation split that chose these weights."""

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
        raise CheckpointError(f"{folder} holds no model of `lhrs finetune`: there is no {CONFIG} in it.") from None
    except ValidationError as error:
        raise CheckpointError(
            f"{path} is no model of `lhrs finetune`: {validation_message(error, ModelConfig, values)}"
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
