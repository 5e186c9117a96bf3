"""Scene classification: the answer is exactly one of the labels."""

from collections.abc import Sequence

import numpy as np

from lhrs.metrics.accuracy import (
    Accuracy,
    AccuracyMetric,
    accuracy_by_type,
    answers_of,
    mean,
    predictions_of,
)
from lhrs.metrics.answer_parsing import label_key, parse_label
from lhrs.metrics.metric import Prompt, Question, Record


class Classification(AccuracyMetric):
    """Accuracy of scene classes."""

    name = "classify"

    def prompt(self, question: Question) -> Prompt:
        return Prompt("classification", options=self._options(question))

    def allowed_answers(self, question: Question) -> tuple[str, ...] | None:
        return self._options(question) or None

    def judge(self, records: Sequence[Record], by_type: bool = True) -> Accuracy:
        offered = sorted({str(option) for record in records for option in record.get("options") or ()})
        return score_classification(predictions_of(records), answers_of(records), offered or None)

    @staticmethod
    def _options(question: Question) -> tuple[str, ...]:
        return tuple(label_key(option) for option in question.options)


def score_classification(
    predictions: Sequence[str], answers: Sequence[str], labels: Sequence[str] | None = None
) -> Accuracy:
    """Score scene classes: the answer is exactly one label, compared by `label_key`, or it is wrong.

    Args:
        predictions: answers of the model.
        answers: true labels.
        labels: all labels that were offered; None takes those of the answers.

    Returns:
        With `balanced_accuracy`, the mean over classes of their accuracy, and the accuracy of each class.
    """
    known = list(dict.fromkeys(labels if labels is not None else sorted(answers)))
    guesses = [parse_label(text, known) for text in predictions]
    truth = [label_key(answer) for answer in answers]
    correct = np.array([g is not None and label_key(g) == t for g, t in zip(guesses, truth, strict=True)], bool)
    by_class = accuracy_by_type(answers, correct)
    return Accuracy(correct, guesses, {"balanced_accuracy": mean(by_class.values())}, by_class)
