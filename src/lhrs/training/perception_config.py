"""Run files of perception training: one encoder, all label types at once."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.training.run_config import Fraction, OptimConfig, RunConfig


class LabelMeaning(Config):
    """What a scene class, a mask class or an object label says about an image."""

    land_cover: list[str] = []
    """Possible land-cover classes of the pixels: one for certainty, several where the label is broader. Empty says
    nothing."""
    present: list[str] = []
    """Tags that are present where the label is."""
    absent: list[str] = []
    """Tags that are absent where the label is the scene class."""
    object: str | None = None
    """Object class of the label's boxes."""
    has_extent: bool = True
    """False where boxes have a nominal size, such as trees that are points: their extents are not learned."""


class PerceptionSourceConfig(Config):
    """One dataset, in any format that `lhrs data show` reads."""

    name: str
    path: Path
    format: str | None = None
    """None detects it."""
    split: str | None = None
    include: list[str] = []
    """Patterns such as `tile7/*`. Samples whose id matches none of them are left out."""
    scene_set: str | None = None
    """Name of the set of scene classes: a label `Forest` is the class `SET/Forest`. None: labels are not scene classes,
    or only a part of the images has them."""
    labels: dict[str, LabelMeaning] = {}
    """Meaning by label, mask class or object label. Labels of masks and objects are exhaustive: where none of them is,
    what they mean is absent. A box of `a|b` is a region of both; where a region is, and no box, is unknown."""
    gsd_m: PositiveFloat | None = None
    """Ground sampling distance of the images, if it is one."""
    side: PositiveInt = 256
    """Side in pixels of the training canvas; images of one batch may have several."""
    crop: tuple[Fraction, Fraction] = (0.5, 1.0)
    """Smallest and largest side of a random crop, as a fraction of the shorter side of the image."""
    mosaic: list[PositiveInt] = [1]
    """Numbers of images along a side of the canvas, drawn evenly: 2 joins 2 x 2 images, which have land cover and tags
    but no common scene class. Only for scene classes."""
    weight: PositiveFloat = 1.0
    """How often each image is seen per epoch, on average."""


class PerceptionClassesConfig(Config):
    """Classes of the dense heads."""

    tags: list[str] = Field(min_length=1)
    land_cover: list[str] = Field(min_length=2, max_length=8)
    objects: list[str] = Field(min_length=1)


class PerceptionEncoderConfig(Config):
    """Where the encoder comes from."""

    name: str
    """timm's name, or a folder such as `runs/cmid-resnet50/model`."""
    pretrained: bool = False
    """With a name: download timm's weights."""


class PerceptionOptimConfig(OptimConfig):
    """Optimizer, schedule and length."""

    encoder_lr: PositiveFloat | None = None
    """Learning rate of the encoder; None is `lr`."""


class LossWeights(Config):
    """Weights of the parts of the loss."""

    scene: float = 1.0
    tags: float = 1.0
    land_cover: float = 1.0
    centers: float = 1.0
    extents: float = 1.0


class PerceptionConfig(RunConfig):
    """Training of an encoder with dense heads."""

    kind: Literal["perception"]
    init_from: Path | None = None
    """Output folder of a finished perception run whose weights this one starts from."""
    encoder: PerceptionEncoderConfig | None = None
    classes: PerceptionClassesConfig
    sources: list[PerceptionSourceConfig] = Field(min_length=1)
    width: PositiveInt = 64
    """Channels of the pyramid."""
    dropout: Fraction = 0.2
    freeze_bn: bool = False
    """Batch norms keep their statistics in training. Canvases of several sides have statistics of their own; a second
    run with frozen ones learns with those that the finished model predicts with."""
    label_smoothing: Fraction = 0.05
    val_fraction: Fraction = 0.05
    """Of the images of each source, chosen by a hash of seed and id. They are not trained on: thresholds, temperatures
    and the limit of out-of-distribution detection are fitted on them."""
    gsd_dropout: Fraction = 0.5
    """Probability that the ground sampling distance is hidden from the model."""
    loss: LossWeights = LossWeights()
    optim: PerceptionOptimConfig

    @model_validator(mode="after")
    def _is_consistent(self) -> "PerceptionConfig":
        if (self.init_from is None) == (self.encoder is None):
            raise ValueError("give either `encoder` or `init_from`")
        for source in self.sources:
            for label, meaning in source.labels.items():
                for words, known in (
                    (meaning.land_cover, self.classes.land_cover),
                    ([*meaning.present, *meaning.absent], self.classes.tags),
                    ([meaning.object] if meaning.object else [], self.classes.objects),
                ):
                    if wrong := [word for word in words if word not in known]:
                        raise ValueError(f"source {source.name}, label {label}: {wrong[0]!r} is not in `classes`")
        return self
