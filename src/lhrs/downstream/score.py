"""What a predictor is worth on labelled images: all of them, whole, each once."""

from typing import Any

import numpy as np

from lhrs.downstream.data import read_target
from lhrs.downstream.predict import Predictor
from lhrs.downstream.reader import Labelled
from lhrs.metrics.segmentation import batch_mean_f1_of, change_scores, confusion_matrix, segmentation_scores
from lhrs.metrics.statistics import wilson

CHOSEN_BY = {"classify": "accuracy", "segment": "miou", "change": "f1"}
"""The score by which a model is chosen on the validation split."""


def score(predictor: Predictor, labelled: Labelled) -> dict[str, Any]:
    """Return the task's scores, shares of 1, with the confusion matrix (rows are true) that they come from.

    Raises:
        DataError: an image or a mask cannot be read.
    """
    return _scenes(predictor, labelled) if predictor.card.task == "classify" else _pixels(predictor, labelled)


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
