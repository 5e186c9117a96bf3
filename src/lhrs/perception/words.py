"""Place a word or phrase of a user in the table of land-use and land-cover words."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Literal

from lhrs.perception.phrases import (
    AND,
    FUNCTION_WORDS,
    NEGATIONS,
    edit_distance,
    keys_of,
    noun_phrases,
    singular,
    split_list,
    split_words,
)
from lhrs.perception.word_table import Concept, WordTable, word_table

_MAX_LENGTH = 100
"""A longer text is no word and no phrase."""
_MAX_READINGS = 50
"""Largest number of corrections of one phrase that are tried."""


@dataclass(frozen=True)
class Match:
    """Where a phrase belongs."""

    name: str
    """Name of the concept."""
    how: Literal["word", "head", "spelling"]
    """`word`: the phrase is in the table. `head`: its noun is. `spelling`: a corrected spelling is."""
    read_as: str
    """The words that were looked up."""

    @property
    def concept(self) -> Concept:
        """The entry of the table."""
        return word_table().concepts[self.name]

    @property
    def is_taught(self) -> bool:
        """Whether the model can see it."""
        return self.concept.is_taught


@dataclass(frozen=True)
class Reading:
    """How a phrase is understood."""

    matches: tuple[Match, ...] = ()
    """Concepts of the phrase: several for a list such as `grass or shrubs`, none if a part of it is unknown."""
    negated: bool = False
    """It stands for everything else: `no water`."""
    meanings: tuple[str, ...] = ()
    """Names of the concepts that an ambiguous phrase can mean."""


def find_concept(text: str) -> Match | None:
    """Return the one concept that a word or phrase means; None if it is unknown, ambiguous, negated, or means several.

    Case, articles, plural, hyphens and CamelCase make no difference. `An area of ...` and `image of ...` are skipped.
    A phrase that is not listed is placed by its head word: `pine forest` is a forest. Typing errors of one letter in
    words of five letters, and of two in words of eight, are corrected, unless the word is another English word.
    """
    reading = read_phrase(text)
    return reading.matches[0] if len(reading.matches) == 1 and not reading.negated else None


@lru_cache(maxsize=4096)
def read_phrase(text: str) -> Reading:
    """Return the concepts of a word, a phrase, a list of phrases, or its negation; see `find_concept`."""
    table = word_table()
    words = split_words(text, table.spellings)
    if not words or len(text) > _MAX_LENGTH:
        return Reading()
    whole = _place(words, table, with_head=False)
    if isinstance(whole, Match):
        return Reading((whole,))
    if words[0] in NEGATIONS and len(words) > 1:
        inner = _read_list(words[1:], table)
        return Reading(inner.matches, bool(inner.matches), inner.meanings)
    return _read_list(words, table)


def _read_list(words: list[str], table: WordTable) -> Reading:
    if NEGATIONS.intersection(words):
        return Reading()
    parts = split_list(words)
    nouns = [part for part in parts if not table.modifiers.issuperset(part)] or parts
    matches: dict[str, Match] = {}
    for part in nouns:
        placed = _place(part, table)
        if not isinstance(placed, Match):
            placed = _correct(part, table) or placed
        if isinstance(placed, tuple):
            return Reading(meanings=placed)
        if placed is None:
            return Reading()
        matches.setdefault(placed.name, placed)
    return Reading(tuple(matches.values()))


def _place(words: list[str], table: WordTable, with_head: bool = True) -> Match | tuple[str, ...] | None:
    """Return the match of words that are spelled right, or the meanings of an ambiguous phrase."""
    phrase = words
    for phrase in noun_phrases(words, table.modifiers):
        if found := _look_up(phrase, table, "word"):
            return found
    if not with_head or AND in phrase:
        return None
    shorter = [phrase]
    while len(shorter[-1]) > 1 and singular(shorter[-1][-1]) in table.tails:
        shorter.append(shorter[-1][:-1])
        if found := _look_up(shorter[-1], table, "head"):
            return found
    for part in shorter:
        for start in range(1, len(part)):
            if found := _look_up(part[start:], table, "head"):
                return _check_modifiers(part[:start], part[start:], found, table)
    return None


def _look_up(phrase: list[str], table: WordTable, how: Literal["word", "head"]) -> Match | tuple[str, ...] | None:
    for key in keys_of(phrase):
        if key in table.index:
            return Match(table.index[key], how, " ".join(phrase))
        if key in table.ambiguous_index:
            return table.ambiguous_index[key]
    return None


def _check_modifiers(
    modifiers: list[str], head: list[str], found: Match | tuple[str, ...], table: WordTable
) -> Match | tuple[str, ...] | None:
    """Return what a head means after other words: a hospital building is a hospital, an oil field no field."""
    meant = [_look_up([word], table, "head") for word in modifiers if word not in table.modifiers]
    untaught = [match for match in meant if isinstance(match, Match) and not match.is_taught]
    if untaught:
        return untaught[0]
    if FUNCTION_WORDS.intersection(modifiers):
        return None
    if len(head) == 1 and singular(head[0]) in table.dependent_heads and None in meant:
        return None
    return found


def _correct(words: list[str], table: WordTable) -> Match | tuple[str, ...] | None:
    """Return what words with typing errors mean, if all their nearest spellings mean the same."""
    options = [_near_words(word, table) for word in words]
    if not any(len(option) > 1 or option[0] != word for option, word in zip(options, words, strict=True)):
        return None
    readings = list(product(*options))
    if len(readings) > _MAX_READINGS:
        return None
    placed = [_place([table.spellings.get(word, word) for word in reading], table) for reading in readings]
    matches = [each for each in placed if isinstance(each, Match)]
    if len(matches) < len(placed) and any(isinstance(each, tuple) for each in placed):
        return None
    if len({each.name for each in matches}) != 1:
        return None
    return Match(matches[0].name, "spelling", matches[0].read_as)


def _near_words(word: str, table: WordTable) -> list[str]:
    """Return the words of the table that are nearest to a word, or the word itself if it has no typing error."""
    alone = singular(word)
    if len(word) < 4 or word in table.known_words or alone in table.known_words:
        return [word]
    best, near = 3, [word]
    for other in table.corrections.get(word[0], ()):
        limit = min(best, 2 if min(len(word), len(other)) >= 8 else 1)
        distance = min(edit_distance(form, other, limit) for form in {word, alone})
        if distance <= limit:
            near = [*near, other] if distance == best else [other]
            best = distance
    return near
