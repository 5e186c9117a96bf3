"""Strict parsers: each returns what an answer states, or None.

No parser reads the ground truth. An ambiguous answer is parsed as None.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

LETTERS = "ABCDEFGHIJ"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
          "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_NUMBER_WORDS = {word: n for n, word in enumerate(_WORDS)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_NUMBER_WORD = re.compile(rf"\b(?:({'|'.join(_TENS)})[ -]({'|'.join(_WORDS[1:10])})|({'|'.join(_NUMBER_WORDS)}))\b")
_LARGER_WORD = re.compile(r"\b(?:dozen|hundred|thousand|million|billion)s?\b")
_NUMBER = re.compile(r"(?<![\w.,-])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w-]|[.,]\d)")
_LEAD = re.compile(
    r"^(?:the\s+)?(?:correct\s+|best\s+|right\s+|final\s+)?(?:answers?|options?|choices?)(?:\s+(?:is|are))?\s*:?\s+",
    re.IGNORECASE,
)
_ADJACENT = re.compile(r"[A-Za-z]{2,}")
_WRAP = "\"'`*_ \t\n"
_ANSWER = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+|best\s+|right\s+|final\s+)?(?:answer|option|choice)(?:\s+is|\s*:)?\s*[:\-]?\s*)?"
    r"[(\[]?\s*(?P<letter>[A-J])\s*(?P<end>[)\].:,]+|$|\s)\s*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)


@lru_cache(maxsize=1 << 16)
def normalize(text: str) -> str:
    """Return text as it is compared: NFKC, case folded, single spaces, no surrounding quotes, no final full stop."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(_WRAP).rstrip(".").strip(_WRAP)


@lru_cache(maxsize=1 << 16)
def label_key(text: str) -> str:
    """Return a label as it is compared: as `normalize`, words separated by spaces, no leading article.

    `StorageTanks`, `storage_tanks` and `storage-tanks` are the same label; `storage tank` is not.
    """
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", text.strip(_WRAP))
    return re.sub(r"^(?:an?|the) ", "", normalize(separated))


def parse_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that equals the whole answer, or None."""
    return _label_table(tuple(labels)).get(label_key(text))


@lru_cache(maxsize=256)
def _label_table(labels: tuple[str, ...]) -> dict[str, str]:
    return {label_key(label): label for label in labels}


def parse_yes_no(text: str) -> str | None:
    """Return `yes` or `no` if the answer begins with one of them and does not contain the other."""
    words = re.findall(r"\w+", normalize(text))
    if not words or words[0] not in ("yes", "no"):
        return None
    return None if ({"yes": "no", "no": "yes"}[words[0]]) in words else words[0]


def parse_number(text: str) -> float | None:
    """Return the only number in an answer, in digits or in words below a hundred; None without one or with several."""
    folded = normalize(text)
    numbers = {float(match.replace(",", "")) for match in _NUMBER.findall(folded)}
    if not re.search(r"\d", folded):
        if _LARGER_WORD.search(folded):
            return None
        numbers |= {float(sum(_NUMBER_WORDS.get(w, 0) for w in words)) for words in _NUMBER_WORD.findall(folded)}
    elif len(re.findall(r"\d[\d.,]*", folded)) != len(_NUMBER.findall(folded)):
        return None  # ranges, units attached to digits, dates: digits that are no plain number
    return numbers.pop() if len(numbers) == 1 else None


def parse_choice(text: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that is chosen.

    An answer chooses by a letter (`B`, `(b)`, `B.`, `**B**`, `Answer: B`, `The answer is B.`), by a letter with that
    option's own text (`B. river`), or by the text alone (`river`). All other answers choose no option: two letters, a
    letter with another option's text or other words after it, any other sentence.

    Args:
        text: answer of the model.
        options: texts without letters, in the order shown.
    """
    keys = [label_key(option) for option in options]
    whole = label_key(text)
    if keys.count(whole) == 1:
        return keys.index(whole)
    match = _ANSWER.fullmatch(unicodedata.normalize("NFKC", text).strip(_WRAP))
    if not match:
        return None
    chosen = LETTERS.index(match["letter"].upper())
    if chosen >= len(options):
        return None
    rest = label_key(match["rest"])
    return chosen if not rest or rest == keys[chosen] else None


def letters_in(text: str, num_options: int) -> list[int] | None:
    """Return the indices of all letters in an answer to a question with several correct options.

    `A, C`, `(A) and (C)` and `AC` are read. Adjacent letters must be capitals: `bad` and `cab` are words.
    """
    separated = re.sub(r"\band\b|[,;&()\[\].*+/]", " ", unicodedata.normalize("NFKC", text))
    if any(not run.isupper() for run in _ADJACENT.findall(separated)):
        return None
    bare = "".join(separated.split())
    letters = [LETTERS.find(letter) for letter in bare.upper()]
    if not letters or min(letters) < 0 or max(letters) >= num_options or len(set(letters)) < len(letters):
        return None
    return sorted(letters)


def parse_choices(text: str, options: Sequence[str]) -> tuple[int, ...] | None:
    """Return the indices of all chosen options where several may be correct: letters, or one as in `parse_choice`.

    Args:
        text: answer of the model.
        options: texts without letters, in the order shown.
    """
    letters = letters_in(_LEAD.sub("", text.strip(_WRAP), count=1), len(options))
    if letters is not None:
        return tuple(letters)
    choice = parse_choice(text, options)
    return None if choice is None else (choice,)


_IMAGE = r"(?:the|this) (?:image|picture|photo|photograph|scene|view)"
_DENIALS = re.compile(
    "|".join((
        r"(?:no|none|unknown|unanswerable|nonexistent|non-existent|not applicable|n/a|not (?:visible|present|there))",
        r"no such [\w -]+",
        rf"no [\w -]+? (?:visible|present|shown|found|exists?|can be seen|in {_IMAGE})\b.*",
        r"there (?:is|are) (?:no|not any|none)\b.*", r"there (?:isn't|aren't)\b.*", r"there's (?:no|not any|none)\b.*",
        rf"{_IMAGE} (?:(?:does not|doesn't) (?:contain|show|have|include)|(?:contains|shows|has) no)\b.*",
        rf"[\w ,-]+ (?:is|are)(?: not|n't) (?:visible|present|shown|found|there|in {_IMAGE})\b.*",
        r"[\w ,-]+ (?:does|do)(?: not|n't) (?:exist|appear)\b.*",
        r"(?:[\w ,-]+ )?(?:cannot|can not|can't) be (?:seen|found|determined|identified|told|answered)\b.*",
        r"(?:i|we|you|one) (?:cannot|can not|can't|do not|don't|am unable to|are unable to) "
        r"(?:see|find|tell|know|determine|identify|detect|locate|answer)\b.*",
    )),
    re.DOTALL,
)  # fmt: skip
_ASSERTS = re.compile(
    r"\b(?:yes|but|however|although|probably|likely|perhaps|maybe|seems?|white|black|gr[ae]y|red|green|blue|yellow|orange"
    r"|brown|purple|pink|silver|beige|cyan)\b"
)


@lru_cache(maxsize=1 << 16)
def is_denial(text: str) -> bool:
    """Return whether an answer states only that the object is not there or that the question cannot be answered.

    True for `There is no ship.`, `The ship is not in the image` and `I cannot tell`. False for `There is no ship, but a
    white plane`.
    """
    folded = normalize(text).replace("\u2019", "'").replace("black and white", "panchromatic")
    statement = re.sub(r"^(?:no[,.] |(?:i'm |i am )?sorry[,.]? (?:but )?)", "", folded)
    return bool(_DENIALS.fullmatch(statement)) and not _ASSERTS.search(statement)
