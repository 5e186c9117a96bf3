"""Base of tasks with a class per pixel. Torch is imported lazily."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from lhrs.config import Config
from lhrs.downstream.task import Fraction, InferenceConfig, PredictOptions, Task, TaskConfig
from lhrs.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from lhrs.downstream.inputs import ImageInput
    from lhrs.downstream.labeled_dataset import LabeledDataset
    from lhrs.downstream.predict import Predictor
    from lhrs.imagery.band_stack import BandStack


class DenseAugmentConfig(Config):
    """Augmentation of images with masks."""

    scale_range: tuple[PositiveFloat, PositiveFloat] = (0.5, 2.0)
    """Smallest and largest factor by which images are resized."""
    d4: bool = True
    """Rotate and flip in all eight ways; otherwise flip horizontally only."""
    color_jitter: NonNegativeFloat = 1.0
    """Strength of color jitter, 1 is mmsegmentation's photometric distortion; independent for each date."""
    cat_max_ratio: Fraction = 0.75
    """Largest fraction of one class in a crop; other crops are sampled again, ten times at most."""
    swap_dates: bool = False
    """Change detection: exchange before and after at random."""


class DenseConfig(TaskConfig):
    """Keys of tasks with a class per pixel."""

    image_size: PositiveInt = 512
    overlap: float = Field(0.5, ge=0, lt=1)
    """Fraction of `image_size` by which windows overlap when whole images are scored."""
    class_weights: list[NonNegativeFloat] | None = None
    """Weights of the classes in the loss; None is 1 for each."""
    augment: DenseAugmentConfig = DenseAugmentConfig()

    def check_micro_batch(self, images: int) -> None:
        if images < 2:
            raise ConfigError("the heads' batch norms need at least two images at once in every process.")


class DenseInference(InferenceConfig):
    """How whole images are predicted."""

    overlap: float = Field(0.5, ge=0, lt=1)
    """Fraction of `image_size` by which neighboring windows overlap."""


class DenseTask(Task):
    """A class per pixel."""

    config = DenseConfig
    inference_config = DenseInference
    needs_equal_classes = True

    def classes(self, config: Any, train: "LabeledDataset") -> list[str]:
        weights = config.class_weights
        if weights is not None and len(weights) != len(train.classes):
            raise ConfigError(f"class_weights has {len(weights)} values, there are {len(train.classes)} classes.")
        return train.classes

    def training_data(self, config: Any, train: "LabeledDataset", image_input: "ImageInput") -> tuple[Any, Callable]:
        from lhrs.downstream.data import SegmentationAugment, SegmentationDataset, segmentation_collate

        augment = SegmentationAugment(**config.augment.model_dump())
        return SegmentationDataset(train, image_input, config.image_size, config.seed, augment), segmentation_collate

    def predict(self, predictor: "Predictor", inputs: "tuple[BandStack, ...]") -> "np.ndarray":
        import numpy as np

        mask = np.empty(inputs[0].shape, np.uint8)
        for top, strip in predictor.iter_mask_strips(inputs):
            mask[top : top + len(strip)] = strip
        return mask

    def evaluate(self, predictor: "Predictor", labeled: "LabeledDataset") -> dict[str, Any]:
        import numpy as np

        matrices = confusion_matrices(predictor, labeled)
        pooled = np.sum(matrices, axis=0)
        return {
            **self.scores(pooled, matrices), "images": len(matrices), "classes": predictor.config.classes,
            "confusion": pooled.tolist(),
        }  # fmt: skip

    def scores(self, confusion: "np.ndarray", of_images: "Sequence[np.ndarray]") -> dict[str, Any]:
        """Return scores of the pooled confusion matrix, and of the confusion matrices of the images."""
        from lhrs.metrics.segmentation import segmentation_scores

        return dict(segmentation_scores(confusion))

    def check_output(self, out: Path, options: PredictOptions) -> None:
        if out.suffix and out.suffix.lower() not in (".tif", ".tiff") and not out.is_dir():
            raise ConfigError(f"--out {out}: masks are written as .tif, or into a folder.")

    def write(
        self, load: "Callable[[], Predictor]", images: Sequence[Path], out: Path, options: PredictOptions,
        progress: Any, report: Callable[[str], None],
    ) -> list[Path]:  # fmt: skip
        from lhrs.downstream.writers import mask_targets, write_masks

        groups = self.input_files(images)
        first = int(self.num_dates == 2)  # class 0, no change, has no polygons
        return write_masks(load, groups, mask_targets(groups, out), progress, report, first_class=first)

    def input_files(self, images: Sequence[Path]) -> list[tuple[Path, ...]]:
        """Return the files of each sample."""
        from lhrs.imagery.image import list_images

        return [(file,) for file in list_images(list(images))]


def confusion_matrices(predictor: "Predictor", labeled: "LabeledDataset") -> "list[np.ndarray]":
    """Return the confusion matrix of each image, rows are true."""
    import numpy as np

    from lhrs.downstream.data import read_mask
    from lhrs.metrics.segmentation import confusion_matrix

    num_classes = len(predictor.config.classes)
    matrices = []
    for item in labeled.items:
        inputs = predictor.open_inputs(*item.images)
        confusion = np.zeros((num_classes, num_classes), np.int64)
        truth = read_mask(labeled, item, inputs[0].shape, None)
        for top, logits in predictor.iter_logit_strips(inputs):  # every pixel, also where the file has no data
            predicted = logits.argmax(0)
            confusion += confusion_matrix(truth[top : top + len(predicted)], predicted, num_classes)
        matrices.append(confusion)
    return matrices
