"""Initialization of a classification head by a linear probe of the backbone (LP-FT, arXiv:2202.10054)."""

from typing import cast

import numpy as np
import torch

from lhrs.downstream.data import ClassificationDataset
from lhrs.downstream.predict import Predictor
from lhrs.downstream.scene_classifier import SceneClassifier
from lhrs.models.logistic_regression import fit_logistic_regression

_BATCH = 64


def initialize_with_linear_probe(predictor: Predictor, scenes: ClassificationDataset, seed: int) -> None:
    """Fit the head to the features of the unchanged backbone.

    Every process computes the same head from the same weights and images.
    """
    network = cast(SceneClassifier, predictor.network)
    features, targets = [], []
    with torch.inference_mode():
        for start in range(0, len(scenes), _BATCH):
            batch = [scenes[0, n] for n in range(start, min(start + _BATCH, len(scenes)))]
            pixels = torch.stack([sample["pixels"] for sample in batch]).to(predictor.device)
            features.append(network.features(pixels).float().cpu())
            targets += [sample["target"] for sample in batch]
    weight, bias = fit_logistic_regression(
        torch.cat(features).numpy(), np.array(targets), len(predictor.config.classes), seed
    )
    network.set_head(torch.from_numpy(weight), torch.from_numpy(bias))
