"""Scene classification: one class per image, or per window of a large one."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from lhrs.config import Config
from lhrs.downstream.task import Fraction, HeadConfig, InferenceConfig, PredictOptions, Task, TaskConfig, choose_head
from lhrs.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lhrs.downstream.backbone import Backbone
    from lhrs.downstream.inputs import ImageInput
    from lhrs.downstream.labeled_dataset import LabeledDataset
    from lhrs.downstream.network import TaskNetwork
    from lhrs.downstream.predict import ClassPrediction, Predictor
    from lhrs.downstream.writers import Classified
    from lhrs.imagery.band_stack import BandStack

_BATCH = 64


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
    """Alpha of mixup; 0 disables it."""
    cutmix: NonNegativeFloat = 0.0
    """Alpha; 0 is none."""


class ClassificationConfig(TaskConfig):
    """Scene classification."""

    image_size: PositiveInt = 224
    center_crop: float = Field(1.0, gt=0, le=1)
    """Fraction of the shorter side that is kept at evaluation, in the center; 1 resizes the whole image."""
    label_smoothing: Fraction = 0.1
    dropout: Fraction = 0.0
    lp_ft: bool = False
    """Initialize the head with a linear probe of the unchanged backbone (LP-FT, arXiv:2202.10054)."""
    augment: ClassificationAugmentConfig = ClassificationAugmentConfig()

    @model_validator(mode="after")
    def _trains_what_it_initializes(self) -> "ClassificationConfig":
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


class ClassificationInference(InferenceConfig):
    """How whole images are classified."""

    center_crop: float = Field(1.0, gt=0, le=1)
    """Side of the center crop as a fraction of the shorter side."""


class SceneClassification(Task):
    """One class per image."""

    config = ClassificationConfig
    inference_config = ClassificationInference
    monitor = "accuracy"
    predict_options = ("window_size",)

    def build_network(self, encoder: "Backbone", num_classes: int, head: str | None, **args: Any) -> "TaskNetwork":
        from lhrs.downstream.scene_classifier import SceneClassifier

        return SceneClassifier(encoder, num_classes, choose_head(self.name, SceneClassifier.heads, head), **args)

    def head(self, config: Any) -> HeadConfig:
        standardizes = config.train_backbone in ("linear_probe", "none")
        return HeadConfig("linear", {"standardize": standardizes}, {"dropout": config.dropout})

    def freezes_bn(self, config: Any, is_pretrained: bool) -> bool:
        return bool(config.lp_ft)

    def training_data(self, config: Any, train: "LabeledDataset", image_input: "ImageInput") -> tuple[Any, Callable]:
        from lhrs.downstream.data import (
            ClassificationAugment,
            ClassificationDataset,
            MixupConfig,
            classification_collate,
        )

        augment = ClassificationAugment(**config.augment.model_dump(exclude={"mixup", "cutmix"}))
        dataset = ClassificationDataset(train, image_input, config.image_size, config.seed, augment)
        mixing = MixupConfig(len(train.classes), config.augment.mixup, config.augment.cutmix, config.label_smoothing)
        return dataset, partial(classification_collate, mixing=mixing, seed=config.seed)

    def initialize_head(self, config: Any, predictor: "Predictor", train: "LabeledDataset") -> None:
        if not config.lp_ft:
            return
        from lhrs.downstream.data import ClassificationDataset
        from lhrs.downstream.linear_probe import initialize_with_linear_probe

        scenes = ClassificationDataset(train, predictor.image_input, config.image_size, center_crop=config.center_crop)
        initialize_with_linear_probe(predictor, scenes, config.seed)

    def predict(self, predictor: "Predictor", inputs: "tuple[BandStack, ...]") -> "ClassPrediction":
        return next(predictor.classify([inputs[0].files]))

    def evaluate(self, predictor: "Predictor", labeled: "LabeledDataset") -> dict[str, Any]:
        import numpy as np

        from lhrs.metrics.segmentation import confusion_matrix, segmentation_scores
        from lhrs.metrics.statistics import wilson

        index = {name: n for n, name in enumerate(predictor.config.classes)}
        truth = np.array([index[str(item.label)] for item in labeled.items])
        predictions = predictor.classify([item.images[0] for item in labeled.items])
        predicted = np.array([index[prediction.label] for prediction in predictions])
        confusion = confusion_matrix(truth, predicted, len(index), ignore=-1)
        hits = int(np.trace(confusion))
        return {
            "accuracy": hits / len(truth), "accuracy_95": wilson(hits, len(truth)),
            "mf1": segmentation_scores(confusion)["mf1"], "images": len(truth), "classes": predictor.config.classes,
            "confusion": confusion.tolist(),
        }  # fmt: skip

    def check_output(self, out: Path, options: PredictOptions) -> None:
        kinds = (".csv", ".geojson", ".tif") if options.window_size else (".csv", ".geojson")
        if out.suffix.lower() not in kinds:
            raise ConfigError(f"--out {out}: scene classes are written as {' or '.join(kinds)}.")

    def write(
        self, load: "Callable[[], Predictor]", images: Sequence[Path], out: Path, options: PredictOptions,
        progress: Any, report: Callable[[str], None],
    ) -> list[Path]:  # fmt: skip
        from lhrs.downstream.writers import write_classes_csv, write_classes_geojson, write_masks
        from lhrs.imagery.image import list_images

        files = list_images(list(images))
        if out.suffix.lower() == ".tif":
            if len(files) > 1:
                raise ConfigError(f"--out {out} is one file, but there are {len(files)} images; write a .geojson.")
            return write_masks(load, [(files[0],)], [out], progress, report, options.window_size)
        predictor = load()
        rows = _classify_files(predictor, files, progress) if options.window_size is None else _classify_windows(
            predictor, files, options.window_size, progress
        )  # fmt: skip
        if out.suffix.lower() == ".csv":
            write_classes_csv(rows, predictor.config.classes, out)
        else:
            write_classes_geojson(rows, out)
        return [out]


def _classify_files(predictor: "Predictor", files: list[Path], progress: Any) -> "list[Classified]":
    rows: list[Classified] = []
    with progress("images", len(files)) as bar:
        for file, prediction in zip(files, predictor.classify(files), strict=True):
            rows.append((file, None, prediction))
            bar.update()
    return rows


def _classify_windows(predictor: "Predictor", files: list[Path], size: int, progress: Any) -> "list[Classified]":
    from lhrs.imagery.windows import num_windows

    rows: list[Classified] = []
    shapes = [predictor.open_inputs(file)[0].shape for file in files]
    with progress("windows", sum(num_windows(width, height, size) for height, width in shapes)) as bar:
        for file in files:
            for window, prediction in predictor.classify_windows(predictor.open_inputs(file)[0], size):
                if prediction is not None:
                    rows.append((file, window.core, prediction))
                bar.update()
    if not rows:
        raise DataError(f"{files[0]} has no data in any window.")
    return rows
