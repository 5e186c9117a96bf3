"""Run files of `lhrs finetune`: one task on top of a backbone. No torch here."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.errors import ConfigError
from lhrs.training.run_config import Fraction, OptimConfig, RunConfig


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


class LabeledDataConfig(Config):
    """Training, validation and test data."""

    train: SplitConfig
    val: SplitConfig | None = None
    """None is a fraction of `train`."""
    val_fraction: Fraction = 0.1
    """Of the images of `train`, chosen by a hash of seed and id. They are not trained on."""
    test: SplitConfig | None = None
    """Scored once, at the end."""
    bands: list[PositiveInt] | None = None
    """Bands to use, 1-based; None is all."""
    max_value: PositiveFloat | None = None
    """Pixel value that is scaled to 1; None is 255 for 8-bit files, 1 for floats, 10,000 (reflectance) for others."""
    mean: list[float] | None = None
    """Of each band, of scaled values; None is that of the backbone's pretraining if it has as many bands, else measured
    on 256 images of `train`."""
    std: list[PositiveFloat] | None = None

    @model_validator(mode="after")
    def _goes_together(self) -> "LabeledDataConfig":
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both `mean` and `std`, or neither")
        if self.val is None and not 0 < self.val_fraction < 1:
            raise ValueError("without `val`, `val_fraction` must be between 0 and 1: the model is selected on it")
        return self


class FinetuneOptimConfig(OptimConfig):
    """Optimizer, schedule and length."""

    layer_decay: Fraction = 0.75
    """With `train_backbone: layerwise`, learning rate of each layer as a fraction of the layer above."""


class FinetuneConfig(RunConfig):
    """Settings of all tasks."""

    backbone: BackboneConfig
    data: LabeledDataConfig
    optim: FinetuneOptimConfig
    train_backbone: Literal["full", "layerwise", "none", "linear_probe"] = "full"
    """All of the backbone; all, with lower rates for lower layers; nothing; nothing, under one linear layer."""
    freeze_bn: bool | None = None
    """Keep the batch-norm statistics of the backbone. None: for detection with a pretrained backbone, and with
    `lp_ft`."""
    image_size: PositiveInt
    """Side in pixels of the network's input."""
    num_evals: PositiveInt = 10
    """Evaluations on the validation data, evenly over the run; the best model is kept."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.kind

    def check_micro_batch(self, images: int) -> None:
        """Raise ConfigError if the task cannot be trained with so few images per forward pass."""


class ClassificationAugmentConfig(Config):
    """Augmentation of scenes."""

    crop_scale: tuple[PositiveFloat, PositiveFloat] = (0.6, 1.0)
    """Smallest and largest fraction of the area that is cropped."""
    d4: bool = True
    """Rotate and flip in all eight ways; otherwise flip horizontally only."""
    randaugment: str | None = None
    """timm's policy, such as `rand-m9-mstd0.5-inc1`; three 8-bit bands only."""
    color_jitter: NonNegativeFloat = 0.0
    random_erasing: Fraction = 0.0
    """Probability of a rectangle of noise."""
    mixup: NonNegativeFloat = 0.0
    """Alpha; 0 is none."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha; 0 is none."""


class DenseAugmentConfig(Config):
    """Augmentation of images with masks."""

    scale_range: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    """Smallest and largest factor by which images are resized."""
    d4: bool = True
    """Rotate and flip in all eight ways; otherwise flip horizontally only."""
    color_jitter: NonNegativeFloat = 1.0
    """1 is mmsegmentation's photometric distortion; each date on its own."""
    cat_max_ratio: Fraction = 0.75
    """Crops in which one class covers a larger fraction are sampled again, ten times at most."""
    swap_dates: bool = False
    """Change detection: exchange before and after at random."""


class ClassifyConfig(FinetuneConfig):
    """Scene classification."""

    kind: Literal["classify"]
    image_size: PositiveInt = 224
    center_crop: float = Field(1.0, gt=0, le=1)
    """Fraction of the shorter side that is kept at evaluation, in the center; 1 resizes the whole image."""
    label_smoothing: Fraction = 0.1
    dropout: Fraction = 0.0
    lp_ft: bool = False
    """Initialize the head with a linear probe of the unchanged backbone (arXiv:2202.10054), which changes a good
    backbone less."""
    augment: ClassificationAugmentConfig = ClassificationAugmentConfig()

    @model_validator(mode="after")
    def _trains_what_it_initializes(self) -> "ClassifyConfig":
        if self.lp_ft and self.train_backbone in ("none", "linear_probe"):
            raise ValueError(f"`lp_ft` is for a trained backbone, not for `train_backbone: {self.train_backbone}`")
        return self

    def check_micro_batch(self, images: int) -> None:
        if (self.augment.mixup or self.augment.cutmix) and images % 2:
            raise ConfigError(f"mixup and cutmix mix pairs: a process takes {images} images at once, which is odd.")
        if self.train_backbone in ("none", "linear_probe") and images < 2:
            raise ConfigError(
                f"`train_backbone: {self.train_backbone}` standardizes features: it needs at least two images at once."
            )


class _DenseConfig(FinetuneConfig):
    image_size: PositiveInt = 512
    overlap: float = Field(0.5, ge=0, lt=1)
    """Fraction of `image_size` by which windows overlap when whole images are scored."""
    class_weights: list[NonNegativeFloat] | None = None
    """Of each class in the loss; None is 1."""

    def check_micro_batch(self, images: int) -> None:
        if images < 2:
            raise ConfigError("the heads' batch norms need at least two images at once in every process.")


class SegmentConfig(_DenseConfig):
    """Semantic segmentation."""

    kind: Literal["segment"]
    head: Literal["upernet"] = "upernet"
    decoder_channels: PositiveInt = 512
    aux_loss_weight: NonNegativeFloat = 0.4
    """Weight of the auxiliary head's loss; 0 is none."""
    augment: DenseAugmentConfig = DenseAugmentConfig()


class ChangeConfig(_DenseConfig):
    """Change detection between two dates."""

    kind: Literal["change"]
    image_size: PositiveInt = 256
    head: Literal["bit", "difference"] = "bit"
    augment: DenseAugmentConfig = DenseAugmentConfig(scale_range=(1.0, 1.0), color_jitter=0.0, cat_max_ratio=1.0)


class DetectConfig(FinetuneConfig):
    """Object detection."""

    kind: Literal["detect"]
    train_backbone: Literal["full", "layerwise", "none"] = "full"  # type: ignore[assignment]
    image_size: PositiveInt = 1024
    """Images and tiles whose longer side has more pixels are downsampled."""
    tile_size: PositiveInt = 1024
    """Larger images are predicted in tiles of this side, in pixels of the file; training data must be tiled before."""
    tile_overlap: NonNegativeInt = 200
    """Overlap of neighboring tiles in pixels of the file."""
    oriented: bool = True
    """Oriented R-CNN; False is Faster R-CNN with horizontal boxes."""
    classes: list[str] | None = Field(None, min_length=1)
    """Names in the order of their indices; None is all that occur in `train`, sorted."""
    decoder_channels: PositiveInt = 256
    """Channels of the feature pyramid."""
    anchor_scale: PositiveFloat = 8
    """Side of a square anchor in patches of its feature map: with 8 the smallest has 32 pixels, the largest 512."""
    num_proposals: PositiveInt = 2000
    """Regions per image that the second stage classifies."""
    frozen_stages: NonNegativeInt = 0
    """Number of the backbone's first stages that are frozen, with the stem."""
    augment: bool = True
    """Rotate and flip in all eight ways."""

    @model_validator(mode="after")
    def _tiles_overlap_in_part(self) -> "DetectConfig":
        if self.tile_overlap >= self.tile_size:
            raise ValueError(f"tiles of {self.tile_size} pixels cannot overlap by {self.tile_overlap}")
        return self
