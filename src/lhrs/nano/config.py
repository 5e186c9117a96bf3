"""Run files that train lhrs-nano."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.training.run_config import Fraction, RunConfig


class FolderSource(Config):
    """`<class>/<image>` folders; see `lhrs.nano.sources.Source` for the common settings."""

    kind: Literal["folder"]
    name: str
    path: str
    crop: tuple[float, float] = (0.6, 1.0)
    mosaic: Fraction = 0.0
    repeat: PositiveInt = 1
    jitter: NonNegativeFloat = 1.0


class UCMercedSource(FolderSource):
    """UC Merced with an `index.jsonl` that names label and split of each image."""

    kind: Literal["ucmerced"]  # type: ignore[assignment]


class MaskSource(Config):
    """Tiles with land-cover masks."""

    kind: Literal["masks"]
    name: str
    path: str
    tiles: list[str]
    crop: tuple[float, float] = (0.6, 1.0)
    repeat: PositiveInt = 1
    jitter: NonNegativeFloat = 1.0


class SiteSource(Config):
    """Tiles with OpenStreetMap buildings."""

    kind: Literal["sites"]
    name: str
    path: str
    labels: str
    """GeoJSON of the buildings, from `path` on."""
    held_out_columns: list[int] = []
    """Tile columns that are kept for evaluation."""
    crop: tuple[float, float] = (0.6, 1.0)
    repeat: PositiveInt = 1
    jitter: NonNegativeFloat = 1.0


class Sources(Config):
    """Labelled images of the embedded model."""

    root: Path
    """Folder that the sources' paths begin at, itself from the working directory on."""
    sources: list[Annotated[FolderSource | UCMercedSource | MaskSource | SiteSource, Field(discriminator="kind")]]


class VisionFit(Config):
    """How the encoder of the embedded model is trained."""

    epochs: PositiveFloat
    lr: PositiveFloat
    batch_size: PositiveInt = 128
    warmup_steps: NonNegativeInt = 100
    weight_decay: NonNegativeFloat = 0.05
    max_grad_norm: PositiveFloat = 5.0
    beta2: Fraction = 0.98


class VisionRun(RunConfig):
    """Teach the encoder of the embedded model on labels."""

    kind: Literal["vision"]
    data: Sources
    optim: VisionFit
    init_from: Path | None = None
    """Folder of an earlier vision run, whose encoder and heads to go on with."""
    image_size: PositiveInt = 128
    """Side in pixels of a training image."""
    label_smoothing: Fraction = 0.1
    cutmix: Fraction = 0.3
    """Chance that a batch is mixed."""


class PhaseConfig(Config):
    """See `lhrs.nano.rows.Phase`."""

    until_epoch: PositiveInt
    tasks: dict[str, NonNegativeFloat]
    sources: dict[str, NonNegativeFloat]
    mosaic: Fraction = 0.0
    images: bool = True


class QuestionsFit(Config):
    """How the embedded model learns to answer."""

    epochs: PositiveFloat
    lr: PositiveFloat
    min_lr_ratio: Fraction = 0.02
    """The cosine ends at this share of the peak."""
    vision_lr_scale: Fraction = 0.1
    """Learning rate of the encoder as a share of the others', if it is trained."""
    batch_size: PositiveInt = 32
    warmup_steps: NonNegativeInt = 150
    weight_decay: NonNegativeFloat = 0.05
    max_grad_norm: PositiveFloat = 1.0
    beta2: Fraction = 0.98


class QuestionsRun(RunConfig):
    """Teach the embedded model to answer questions made from labels, and package it."""

    kind: Literal["questions"]
    data: Sources
    optim: QuestionsFit
    phases: list[PhaseConfig] = Field(min_length=1)
    init_vision_from: Path | None = None
    """Folder of the vision run whose encoder to begin with, in place of that of `init_from` if both are given."""
    init_from: Path | None = None
    """Folder of an earlier questions run, whose weights to go on with."""
    train_vision: bool = False
    vocab_size: PositiveInt = 3000
    max_text_tokens: PositiveInt = 210
    """Tokens of questions and answers in a row."""
    samples_per_epoch: PositiveInt = 1600

    @model_validator(mode="after")
    def _is_consistent(self) -> "QuestionsRun":
        if self.init_vision_from is None and self.init_from is None:
            raise ValueError("give `init_vision_from` (a vision run), `init_from` (an earlier questions run), or both")
        known = {source.name for source in self.data.sources}
        for phase in self.phases:
            if unknown := sorted(phase.sources.keys() - known):
                raise ValueError(f"a phase draws from {unknown[0]!r}, which is no source; known: {sorted(known)}")
        return self
