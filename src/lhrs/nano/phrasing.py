"""Randomness and wording that every question draws from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lhrs.nano.templates import Banks


@dataclass
class Draw:
    """One draw's randomness and the phrasings it may use ("train" or "held_out")."""

    rng: np.random.Generator
    banks: Banks
    split: str = "train"

    def pick(self, items: list[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def pick_some(self, items: list[Any], count: int) -> list[Any]:
        """Return distinct items in random order."""
        return [items[int(i)] for i in self.rng.permutation(len(items))[:count]]

    def phrase(self, task: str) -> str:
        return self.pick(self.banks.questions[task][self.split])

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)


QA = tuple[str, str]


_OPENERS = ("please, ", "question: ", "tell me: ", "hi, ", "quick question: ", "looking at this image, ")
_CLOSERS = (" please.", " answer briefly.", " short answer please.", " thanks.")


_OPEN = ("scene", "caption", "dominant")
"""Tasks whose questions mean the same with a word unknown or left out."""
_SPELLED = (*_OPEN, "presence", "is_class", "region", "where", "count", "ground")
"""Tasks whose answers do not repeat words of the question, so that those may be misspelt."""
_SYLLABLES = tuple("ba ce di fo gu in ke lor mi ne ol per ra ser ta un ver ex zo de ter ment ing ly".split())  # noqa: SIM905


def dress(question: str, draw: Draw, task: str = "") -> str:
    """Vary punctuation, politeness and spelling, as people do.

    Words that were never taught stand for each other in open questions, so that a new verb alone is no reason to
    abstain; and in long unanswerable ones, so that it is no reason to answer either.
    """
    words = question.split(" ")
    if task in _OPEN and len(words) > 2 and draw.chance(0.25):
        at = int(draw.rng.integers(len(words)))
        words[at : at + 1] = [_unknown(draw)] if draw.chance(0.6) else []
    if task == "abstain" and len(words) > 4 and draw.chance(0.25):
        words[int(draw.rng.integers(len(words)))] = _unknown(draw)
    long_ones = [n for n, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if task in _SPELLED and long_ones and draw.chance(0.08):
        at = draw.pick(long_ones)
        words[at] = _misspell(words[at], draw)
    question = " ".join(words)
    if draw.chance(0.12):
        question = question.rstrip("?. ")
    if draw.chance(0.06):
        question = draw.pick(list(_OPENERS)) + question
    if draw.chance(0.06):
        question = question + draw.pick(list(_CLOSERS))
    return question


def _unknown(draw: Draw) -> str:
    """Make up a word."""
    return "".join(draw.pick_some(list(_SYLLABLES), int(draw.rng.integers(2, 4))))


def _misspell(word: str, draw: Draw) -> str:
    """Swap two letters, or lose or double one; never the first."""
    at = int(draw.rng.integers(1, len(word) - 1))
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return draw.pick([swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]])
