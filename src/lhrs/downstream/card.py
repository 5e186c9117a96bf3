"""What `config.json` of a model folder says: how the network is built again, and what its input is. No torch."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from lhrs.config import problem
from lhrs.errors import CheckpointError
from lhrs.imagery.normalization import Normalization

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


class EncoderCard(BaseModel):
    """Arguments of `lhrs.downstream.backbone.Encoder`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    in_chans: PositiveInt
    args: dict[str, Any] = {}


class Card(BaseModel):
    """A finished model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["classify", "segment", "change", "detect"]
    encoder: EncoderCard
    head: str
    head_args: dict[str, Any] = {}
    """What its layers follow from, see the task."""
    classes: list[str] = Field(min_length=1)
    """Their positions are the numbers in masks; for objects one is enough."""
    normalization: Normalization
    """Of the images that the model was trained on; files are read by it."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """How images are made larger and smaller, antialiased."""
    size: PositiveInt
    """Side in pixels of what the network sees at once; objects: larger windows are made smaller."""
    center: float = Field(1.0, gt=0, le=1)
    """Classes of scenes: share of the shorter side that is seen."""
    overlap: float = Field(0.5, ge=0, lt=1)
    """Classes of pixels: share of `size` by which neighbouring windows overlap."""
    tile: PositiveInt = 1024
    """Objects: side in pixels of the file of the windows in which larger images are looked at."""
    gap: NonNegativeInt = 200
    """Objects: pixels of the file that neighbouring windows have in common."""
    scores: dict[str, float] = {}
    """On the validation split that chose these weights."""

    @model_validator(mode="after")
    def _fits(self) -> "Card":
        if len(self.normalization.mean) != self.encoder.in_chans:
            raise ValueError(f"normalization is not of {self.encoder.in_chans} bands")
        if self.gap >= self.tile:
            raise ValueError(f"tiles of {self.tile} pixels cannot have {self.gap} in common")
        if self.task != "detect" and len(self.classes) < 2:
            raise ValueError("there is only one class")
        return self


def read_card(folder: Path) -> Card:
    """Read `config.json`.

    Raises:
        CheckpointError: there is none, or it is none of ours.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Card.model_validate(values)
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no model of `lhrs finetune`: there is no {CONFIG} in it.") from None
    except ValidationError as error:
        raise CheckpointError(f"{path} is no model of `lhrs finetune`: {problem(error, Card, values)}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None
