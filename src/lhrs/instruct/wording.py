"""Variation of a question's wording: typing errors, case, punctuation, phrases around it.

A question is a list of `Part`s, so that its arguments are still known after every change.
"""

import re
from dataclasses import dataclass, replace
from random import Random

from lhrs.instruct.question_bank import Split, phrases, pseudoword

_FUNCTION_WORDS = "is are the a an any there do you of in can me"
_DECISIVE_WORDS = (
    "how many much what where which why more less fewer or and not no than if compare describe caption list count "
    "name same sure about also too then but now most only between changed change else other help"
)
_DROPPED = frozenset(_FUNCTION_WORDS.split())
_KEPT = frozenset(_DECISIVE_WORDS.split())
"""Words that decide what is asked: never replaced or dropped."""
_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_IMAGE_WORDS = re.compile(r"\b(image|picture|photo|scene|tile|here|there|view|map|area|place|anywhere)s?\b", re.I)


@dataclass(frozen=True)
class Part:
    """A piece of a question."""

    text: str
    argument: str | None = None
    """Name of the argument that it is; None for the words around arguments."""


def join(parts: list[Part]) -> str:
    """Return the question."""
    return "".join(part.text for part in parts)


def add_place(parts: list[Part], rng: Random, split: Split) -> list[Part]:
    """Add "in this image" or the like to a question that does not have it."""
    if _IMAGE_WORDS.search(join(parts)) or rng.random() > 0.15:
        return parts
    return insert_phrase(parts, rng.choice(phrases("places", split)), rng)


def insert_phrase(parts: list[Part], phrase: str, rng: Random) -> list[Part]:
    """Put a phrase before the end mark, or before the question."""
    if rng.random() < 0.2:
        return [Part(f"{phrase}{rng.choice((', ', ' ', ': '))}"), *parts]
    last = parts[-1]
    if last.argument is None and (mark := re.search(r"[?.! ]*$", last.text)) and mark[0]:
        return [*parts[:-1], Part(f"{last.text[: mark.start()]} {phrase}{mark[0]}")]
    return [*parts, Part(f" {phrase}")]


def perturb(parts: list[Part], rng: Random, split: Split) -> list[Part]:
    """Vary a question as people do."""
    if rng.random() < 0.08:
        parts = _replace_word(parts, rng, drop=rng.random() < 0.7)
    if rng.random() < 0.05:
        parts = _insert_adverb(parts, rng, split)
    if rng.random() < 0.15:
        parts = _misspell_words(parts, rng)
    parts = _punctuate(parts, rng)
    if rng.random() < 0.12:
        parts = [Part(rng.choice(phrases("openers", split))), *parts]
    if rng.random() < 0.07:
        end = parts[-1]
        if end.argument is None:
            parts = [*parts[:-1], replace(end, text=end.text.rstrip("?. !"))]
        parts = [*parts, Part(_after_word(rng.choice(phrases("closers", split))))]
    if rng.random() < 0.04:
        parts = [Part(rng.choice(phrases("backgrounds", split)) + rng.choice((" ", " ", "\n"))), *parts]
    return _change_case([part for part in parts if part.text], rng)


def _after_word(closer: str) -> str:
    return closer if closer[0] in ".,!? " else f" {closer}"


def _words(parts: list[Part], arguments: bool, shortest: int) -> list[tuple[int, re.Match[str]]]:
    return [
        (n, word)
        for n, part in enumerate(parts)
        if arguments or part.argument is None
        for word in re.finditer(r"[^\W\d_]+", part.text)
        if len(word[0]) >= shortest
    ]


def _edit(parts: list[Part], n: int, word: re.Match[str], text: str) -> list[Part]:
    part = parts[n]
    changed = part.text[: word.start()] + text + part.text[word.end() :]
    return [*parts[:n], replace(part, text=changed), *parts[n + 1 :]]


def _replace_word(parts: list[Part], rng: Random, drop: bool) -> list[Part]:
    """Drop a function word, or replace a word that does not matter by an unknown one."""
    found = [
        (n, word)
        for n, word in _words(parts, arguments=False, shortest=1)
        if (word[0].lower() in _DROPPED if drop else word[0].lower() not in _KEPT | _DROPPED and len(word[0]) > 3)
    ]
    if not found or len(join(parts).split()) < (3 if drop else 6):
        return parts
    n, word = rng.choice(found)
    parts = _edit(parts, n, word, "" if drop else pseudoword(rng))
    text = re.sub(r" {2,}", " ", parts[n].text)
    return [*parts[:n], replace(parts[n], text=text.lstrip() if n == 0 else text), *parts[n + 1 :]]


def _insert_adverb(parts: list[Part], rng: Random, split: Split) -> list[Part]:
    """Put an adverb between two words before the first argument, not after the first word."""
    first = parts[0]
    gaps = [gap.start() for gap in re.finditer(" (?=[a-z])", first.text)][1:]
    if first.argument is not None or not gaps:
        return parts
    at = rng.choice(gaps)
    text = f"{first.text[:at]} {rng.choice(phrases('adverbs', split))}{first.text[at:]}"
    return [replace(first, text=text), *parts[1:]]


def _misspell_words(parts: list[Part], rng: Random) -> list[Part]:
    for _ in range(1 + (rng.random() < 0.2)):
        if found := _words(parts, arguments=True, shortest=4):
            n, word = rng.choice(found)
            parts = _edit(parts, n, word, misspell(word[0], rng))
    return parts


def misspell(word: str, rng: Random) -> str:
    """Return a word of at least three letters with one typing error, not in its first letter."""
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    row = next((row for row in _KEYS if word[at].lower() in row), "e")
    neighbor = row[max(row.find(word[at].lower()) + rng.choice((-1, 1)), 0) % len(row)]
    return word[:at] + neighbor + word[at + 1 :]


def _punctuate(parts: list[Part], rng: Random) -> list[Part]:
    last = parts[-1]
    if not join(parts).strip("?.! "):
        return parts
    if last.argument is None:
        body = last.text.rstrip("?.! ")
        chance = rng.random()
        if chance < 0.25:
            last = replace(last, text=body)
        elif chance < 0.3 and last.text.endswith("?"):
            last = replace(last, text=body + rng.choice(("??", " ?", ".", "?!", "???", "!")))
        parts = [*parts[:-1], last] if last.text else parts[:-1]
    elif rng.random() < 0.15:
        parts = [*parts, Part(rng.choice(("?", ".", "?", " ?")))]
    if rng.random() < 0.2:
        drop = rng.choice(("'", ",", ":", "'"))
        parts = [part if part.argument else replace(part, text=part.text.replace(drop, "")) for part in parts]
    return parts


def _change_case(parts: list[Part], rng: Random) -> list[Part]:
    chance = rng.random()
    if chance < 0.04:
        return [replace(part, text=part.text.upper()) for part in parts]
    if chance < 0.06:
        return [replace(part, text=part.text.title()) for part in parts]
    if chance < 0.45:
        return [replace(parts[0], text=parts[0].text[:1].upper() + parts[0].text[1:]), *parts[1:]]
    return parts
