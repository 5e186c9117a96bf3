"""What a predictor is worth on labelled images: all of them, whole, each once."""

from typing import Any

import numpy as np

from lhrs.downstream.data import read_target
from lhrs.downstream.detect.data import horizontal_corners, objects_on
from lhrs.downstream.predict import Predictor
from lhrs.downstream.reader import Labelled
from lhrs.metrics.detection import mean_average_precision
from lhrs.metrics.segmentation import batch_mean_f1_of, change_scores, confusion_matrix, segmentation_scores
from lhrs.metrics.statistics import wilson

CHOSEN_BY = {"classify": "accuracy", "segment": "miou", "change": "f1", "detect": "map50"}
"""The score by which a model is chosen on the validation split."""


def score(predictor: Predictor, labelled: Labelled) -> dict[str, Any]:
    """Return the task's scores, shares of 1, None where one is not defined; with the confusion matrix (rows are true)
    that they come from, or with the average precision of each class of objects.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    one_of = {"classify": _scenes, "detect": _objects}
    return {
        name: _plain(value) for name, value in one_of.get(predictor.card.task, _pixels)(predictor, labelled).items()
    }


def _plain(value: Any) -> Any:
    """Return what JSON can hold: None for what is not defined, such as the IoU of a class that does not occur."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _objects(predictor: Predictor, labelled: Labelled) -> dict[str, Any]:
    classes = predictor.card.classes
    oriented = predictor.card.head == "oriented"
    found = [predictor.detect(predictor.stacks(*item.images)[0]) for item in labelled.items]
    truth = [objects_on(item, classes, oriented) for item in labelled.items]
    at50, at75, voc07 = (
        mean_average_precision(found, truth, len(classes), threshold, points)
        for threshold, points in ((0.5, 0), (0.75, 0), (0.5, 11))
    )
    # What both kinds of detectors can be compared by: the horizontal boxes around what is found and what is there.
    around = [one._replace(corners=_around(one.corners)) for one in found]
    straight = [objects_on(item, classes, False) for item in labelled.items]
    return {
        "map50": at50.mean, "map75": at75.mean, "map50_voc07": voc07.mean,
        "map50_horizontal": mean_average_precision(around, straight, len(classes)).mean,
        "images": len(found), "objects": sum(len(one.labels) for one in truth), "classes": classes,
        "ap50": at50.by_class.tolist(),
    }  # fmt: skip


def _around(corners: np.ndarray) -> np.ndarray:
    return horizontal_corners(np.concatenate([corners.min(1), corners.max(1)], 1))


def _scenes(predictor: Predictor, labelled: Labelled) -> dict[str, Any]:
    number = {name: n for n, name in enumerate(predictor.card.classes)}
    truth = np.array([number[str(item.label)] for item in labelled.items])
    guesses = predictor.classify([item.images[0] for item in labelled.items])
    guess = np.array([number[found.label] for found in guesses])
    confusion = confusion_matrix(truth, guess, len(number), ignore=-1)
    hits = int(np.trace(confusion))
    scores = segmentation_scores(confusion)
    return {
        "accuracy": hits / len(truth), "accuracy_95": wilson(hits, len(truth)), "mf1": scores["mf1"],
        "images": len(truth), "classes": predictor.card.classes, "confusion": confusion.tolist(),
    }  # fmt: skip


def _pixels(predictor: Predictor, labelled: Labelled) -> dict[str, Any]:
    classes = predictor.card.classes
    matrices = []
    for item in labelled.items:
        stacks = predictor.stacks(*item.images)
        confusion = np.zeros((len(classes), len(classes)), np.int64)
        truth = read_target(labelled, item, stacks[0].shape, None)
        for top, scores in predictor.rows(stacks):  # no pixel is left out, whatever the file says of its data
            guess = scores.argmax(0)
            confusion += confusion_matrix(truth[top : top + len(guess)], guess, len(classes))
        matrices.append(confusion)
    pooled = np.sum(matrices, axis=0)
    found: dict[str, Any] = (
        {**change_scores(pooled), "batch_mf1": batch_mean_f1_of(matrices)}
        if predictor.card.task == "change"
        else dict(segmentation_scores(pooled))
    )
    return {**found, "images": len(matrices), "classes": classes, "confusion": pooled.tolist()}
