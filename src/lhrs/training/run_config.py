"""Settings that run files of every kind share."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config

Fraction = Annotated[float, Field(ge=0, le=1)]

_BETAS = {"adamw": 2, "adan": 3, "sgd": 0}


class RunConfig(Config):
    """Settings of every kind of training."""

    kind: str
    output_dir: Path
    """Folder of the run: the resolved run file, checkpoints, TensorBoard logs and finally the model."""
    seed: NonNegativeInt = 0
    """Determines initial weights, data order, augmentation and dropout."""
    logging_steps: PositiveInt = 50
    save_steps: PositiveInt = 500
    """Optimizer steps between checkpoints. A stopped run resumes from the newest one."""
    num_workers: NonNegativeInt = 0
    """Processes that read data. The result does not depend on it."""
    num_threads: PositiveInt | None = None
    """CPU threads of torch; None keeps torch's default. Sums are rounded differently with another number."""
    device: Literal["auto", "cpu"] = "auto"
    """`auto` is a GPU where there is one."""
    bf16: bool = False
    """Compute in bfloat16. Trained weights stay in float32."""


class BandsConfig(Config):
    """Bands of images, and their normalization."""

    bands: list[PositiveInt] | None = None
    """Bands to use, 1-based; None is all."""
    max_value: PositiveFloat | None = None
    """Pixel value that is scaled to 1; None is 255 for 8-bit files, 1 for floats, 10,000 (reflectance) for others."""
    mean: list[float] | None = None
    """Of each band, of scaled values; None measures it on 256 images, or takes that of the backbone's pretraining if it
    has as many bands."""
    std: list[PositiveFloat] | None = None

    @model_validator(mode="after")
    def _has_mean_and_std(self) -> "BandsConfig":
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both `mean` and `std`, or neither")
        return self


class OptimConfig(Config):
    """Optimizer, learning rate schedule and length of a run."""

    optimizer: Literal["adamw", "adan", "sgd"] = "adamw"
    lr: PositiveFloat
    """Peak learning rate."""
    min_lr: NonNegativeFloat = 1e-6
    """Learning rate at the end."""
    schedule: Literal["cosine", "linear", "step"] = "cosine"
    """Decay after the warm-up. `step` divides by ten after 2/3 and after 11/12 of the run."""
    warmup_ratio: Fraction = 0.05
    """Fraction of the run in which the learning rate rises."""
    warmup_steps: NonNegativeInt | None = None
    """Replaces `warmup_ratio`."""
    warmup_start_factor: Fraction = 0.01
    """Learning rate at the first step as a fraction of the schedule's value."""
    betas: list[Fraction] | None = None
    """Of Adan or AdamW; None is the usual value of the recipe."""
    eps: PositiveFloat = 1e-8
    momentum: Fraction = 0.9
    """Of SGD."""
    weight_decay: NonNegativeFloat = 0.05
    """Of matrices. Biases, norms and tokens have none."""
    max_grad_norm: NonNegativeFloat = 0.0
    """0 does not clip."""
    batch_size: PositiveInt = 32
    """Samples per optimizer step over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Samples per forward pass of one process; None is the process's part of the batch."""
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> "OptimConfig":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        if self.betas is not None and len(self.betas) != _BETAS[self.optimizer]:
            raise ValueError(f"{self.optimizer} has {_BETAS[self.optimizer]} betas")
        return self
