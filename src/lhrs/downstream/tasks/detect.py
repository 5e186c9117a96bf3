"""Object detection: oriented or horizontal boxes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from lhrs.downstream.task import HeadConfig, InferenceConfig, PredictOptions, Task, TaskConfig, choose_head
from lhrs.errors import ConfigError, DataError

if TYPE_CHECKING:
    from lhrs.downstream.backbone import Backbone
    from lhrs.downstream.inputs import ImageInput
    from lhrs.downstream.labeled_dataset import LabeledDataset
    from lhrs.downstream.network import TaskNetwork
    from lhrs.downstream.predict import DetectedObject, Predictor
    from lhrs.imagery.band_stack import BandStack


class DetectionInference(InferenceConfig):
    """How whole images are predicted."""

    tile_size: PositiveInt = 1024
    """Larger images are predicted in tiles of this side, in pixels of the file."""
    tile_overlap: NonNegativeInt = 200
    """Overlap of neighboring tiles in pixels of the file."""

    @model_validator(mode="after")
    def _tiles_overlap_in_part(self) -> "DetectionInference":
        _check_tiles(self.tile_size, self.tile_overlap)
        return self


class DetectionConfig(TaskConfig):
    """Object detection."""

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
    """Names in the order of their indices; None is all classes of `train`, sorted."""
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
    def _tiles_overlap_in_part(self) -> "DetectionConfig":
        _check_tiles(self.tile_size, self.tile_overlap)
        return self


class ObjectDetection(Task):
    """Boxes with a class and a score."""

    config = DetectionConfig
    inference_config = DetectionInference
    monitor = "map50"
    min_classes = 1
    predict_options = ("min_score",)

    def build_network(self, encoder: "Backbone", num_classes: int, head: str | None, **args: Any) -> "TaskNetwork":
        from lhrs.downstream.detect.object_detector import ObjectDetector

        return ObjectDetector(encoder, num_classes, choose_head(self.name, ObjectDetector.heads, head), **args)

    def head(self, config: Any) -> HeadConfig:
        names = ("decoder_channels", "anchor_scale", "num_proposals")
        return HeadConfig("oriented" if config.oriented else "horizontal", {n: getattr(config, n) for n in names})

    def classes(self, config: Any, train: "LabeledDataset") -> list[str]:
        if config.classes is None:
            return train.classes
        if unknown := sorted(set(train.classes) - set(config.classes)):
            raise DataError(f"data.train has objects of class {unknown[0]!r}, which is not among `classes`.")
        return list(config.classes)

    def prepare_backbone(self, config: Any, encoder: "Backbone") -> None:
        encoder.freeze_stages(config.frozen_stages)

    def freezes_bn(self, config: Any, is_pretrained: bool) -> bool:
        return is_pretrained

    def training_data(self, config: Any, train: "LabeledDataset", image_input: "ImageInput") -> tuple[Any, Callable]:
        from lhrs.downstream.detect.data import DetectionDataset, detection_collate

        dataset = DetectionDataset(
            train, image_input, config.image_size, config.oriented, config.augment, config.seed, config.tile_size
        )
        return dataset, detection_collate

    def predict(self, predictor: "Predictor", inputs: "tuple[BandStack, ...]") -> "list[DetectedObject]":
        return list(predictor.detect_objects(inputs[0]))

    def evaluate(self, predictor: "Predictor", labeled: "LabeledDataset") -> dict[str, Any]:
        from lhrs.downstream.detect.data import enclosing_corners, ground_truth
        from lhrs.metrics.detection import mean_average_precision

        classes, oriented = predictor.config.classes, predictor.config.head == "oriented"
        detections = [predictor.detect(predictor.open_inputs(*item.images)[0]) for item in labeled.items]
        truth = [ground_truth(item, classes, oriented) for item in labeled.items]
        at50, at75, voc07 = (
            mean_average_precision(detections, truth, len(classes), threshold, points)
            for threshold, points in ((0.5, 0), (0.75, 0), (0.5, 11))
        )
        # Scores of enclosing horizontal boxes make oriented and horizontal detectors comparable.
        horizontal = [result._replace(corners=enclosing_corners(result.corners)) for result in detections]
        horizontal_truth = [ground_truth(item, classes, False) for item in labeled.items]
        return {
            "map50": at50.mean, "map75": at75.mean, "map50_voc07": voc07.mean,
            "map50_horizontal": mean_average_precision(horizontal, horizontal_truth, len(classes)).mean,
            "images": len(detections), "objects": sum(len(result.labels) for result in truth), "classes": classes,
            "ap50": at50.by_class.tolist(),
        }  # fmt: skip

    def check_output(self, out: Path, options: PredictOptions) -> None:
        if out.suffix.lower() not in (".geojson", ".jsonl", ""):
            raise ConfigError(f"--out {out}: objects are written as .geojson, as .jsonl, or into a folder.")
        if not out.suffix:
            from lhrs.atomic_io import prepare_output_dir

            prepare_output_dir(out)  # a folder with other files is not replaced

    def write(
        self, load: "Callable[[], Predictor]", images: Sequence[Path], out: Path, options: PredictOptions,
        progress: Any, report: Callable[[str], None],
    ) -> list[Path]:  # fmt: skip
        from lhrs.downstream import writers
        from lhrs.imagery.image import list_images
        from lhrs.imagery.windows import num_windows

        files = list_images(list(images))
        if out.suffix.lower() == ".geojson":
            for file in files:
                writers.require_georeference(file)
        elif not out.suffix:
            writers.require_dota_names(files)
        predictor, min_score = load(), options.min_score or 0.0
        inference = predictor.inference
        shapes = [predictor.open_inputs(file)[0].shape for file in files]
        num_tiles = sum(
            num_windows(width, height, inference.tile_size, inference.tile_overlap) for height, width in shapes
        )
        with progress("tiles", num_tiles) as bar:
            rows = (
                (
                    file,
                    [x for x in predictor.detect_objects(predictor.open_inputs(file)[0], bar) if x.score >= min_score],
                )
                for file in files
            )
            if out.suffix.lower() == ".geojson":
                writers.write_objects_geojson(rows, out)
            elif out.suffix:
                writers.write_objects_jsonl(rows, out)
            else:
                writers.write_objects_dota(rows, predictor.config.classes, out)
        return [out]


def _check_tiles(size: int, overlap: int) -> None:
    if overlap >= size:
        raise ValueError(f"tiles of {size} pixels cannot overlap by {overlap}")
