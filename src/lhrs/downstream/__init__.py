"""Downstream tasks on a backbone: classification, segmentation, detection and change detection, in plain PyTorch."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lhrs.downstream.predict import Predictor


def load_predictor(folder: str | os.PathLike[str], device: str | None = None) -> "Predictor":
    """Return the model in a folder, such as `model/` of an `lhrs finetune` run, ready to be called with images.

    Raises:
        CheckpointError: the folder contains no model, or the model is broken.
    """
    from lhrs.downstream.predict import load

    return load(folder, device)
