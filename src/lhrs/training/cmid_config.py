"""Run files of kind `cmid`, for `lhrs pretrain`. Defaults are CMID's published settings unless stated otherwise."""

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.training.run_config import BandsConfig, Fraction, OptimConfig, RunConfig


class BackboneConfig(Config):
    """Any backbone of timm."""

    name: str
    size: PositiveInt = 224
    """Side of a view in pixels."""
    args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`, such as `output_stride`, `patch_size`, or `pretrained: true`."""
    activation_checkpointing: list[str] = []
    """Modules of the student, such as `layer1`, whose activations are recomputed in backward: less memory, more
    time."""


class WindowsConfig(BandsConfig):
    """Images without labels."""

    paths: list[Path] = Field(min_length=1)
    """Images, folders of images, tar files of images, sets of `lhrs data list`."""
    window_size: PositiveInt = 512
    """Side in pixels of the window of a larger image that two views are cropped from."""
    crop_scale: tuple[float, float] = (0.3, 1.0)
    """Smallest and largest fraction of a window's area that a view shows."""
    d4: bool = True
    """Rotate and flip in all eight ways; the published code only flips horizontally."""
    color_jitter: NonNegativeFloat = 1.0
    """Strength of color changes of the second view; 1 is as published. Its blur and noise are always as published."""
    noise_std: NonNegativeFloat = 0.0
    """Largest standard deviation of noise added to both views, in pixel values."""


class BranchConfig(Config):
    """One of the branches of CMID."""

    weight: NonNegativeFloat = 1.0
    """Of its loss; 0 turns the branch off."""


class ContrastConfig(BranchConfig):
    """A branch that compares projections."""

    hidden_dim: PositiveInt = 2048
    out_dim: PositiveInt = 256


class MaskedConfig(BranchConfig):
    """Masked image reconstruction."""

    mask_grid: PositiveInt = 7
    """Patches along a side of the mask."""
    mask_ratio: Fraction = 0.6
    frequency_weight: NonNegativeFloat = 1.0


class GlobalConfig(ContrastConfig):
    """Instance contrast."""

    queue_size: PositiveInt = 65536
    temperature: PositiveFloat = 0.2


class LocalConfig(ContrastConfig):
    """Prototypes of matching patches."""

    prototypes: PositiveInt = 2048
    batch_norm: bool | None = None
    """In the heads; None: where the backbone has it, as published (ResNets with, Swins without)."""
    num_matches: PositiveInt = 20
    """Pairs of patches per view."""
    max_match_distance: PositiveFloat = 16.0
    """Largest distance between the patches of a pair in pixels of a view; unbounded in the published code."""
    teacher_temperature: tuple[PositiveFloat, PositiveFloat] = (0.04, 0.07)
    """At the start, and from a quarter of the run on (published: 50 epochs of 200). Short runs need 0.04 throughout:
    a larger one leaves targets uniform."""


class CMIDOptimConfig(OptimConfig):
    """Optimizer, schedule and length."""

    optimizer: Literal["adan", "adamw", "sgd"] = "adan"
    lr: PositiveFloat | None = None  # type: ignore[assignment]
    """None is 0.00625 * sqrt(batch_size / 256) for Adan (the authors' rule), 0.0005 * batch_size / 256 for others."""
    weight_decay: NonNegativeFloat = 0.02
    batch_size: PositiveInt = 256

    @property
    def peak_lr(self) -> float:
        """Learning rate after the warm-up."""
        if self.lr is not None:
            return self.lr
        ratio = self.batch_size / 256
        return 0.00625 * math.sqrt(ratio) if self.optimizer == "adan" else 0.0005 * ratio


class MonitorConfig(Config):
    """Measurements of the features during training."""

    steps: PositiveInt = 1000
    """Optimizer steps between measurements."""
    labeled_dir: Path | None = None
    """Folder of images per class: every second one is classified by its 20 nearest neighbors among the others."""
    num_images: PositiveInt = 2000
    """Images of that folder, spread evenly."""


class CMIDConfig(RunConfig):
    """Self-supervised pretraining of a backbone with CMID."""

    kind: Literal["cmid"]
    backbone: BackboneConfig
    data: WindowsConfig
    init_from: Path | None = None
    """Output folder of a finished run with the same backbone; all its weights are the initial ones."""
    masked_branch: MaskedConfig = MaskedConfig()
    global_branch: GlobalConfig = GlobalConfig()
    local_branch: LocalConfig = LocalConfig()
    ema_momentum: Fraction = 0.996
    """Of the teacher at the start; rises to 1."""
    sync_batch_norm: bool = False
    """Share batch-norm statistics among GPUs."""
    figure_steps: PositiveInt = 1000
    """Optimizer steps between figures of masks, reconstructions and matches."""
    monitor: MonitorConfig = MonitorConfig()
    optim: CMIDOptimConfig

    @model_validator(mode="after")
    def _has_a_loss(self) -> "CMIDConfig":
        if not (self.masked_branch.weight or self.global_branch.weight or self.local_branch.weight):
            raise ValueError("all three branches have weight 0: there is no loss")
        size, keys = self.global_branch.queue_size, 2 * self.optim.batch_size
        if self.global_branch.weight and size % keys:
            raise ValueError(f"global_branch.queue_size {size} is no multiple of the {keys} keys of a step")
        if self.masked_branch.weight and self.backbone.size % self.masked_branch.mask_grid:
            raise ValueError(
                f"{self.backbone.size} pixels do not divide into masked_branch.mask_grid "
                f"{self.masked_branch.mask_grid} patches"
            )
        return self
