"""Evaluation of a model on labeled images."""

from typing import Any

import numpy as np

from lhrs.downstream.labeled_dataset import LabeledDataset
from lhrs.downstream.predict import Predictor


def evaluate(predictor: Predictor, labeled: LabeledDataset) -> dict[str, Any]:
    """Return the task's scores in 0-1, None for undefined ones, with their details.

    Details are the confusion matrix (rows are true), or the average precision of each class of objects.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    scores = predictor.task.evaluate(predictor, labeled)
    return {name: _to_json(value) for name, value in scores.items()}


def _to_json(value: Any) -> Any:
    """Return a JSON value: None for an undefined score, such as the IoU of a class that does not occur."""
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
