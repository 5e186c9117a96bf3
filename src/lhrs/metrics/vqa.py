"""Visual question answering with short answers: yes or no, a number, or the exact words."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from lhrs.metrics.accuracy import (
    Accuracy,
    AccuracyMetric,
    accuracy_by_type,
    answers_of,
    mean,
    predictions_of,
    types_of,
)
from lhrs.metrics.answer_parsing import label_key, normalize, parse_number, parse_yes_no
from lhrs.metrics.count import score_counts, to_number
from lhrs.metrics.metric import Prompt, Question, Record


class VQA(AccuracyMetric):
    """Accuracy of short answers."""

    name = "vqa"

    def prompt(self, question: Question) -> Prompt:
        return Prompt("short_answer", question.question)

    def judge(self, records: Sequence[Record], by_type: bool = True) -> Accuracy:
        types = types_of(records) if by_type else None
        return score_vqa(predictions_of(records), answers_of(records), types)


@lru_cache(maxsize=1 << 18)
def judge_vqa(prediction: str, answer: str) -> tuple[bool, str | float | None]:
    """Return whether an answer is correct, and what it states; None if it cannot be parsed.

    The true answer decides only which kind of answer is parsed: yes or no, a number, or words.
    """
    parse, truth = _expected(answer)
    stated = parse(prediction)
    return stated is not None and stated == truth, stated


@lru_cache(maxsize=1 << 16)
def _expected(answer: str) -> tuple[Callable[[str], str | float | None], str | float | None]:
    """Return the parser for the kind of a true answer, and the true answer as that parser returns it."""
    normalized = normalize(answer)
    if normalized in ("yes", "no"):
        return parse_yes_no, normalized
    number = parse_number(answer)
    if number is not None and _is_bare_number(normalized):
        return parse_number, number
    return _parse_words, _parse_words(answer)


def _parse_words(text: str) -> str | None:
    return label_key(text) or None


def score_vqa(predictions: Sequence[str], answers: Sequence[str], types: Sequence[str] | None = None) -> Accuracy:
    """Score short answers strictly: yes or no, a number, or the exact words.

    Args:
        predictions: answers of the model.
        answers: true answers.
        types: question types.

    Returns:
        With the accuracy of each type and their mean `mean_of_types`. For numbers also `count_mae` (an answer without a
        number counts as 0) and `count_bucket_accuracy` (RSVQA's ranges).
    """
    judged = [judge_vqa(p, a) for p, a in zip(predictions, answers, strict=True)]
    correct = np.array([is_correct for is_correct, _ in judged], bool)
    by_type = accuracy_by_type(types, correct) if types is not None else {}
    extra = {"mean_of_types": mean(by_type.values())} if by_type else {}
    numeric = [n for n, answer in enumerate(answers) if to_number(answer) is not None]
    if numeric:
        counts = score_counts([predictions[n] for n in numeric], [answers[n] for n in numeric])
        extra |= {"count_mae": counts.extra["mae"], "count_bucket_accuracy": counts.extra["bucket_accuracy"]}
    return Accuracy(correct, [stated for _, stated in judged], extra, by_type)


def _is_bare_number(text: str) -> bool:
    return text.replace(",", "").replace(".", "", 1).lstrip("-").isdecimal() or (
        " " not in text and not any(c.isdigit() for c in text)
    )
