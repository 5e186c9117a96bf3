"""Change detection: which pixels differ between two dates."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import PositiveInt

from lhrs.downstream.dense import DenseAugmentConfig, DenseConfig, DenseTask
from lhrs.downstream.task import HeadConfig, choose_head
from lhrs.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from lhrs.downstream.backbone import Backbone
    from lhrs.downstream.network import TaskNetwork


class ChangeDetectionConfig(DenseConfig):
    """Change detection between two dates."""

    image_size: PositiveInt = 256
    head: Literal["bit", "difference"] = "bit"
    augment: DenseAugmentConfig = DenseAugmentConfig(scale_range=(1.0, 1.0), color_jitter=0.0, cat_max_ratio=1.0)


class ChangeDetection(DenseTask):
    """Change or no change per pixel."""

    config = ChangeDetectionConfig
    monitor = "f1"
    num_dates = 2

    def build_network(self, encoder: "Backbone", num_classes: int, head: str | None, **args: Any) -> "TaskNetwork":
        from lhrs.downstream.change_detector import ChangeDetector

        return ChangeDetector(encoder, num_classes, choose_head(self.name, ChangeDetector.heads, head), **args)

    def head(self, config: Any) -> HeadConfig:
        name = "linear" if config.train_backbone == "linear_probe" else config.head
        return HeadConfig(name, {}, {"class_weights": config.class_weights})

    def scores(self, confusion: "np.ndarray", of_images: "Sequence[np.ndarray]") -> dict[str, Any]:
        from lhrs.metrics.segmentation import batch_mean_f1_of, change_scores

        return {**change_scores(confusion), "batch_mf1": batch_mean_f1_of(of_images)}

    def input_files(self, images: Sequence[Path]) -> list[tuple[Path, ...]]:
        from lhrs.imagery.image import list_images

        if len(images) != 2:
            raise ConfigError(f"change needs BEFORE and AFTER, two images or two folders, not {len(images)} paths.")
        before, after = (list_images([path]) for path in images)
        if len(before) == len(after) == 1:
            return [(before[0], after[0])]
        by_name = {path.name: path for path in after}
        single = next((path for path in before if path.name not in by_name), None)
        if single is not None:
            raise DataError(f"{single} has no image of its name in {images[1]}.")
        return [(path, by_name[path.name]) for path in before]
