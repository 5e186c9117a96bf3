"""Questions that suppose what is not there: the right answer is to say so, and only there."""

import re
from collections.abc import Sequence

import numpy as np

from lhrs.metrics.confidence import abstention
from lhrs.metrics.labels import Score, by_type, judge_vqa
from lhrs.metrics.parse import is_denial, label_key, normalise, parse_choice


def honesty(
    predictions: Sequence[str],
    answers: Sequence[str | int],
    options: Sequence[Sequence[str]],
    answerable: Sequence[bool],
    by: Sequence[str] | None = None,
) -> Score:
    """Score answers to questions with true and with false premises.

    A false premise is seen through by `lhrs.metrics.parse.is_denial`, or by the option that the benchmark calls right.
    Elsewhere an answer is right as in `choose` and `vqa`, several words parted by commas in any order.

    Args:
        predictions: of the model.
        answers: text, or index of the right option; of no meaning for open questions with a false premise.
        options: texts without letters, as shown; empty for open questions.
        answerable: False where the premise is false.
        by: types of the questions, parted by `|`.

    Returns:
        With `denies_false` and `denies_true`, the shares of questions with a false and a true premise that are denied,
        and `accuracy_when_answering` (`lhrs.metrics.confidence.abstention`), where there are such questions.
    """
    rows = zip(predictions, answers, options, answerable, strict=True)
    judged = np.array([_judge(*row) for row in rows], bool).reshape(-1, 3)
    right, parsed, denied = judged.T
    told = abstention(denied, np.asarray(answerable, bool), right)
    names = {"denies_false": "abstains", "denies_true": "refuses", "accuracy_when_answering": "accuracy_when_answering"}
    more = {name: told[key] for name, key in names.items() if not np.isnan(told[key])}
    return Score(right, parsed, more, by_type(by, right) if by else {})


def _judge(text: str, answer: str | int, offered: Sequence[str], answerable: bool) -> tuple[bool, bool, bool]:
    """Return whether an answer is right, whether it was parsed, and whether it denies the premise."""
    if offered:
        chosen = parse_choice(text, offered)
        denied = is_denial(text if chosen is None else offered[chosen])
        if not answerable:
            seen = denied or chosen == answer
            return seen, seen or chosen is not None, seen
        return chosen == answer and not denied, denied or chosen is not None, denied
    denied = is_denial(text)
    if not answerable:
        return denied, bool(normalise(text)), denied
    if normalise(str(answer)) in ("yes", "no"):  # where `no` answers, it denies nothing
        return *judge_vqa(text, str(answer)), False
    said = _words(text)
    return said == _words(str(answer)) and not denied, bool(said), denied


def _words(text: str) -> set[str]:
    return {label_key(part) for part in re.split(r",|\band\b", normalise(text)) if label_key(part)}
