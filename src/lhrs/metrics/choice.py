"""Multiple choice: the answer is the letter or the text of an option."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, TypeVar

import numpy as np

from lhrs.metrics.accuracy import Accuracy, AccuracyMetric, accuracy_by_type, mean, predictions_of, types_of
from lhrs.metrics.answer_parsing import LETTERS, label_key, parse_choice, parse_choices
from lhrs.metrics.metric import Prompt, Question, Record

Answer = TypeVar("Answer", int, tuple[int, ...])


class Choice(AccuracyMetric):
    """Accuracy of choices, of which one option or several are correct."""

    name = "choice"
    max_new_tokens = 16
    lettered_options = True

    def prompt(self, question: Question) -> Prompt:
        return choice_prompt(question)

    def allowed_answers(self, question: Question) -> tuple[str, ...] | None:
        return allowed_letters(question)

    def ground_truth(self, question: Question) -> str:
        return option_texts(question.options, question.answer)

    def main_score_of(self, protocol: str) -> str:
        return "circular" if protocol == "circular" else self.main_score

    def judge(self, records: Sequence[Record], by_type: bool = True) -> Accuracy:
        options, answers = _options_and_answers(records)
        return score_choices(predictions_of(records), answers, options, types_of(records) if by_type else None)

    def baselines(self, records: Sequence[Record], judged: Accuracy) -> dict[str, Any]:
        options, answers = _options_and_answers(records)
        ways = [len(o) if isinstance(a, int) else 2 ** len(o) - 1 for a, o in zip(answers, options, strict=True)]
        scores: dict[str, Any] = {"chance": float(np.mean(1 / np.array(ways)))}
        if all(record.get("group") is not None for record in records):
            circular = score_circular([record["group"] for record in records], judged.correct)
            scores |= {"circular": circular.accuracy, "questions": len(circular.correct)}
        return scores


def choice_prompt(question: Question) -> Prompt:
    """Return the prompt of a question with options of which one or several are correct."""
    kind = "multiple_choice" if isinstance(question.answer, tuple) else "choice"
    return Prompt(kind, question.question, question.options)  # type: ignore[arg-type]


def allowed_letters(question: Question) -> tuple[str, ...] | None:
    """Return the letters of the options, or all sets of letters where several options may be correct."""
    letters = LETTERS[: len(question.options)]
    most = len(letters) if isinstance(question.answer, tuple) else 1
    sets = (some for size in range(1, most + 1) for some in combinations(letters, size))
    return tuple(", ".join(some) for some in sets) or None


def option_texts(options: Sequence[str], indices: int | Sequence[int]) -> str:
    """Return the texts of the options with these indices."""
    return "; ".join(options[int(n)] for n in ((indices,) if isinstance(indices, int) else indices))


def score_choices(
    predictions: Sequence[str],
    answers: Sequence[int | tuple[int, ...]],
    options: Sequence[Sequence[str]],
    types: Sequence[str] | None = None,
) -> Accuracy:
    """Score choices.

    Args:
        predictions: answers of the model.
        answers: index of the correct option, or indices where several may be correct: then all of them and no other.
        options: texts without letters, as shown.
        types: question types; a question may be of several types, separated by `|`.

    Returns:
        With the accuracy of each type and their mean `mean_of_types`.
    """
    rows = zip(predictions, options, answers, strict=True)
    guesses = [_parse(text, offered, answer) for text, offered, answer in rows]
    correct = np.array([guess == answer for guess, answer in zip(guesses, answers, strict=True)], bool)
    stated = [None if g is None else option_texts(o, g) for g, o in zip(guesses, options, strict=True)]
    by_type = accuracy_by_type(types, correct) if types else {}
    return Accuracy(correct, stated, {"mean_of_types": mean(by_type.values())} if by_type else {}, by_type)


def score_circular(groups: Sequence[object], correct: np.ndarray) -> Accuracy:
    """Score questions that were asked once for each rotation of their options: all rotations must be correct.

    Args:
        groups: for each answer, the question that was asked.
        correct: bool `(N,)`, from `score_choices`.

    Returns:
        One entry per question, in order of first appearance; with `mean_of_rotations`, the plain accuracy.
    """
    merged: dict[object, bool] = {}
    for group, is_correct in zip(groups, correct.tolist(), strict=True):
        merged[group] = merged.get(group, True) and is_correct
    every = np.array(list(merged.values()), bool)
    extra = {"mean_of_rotations": float(correct.mean()) if len(correct) else 0.0}
    return Accuracy(every, list(merged), extra)


def rotations(options: Sequence[str], answer: Answer) -> list[tuple[list[str], Answer]]:
    """Return the options rotated by 0, 1, ... places, each with the new index or indices of the correct ones."""
    shown, size = list(options), len(options)
    return [(shown[shift:] + shown[:shift], _rotated(answer, shift, size)) for shift in range(size)]


def option_indices(answer: Any, options: Sequence[str]) -> int | tuple[int, ...]:
    """Return the index of an option given as index, letter or text; of a list of such, the indices in order."""
    if isinstance(answer, list | tuple):
        return tuple(sorted({option_index(entry, options) for entry in answer}))
    return option_index(answer, options)


def option_index(answer: Any, options: Sequence[str]) -> int:
    """Return the index of an option given as index, letter or text.

    Raises:
        ValueError: it is none of the options.
    """
    if isinstance(answer, int) and -1 < answer < len(options):
        return answer
    keys = [label_key(option) for option in options]
    if label_key(str(answer)) in keys:
        return keys.index(label_key(str(answer)))
    letter = str(answer).strip().rstrip(".").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    raise ValueError(f"answer {answer!r} is no index, letter or text of its options")


def _parse(text: str, options: Sequence[str], answer: int | tuple[int, ...]) -> int | tuple[int, ...] | None:
    return parse_choice(text, options) if isinstance(answer, int) else parse_choices(text, options)


def _options_and_answers(records: Sequence[Record]) -> tuple[list[list[str]], list[int | tuple[int, ...]]]:
    options = [_option_list(record["options"]) for record in records]
    return options, [option_indices(record["answer"], o) for record, o in zip(records, options, strict=True)]


def _option_list(options: Any) -> list[str]:
    values = list(options.values()) if isinstance(options, Mapping) else options
    if not isinstance(values, list | tuple):
        raise TypeError(f"`options` is a list of texts, not {options!r}")
    return [str(option) for option in values]


def _rotated(answer: Answer, shift: int, size: int) -> Answer:
    return (answer - shift) % size if isinstance(answer, int) else tuple(sorted((a - shift) % size for a in answer))
