"""Randomness and wording that every question draws from."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lhrs.instruct.banks import Banks


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


def dress(question: str, draw: Draw) -> str:
    """Vary punctuation and politeness, as people do."""
    if draw.chance(0.12):
        question = question.rstrip("?. ")
    if draw.chance(0.06):
        question = draw.pick(list(_OPENERS)) + question
    if draw.chance(0.06):
        question = question + draw.pick(list(_CLOSERS))
    return question
