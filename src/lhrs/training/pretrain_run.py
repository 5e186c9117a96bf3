"""Run files of `lhrs pretrain`; numbers are those of CMID's published settings unless said otherwise."""

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.training.base import Run, Share


class BackboneConfig(Config):
    """Any backbone of timm."""

    name: str
    size: PositiveInt = 224
    """Side of a view in pixels."""
    args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`, such as `output_stride`, `patch_size`, or `pretrained: true`."""
    recompute: list[str] = []
    """Parts of the student that keep only their input for backward, such as `layer1`: less memory, more time."""


class WindowsConfig(Config):
    """Images without labels."""

    paths: list[Path] = Field(min_length=1)
    """Images, folders of images, tar files of images."""
    window: PositiveInt = 512
    """Side in pixels of the part of a larger image that two views are cut from."""
    bands: list[PositiveInt] | None = None
    """Which ones, 1-based; None is all."""
    scale: PositiveFloat | None = None
    """The file's number that means 1; None is 255 for 8-bit files, 10,000 (reflectance) for others."""
    mean: list[float] | None = None
    """Of each band, of numbers in [0, 1]; None measures it on 256 windows."""
    std: list[float] | None = None
    crop: tuple[float, float] = (0.3, 1.0)
    """Least and largest share of a window that a view shows."""
    symmetries: bool = True
    """Turn and mirror in all eight ways; the published code mirrors left and right only."""
    colour: NonNegativeFloat = 1.0
    """Strength of colour changes of the second view; 1 is as published. Its blur and noise are always as published."""
    noise: NonNegativeFloat = 0.0
    """Most that both views are disturbed by before they are scaled: standard deviation in the file's numbers."""


class MaskedConfig(Config):
    """Paint what is hidden."""

    weight: NonNegativeFloat = 1.0
    """0 turns the branch off."""
    grid: PositiveInt = 7
    """Cells a side of the mask."""
    ratio: Share = 0.6
    frequency_weight: NonNegativeFloat = 1.0


class GlobalConfig(Config):
    """Recognise the other view."""

    weight: NonNegativeFloat = 1.0
    """0 turns the branch off."""
    queue_size: PositiveInt = 65536
    temperature: PositiveFloat = 0.2
    hidden: PositiveInt = 2048
    out: PositiveInt = 256


class LocalConfig(Config):
    """The same place, the same prototype."""

    weight: NonNegativeFloat = 1.0
    """0 turns the branch off."""
    prototypes: PositiveInt = 2048
    hidden: PositiveInt = 2048
    out: PositiveInt = 256
    batch_norm: bool | None = None
    """In the heads; None: where the backbone has them, as published (ResNets with, Swins without)."""
    matches: PositiveInt = 20
    """Pairs of cells per view."""
    farthest: PositiveFloat = 16.0
    """Pixels of a view that the cells of a pair may be apart; published without a bound."""
    teacher_temperature: tuple[PositiveFloat, PositiveFloat] = (0.04, 0.07)
    """At the beginning, and from a quarter of the run on (published: 50 epochs of 200). Below the student's 0.1 the
    teacher sharpens a little at every step: a run of few steps needs 0.04 throughout, or targets stay uniform."""


class PretrainFit(Config):
    """Optimizer, schedule and length."""

    optimizer: Literal["adan", "adamw"] = "adan"
    lr: PositiveFloat | None = None
    """None is 0.00625 * sqrt(batch_size / 256) for Adan (the authors' rule), 0.0005 * batch_size / 256 for AdamW."""
    min_lr: NonNegativeFloat = 1e-6
    weight_decay: NonNegativeFloat = 0.02
    """Of matrices; biases, norms and tokens have none."""
    warmup: Share = 0.05
    """Share of the run in which the rate rises; published: 10 epochs of 200."""
    max_grad_norm: NonNegativeFloat = 0.0
    """0 does not clip."""
    batch_size: PositiveInt = 256
    """Images per optimizer step over all processes."""
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _has_one_length(self) -> "PretrainFit":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        return self

    @property
    def peak_lr(self) -> float:
        """The rate at the end of the warm-up."""
        if self.lr is not None:
            return self.lr
        share = self.batch_size / 256
        return 0.00625 * math.sqrt(share) if self.optimizer == "adan" else 0.0005 * share


class WatchConfig(Config):
    """What is measured while it learns."""

    every: PositiveInt = 1000
    """Steps between measurements."""
    labelled: Path | None = None
    """Folder of images per class: every second one is classified by its 20 nearest among the others."""
    images: PositiveInt = 2000
    """Of that folder, spread evenly."""


class PretrainRun(Run):
    """Teach a backbone on images without labels (CMID)."""

    kind: Literal["pretrain"]
    backbone: BackboneConfig
    data: WindowsConfig
    start: Path | None = None
    """Folder of a finished pretraining of the same backbone, to go on with all that it learned (`cmid.safetensors`)."""
    masked_branch: MaskedConfig = MaskedConfig()
    global_branch: GlobalConfig = GlobalConfig()
    local_branch: LocalConfig = LocalConfig()
    momentum: Share = 0.996
    """Of the teacher at the beginning; rises to 1."""
    sync_batch_norm: bool = False
    """Share batch-norm statistics among GPUs."""
    pictures_every: PositiveInt = 1000
    """Steps between pictures of masks, reconstructions and matches."""
    watch: WatchConfig = WatchConfig()
    fit: PretrainFit

    @model_validator(mode="after")
    def _learns(self) -> "PretrainRun":
        if not (self.masked_branch.weight or self.global_branch.weight or self.local_branch.weight):
            raise ValueError("all three branches have weight 0: nothing would be learned")
        size, keys = self.global_branch.queue_size, 2 * self.fit.batch_size
        if self.global_branch.weight and size % keys:
            raise ValueError(f"global_branch.queue_size {size} is no multiple of the {keys} keys of a step")
        if self.masked_branch.weight and self.backbone.size % self.masked_branch.grid:
            raise ValueError(
                f"{self.backbone.size} pixels do not divide into masked_branch.grid {self.masked_branch.grid} cells"
            )
        return self
