"""Parse options that are written in the text of a question or in a field of their own."""

import re

from lhrs.metrics.answer_parsing import LETTERS

_LINES = re.compile(r"\n\s*\(?([A-J])[.):]\s*")
_INLINE = re.compile(r"(?:^|[;\n]\s*|\s)([A-J])[.)]\s*")
_LETTER = re.compile(r"\s*\(?([A-J])[.):]+\s*")


def split_question(text: str) -> tuple[str, tuple[str, ...]]:
    """Return a question and its options, one per line: `Which?\\nA.one\\nB.two`; further lines are ignored.

    Raises:
        ValueError: there are no options.
    """
    marks = _in_order(_LINES, text)
    if len(marks) < 2:
        raise ValueError(f"no options in {text[:60]!r}")
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    texts = [text[m.end() : end].strip().splitlines()[0].strip() for m, end in zip(marks, ends, strict=True)]
    return text[: marks[0].start()].strip(), tuple(texts)


def split_options(text: str) -> list[str]:
    """Return the texts of `A. one; B. two; C. three.`; letters must come in order.

    Raises:
        ValueError: there are no options.
    """
    marks = _in_order(_INLINE, text)
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    texts = [text[m.end() : end].strip().rstrip(";.").strip() for m, end in zip(marks, ends, strict=True)]
    if len(texts) < 2:
        raise ValueError(f"no options in {text[:60]!r}")
    return texts


def without_letter(option: str) -> str:
    """Return the text of `(A) one` or `A. one`."""
    return _LETTER.sub("", option, count=1).strip() if _LETTER.match(option) else option.strip()


def letter_index(text: str, num_options: int) -> int:
    """Return the index of a correct option written as `B`, `b.`, `(B)` or `B. its text`.

    Raises:
        ValueError: it is none of the options.
    """
    match = re.match(r"\s*\(?([A-Ja-j])(?![A-Za-z])", text)
    index = LETTERS.index(match[1].upper()) if match else num_options
    if index >= num_options:
        raise ValueError(f"answer {text[:20]!r} of {num_options} options")
    return index


def _in_order(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    marks: list[re.Match[str]] = []
    for match in pattern.finditer(text):
        if match[1] == LETTERS[len(marks) : len(marks) + 1]:
            marks.append(match)
    return marks
