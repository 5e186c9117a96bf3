"""Monitoring of features during pretraining: their rank, and accuracy of nearest neighbors."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.cmid.backbone import to_feature_map
from lhrs.cmid.probes import FeatureExtractor, effective_rank, knn_accuracy, list_image_folder
from lhrs.training.cmid_config import MonitorConfig
from lhrs.training.run_dir import is_main_process
from lhrs.training.trainer import Trainer


def check_monitored(settings: MonitorConfig, probe: FeatureExtractor) -> None:
    """Raise DataError before the run if the labeled folder does not fit this backbone."""
    if settings.labeled_dir is not None:
        probe.load_image(list_image_folder(settings.labeled_dir)[0][0])


class FeatureMonitor(TrainerCallback):
    """Logs `rank`, the effective rank of features (1 is collapse), and `knn`, accuracy on a labeled folder.

    Features are the teacher's, whose batch norms see whole images; the student's where there is none.

    Args:
        settings: steps and labeled folder.
        images: yields batches of whole normalized images.
        probe: extracts features with the teacher's backbone, or the student's.
        trainer: logs.

    Raises:
        DataError: the labeled folder has no classes.
    """

    def __init__(
        self, settings: MonitorConfig, images: Iterator[Tensor], probe: FeatureExtractor, trainer: Trainer
    ) -> None:
        self.settings, self.probe, self.trainer, self.images = settings, probe, trainer, list(images)
        self.labeled: tuple[list, np.ndarray] | None = None
        if settings.labeled_dir is not None:
            files, labels, _ = list_image_folder(settings.labeled_dir)
            at = np.linspace(0, len(files) - 1, min(settings.num_images, len(files))).round().astype(int)
            self.labeled = [files[n] for n in at], labels[at]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.global_step % self.settings.steps == 0 and is_main_process():
            self.trainer.log_extra(self.compute(str(args.device)))

    @torch.inference_mode()
    def compute(self, device: str) -> dict[str, float]:
        """Return the metrics."""
        model = self.probe.model
        was = model.training
        model.eval()
        pooled = [
            to_feature_map(model, model.forward_features(batch.to(device))).float().mean((2, 3))  # type: ignore[operator]
            for batch in self.images
        ]
        metrics = {"rank": effective_rank(torch.cat(pooled).cpu())}
        if self.labeled is not None:
            files, labels = self.labeled
            features = replace(self.probe, device=device).pooled_features(files)
            train, test = slice(0, None, 2), slice(1, None, 2)
            correct = knn_accuracy(features[train], labels[train], features[test], labels[test])
            metrics["knn"] = float(correct.mean())
        model.train(was)
        return metrics
