"""Run files of `lhrs finetune`: one task on top of a backbone. No torch here."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.errors import ConfigError
from lhrs.training.base import Run, Share


class EncoderConfig(Config):
    """Any backbone of timm, what `lhrs pretrain` made, or the encoder of a multimodal model."""

    name: str
    """timm's, or a folder such as `runs/cmid-resnet50/backbone`; `lhrs-nano` is the embedded model's."""
    pretrained: bool = False
    """With a name: timm's weights, which are fetched."""
    args: dict[str, Any] = {}
    """Further arguments of `timm.create_model`, such as `drop_path_rate`."""


class PartConfig(Config):
    """Labelled images."""

    path: Path
    reader: str | None = None
    """None is the only one that fits."""
    split: str | None = None
    only: list[str] = []
    """Patterns such as `tile7/*`: images whose id matches none of them are left out."""


class LabelledConfig(Config):
    """What is learned from, what chooses the model, and what it is scored on."""

    train: PartConfig
    val: PartConfig | None = None
    """None is a share of `train`."""
    val_share: Share = 0.1
    """Of the images of `train`, by a hash of seed and id; these are not learned from."""
    test: PartConfig | None = None
    """Scored once, at the end; nothing is chosen by it."""
    bands: list[PositiveInt] | None = None
    """Which ones, 1-based; None is all."""
    scale: PositiveFloat | None = None
    """The file's number that means 1; None is 255 for 8-bit files, 1 for floats, 10,000 (reflectance) for others."""
    mean: list[float] | None = None
    """Of each band, of numbers in [0, 1]; None is that of the backbone's images if it has seen any of so many bands,
    else measured on 256 images of `train`."""
    std: list[PositiveFloat] | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> "LabelledConfig":
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both `mean` and `std`, or neither")
        if self.val is None and not 0 < self.val_share < 1:
            raise ValueError("without `val`, `val_share` must be between 0 and 1: a model is chosen on it")
        return self


class FinetuneFit(Config):
    """Optimizer, schedule and length."""

    optimizer: Literal["adan", "adamw", "sgd"] = "adamw"
    lr: PositiveFloat
    momentum: Share = 0.9
    """Of SGD."""
    min_lr: NonNegativeFloat = 1e-6
    schedule: Literal["cosine", "linear", "steps"] = "cosine"
    """How the rate falls after the warm-up; `steps`: to a tenth after 8 and after 11 twelfths of the run."""
    weight_decay: NonNegativeFloat = 0.05
    """Of matrices; biases and norms have none."""
    layer_decay: Share = 0.75
    """With `tune: layer-decay`, each layer of the backbone learns at this share of the rate of the one above."""
    warmup: Share = 0.05
    """Share of the run in which the rate rises."""
    max_grad_norm: NonNegativeFloat = 0.0
    """0 does not clip."""
    batch_size: PositiveInt = 32
    """Images per optimizer step over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Images that one process takes at once; None takes its whole share of the batch."""
    epochs: PositiveFloat | None = None
    steps: PositiveInt | None = None

    @model_validator(mode="after")
    def _has_one_length(self) -> "FinetuneFit":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either `epochs` or `steps`")
        return self


class FinetuneRun(Run):
    """What all tasks have."""

    backbone: EncoderConfig
    data: LabelledConfig
    fit: FinetuneFit
    tune: Literal["full", "layer-decay", "frozen", "linear"] = "full"
    """What of the backbone learns: all; all, lower layers less; nothing; nothing, under one linear layer."""
    fixed_norm: bool | None = None
    """Batch norms of the backbone keep their statistics; None: for objects, from a backbone that has learned something,
    and with `probe_first`."""
    size: PositiveInt
    """Side in pixels of what the network sees at once."""
    validations: PositiveInt = 10
    """How often, evenly over the run, the model is scored to keep the best one."""

    def check_at_once(self, images: int) -> None:
        """Raise ConfigError if the task cannot learn from so few images at once."""


class SceneChanceConfig(Config):
    """How scenes are changed while learning."""

    crop: tuple[PositiveFloat, PositiveFloat] = (0.6, 1.0)
    """Least and largest share of the area that is seen."""
    symmetries: bool = True
    """Turn and mirror in all eight ways; mirror left and right only otherwise."""
    randaugment: str | None = None
    """timm's policy, such as `rand-m9-mstd0.5-inc1`; three bands of eight bits only."""
    colour: NonNegativeFloat = 0.0
    erase: Share = 0.0
    """Chance of a rectangle of noise."""
    mixup: NonNegativeFloat = 0.0
    """Alpha; 0 is none."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha; 0 is none."""


class PixelChanceConfig(Config):
    """How images with masks are changed while learning."""

    zoom: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    """Least and largest factor by which images are enlarged."""
    symmetries: bool = True
    """Turn and mirror in all eight ways; mirror left and right only otherwise."""
    colour: NonNegativeFloat = 1.0
    """1 is mmsegmentation's photometric distortion; each date on its own."""
    most: Share = 0.75
    """Crops in which one class has a larger share are drawn again, ten times at most; 1 takes every crop."""
    swap: bool = False
    """Change: before and after may change places."""


class ClassifyRun(FinetuneRun):
    """Classes of scenes."""

    kind: Literal["finetune-classify"]
    size: PositiveInt = 224
    center: float = Field(1.0, gt=0, le=1)
    """When scored, share of the shorter side that is seen, in the middle; 1 squashes all of the image."""
    smoothing: Share = 0.1
    """Of labels."""
    dropout: Share = 0.0
    probe_first: bool = False
    """Begin with the linear classifier of the features as they are, fitted to the images unchanged, instead of a random
    one: a backbone that has learned much is then disturbed less (arXiv:2202.10054)."""
    augment: SceneChanceConfig = SceneChanceConfig()

    @model_validator(mode="after")
    def _has_a_head_to_begin_with(self) -> "ClassifyRun":
        if self.probe_first and self.tune in ("frozen", "linear"):
            raise ValueError(f"`probe_first` is for a backbone that learns, with `tune: {self.tune}` it does not")
        return self

    def check_at_once(self, images: int) -> None:
        if (self.augment.mixup or self.augment.cutmix) and images % 2:
            raise ConfigError(f"mixup and cutmix mix pairs: a process takes {images} images at once, which is odd.")
        if self.tune in ("frozen", "linear") and images < 2:
            raise ConfigError(f"`tune: {self.tune}` standardises features: it needs at least two images at once.")


class _PixelRun(FinetuneRun):
    size: PositiveInt = 512
    overlap: float = Field(0.5, ge=0, lt=1)
    """Share of `size` by which windows overlap when whole images are scored."""
    class_weights: list[NonNegativeFloat] | None = None
    """Of each class in the loss; None is 1."""

    def check_at_once(self, images: int) -> None:
        if images < 2:
            raise ConfigError("the heads' batch norms need at least two images at once in every process.")


class SegmentRun(_PixelRun):
    """Classes of pixels."""

    kind: Literal["finetune-segment"]
    head: Literal["upernet"] = "upernet"
    width: PositiveInt = 512
    """Of the head."""
    auxiliary: NonNegativeFloat = 0.4
    """Weight of the auxiliary head's loss; 0 is none."""
    augment: PixelChanceConfig = PixelChanceConfig()


class ChangeRun(_PixelRun):
    """Change between two dates."""

    kind: Literal["finetune-change"]
    size: PositiveInt = 256
    head: Literal["bit", "difference"] = "bit"
    augment: PixelChanceConfig = PixelChanceConfig(zoom=(1.0, 1.0), colour=0.0, most=1.0)


class DetectRun(FinetuneRun):
    """Objects."""

    kind: Literal["finetune-detect"]
    tune: Literal["full", "layer-decay", "frozen"] = "full"  # type: ignore[assignment]
    size: PositiveInt = 1024
    """Images and tiles whose longer side has more pixels are made smaller."""
    tile: PositiveInt = 1024
    """Larger images are looked at in tiles of this side, in pixels of the file; what is learned from must be cut."""
    gap: NonNegativeInt = 200
    """Pixels of the file that neighbouring tiles have in common."""
    oriented: bool = True
    """Oriented R-CNN; False is Faster R-CNN with horizontal boxes."""
    classes: list[str] | None = Field(None, min_length=1)
    """Names in the order of their numbers; None is all that occur in `train`, sorted."""
    width: PositiveInt = 256
    """Channels of the feature pyramid."""
    anchor_scale: PositiveFloat = 8
    """Sides of a square anchor, in cells of its map: 8 makes the smallest 32 pixels, the largest 512."""
    proposals: PositiveInt = 2000
    """Regions per image that the second stage looks at."""
    frozen_stages: NonNegativeInt = 0
    """So many of the backbone's first stages learn nothing, nor does what comes before them."""
    augment: bool = True
    """Turn and mirror in all eight ways."""

    @model_validator(mode="after")
    def _tiles_overlap_in_part(self) -> "DetectRun":
        if self.gap >= self.tile:
            raise ValueError(f"tiles of {self.tile} pixels cannot have {self.gap} in common")
        return self
