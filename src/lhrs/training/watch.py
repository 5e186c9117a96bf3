"""Watching a backbone while it learns: whether its features collapse, and what their neighbours are good for."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from lhrs.cmid.backbone import to_map
from lhrs.cmid.probes import Probe, effective_rank, knn_accuracy, labelled_folder
from lhrs.training.engine import KeyedTrainer
from lhrs.training.output import is_main_process
from lhrs.training.pretrain_run import WatchConfig


def check_watched(settings: WatchConfig, probe: Probe) -> None:
    """Raise DataError now, rather than in the middle of a run, if the labelled folder is not for this backbone."""
    if settings.labelled is not None:
        probe.read(labelled_folder(settings.labelled)[0][0])


class Watch(TrainerCallback):
    """Logs `rank`, the effective rank of features (1 is collapse), and `knn`, accuracy on a labelled folder.

    Features are the teacher's, whose batch norms see whole images; the student's where there is none.

    Args:
        settings: how often, and on which labelled folder.
        images: makes batches of whole normalised images.
        probe: the teacher's backbone, or the student's, as files are shown to it.
        trainer: what logs.

    Raises:
        DataError: the labelled folder has no classes.
    """

    def __init__(self, settings: WatchConfig, images: Iterator[Tensor], probe: Probe, trainer: KeyedTrainer) -> None:
        self.settings, self.probe, self.trainer, self.images = settings, probe, trainer, list(images)
        self.labelled: tuple[list, np.ndarray] | None = None
        if settings.labelled is not None:
            files, labels, _ = labelled_folder(settings.labelled)
            at = np.linspace(0, len(files) - 1, min(settings.images, len(files))).round().astype(int)
            self.labelled = [files[n] for n in at], labels[at]

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.global_step % self.settings.every == 0 and is_main_process():
            self.trainer.log_beside(self.look(str(args.device)))

    @torch.inference_mode()
    def look(self, device: str) -> dict[str, float]:
        """Return what is logged."""
        model = self.probe.model
        was = model.training
        model.eval()
        pooled = [
            to_map(model, model.forward_features(batch.to(device))).float().mean((2, 3))  # type: ignore[operator]
            for batch in self.images
        ]
        found = {"rank": effective_rank(torch.cat(pooled).cpu())}
        if self.labelled is not None:
            files, labels = self.labelled
            features = replace(self.probe, device=device).pooled(files)
            known, asked = slice(0, None, 2), slice(1, None, 2)
            right = knn_accuracy(features[known], labels[known], features[asked], labels[asked])
            found["knn"] = float(right.mean())
        model.train(was)
        return found
