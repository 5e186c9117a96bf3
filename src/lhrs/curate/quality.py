"""How good what is said of an image is: borne out by facts, readable, specific; and the one number made of that."""

import re
from collections import Counter
from collections.abc import Sequence
from math import log2

import numpy as np

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*|\d+(?:[.,]\d+)*")
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT_ED = re.compile(r"[^aeioudt]ed$")
_PLAIN = 60.0
"""Flesch reading ease of plain English (Flesch 1948): easier is no better. His scale ends at 0, which captions that
name residential and agricultural areas reach: here that is half the score, and as far again none."""
_FEW_WORDS = 5
"""Below which the formula measures the subject, not the style."""


def readability(text: str) -> float | None:
    """Return 1 for plain English that does not repeat itself, 0 for what nobody can read; None for a few words.

    Flesch reading ease, -60 to 60 stretched to 0-1, times the share of three-word runs that were not there before.
    """
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < _FEW_WORDS:
        return None
    num_sentences = max(1, sum(bool(_WORD.search(part)) for part in _SENTENCE.split(text)))
    num_syllables = sum(map(_num_syllables, words))
    ease = 206.835 - 1.015 * len(words) / num_sentences - 84.6 * num_syllables / len(words)
    runs = list(zip(words, words[1:], words[2:], strict=False))
    new = len(set(runs)) / len(runs) if runs else 1.0
    return round(float(np.clip(0.5 + ease / _PLAIN / 2, 0, 1)) * new, 4)


def _num_syllables(word: str) -> int:
    silent = (word.endswith("e") and not word.endswith(("le", "ee"))) or _SILENT_ED.search(word) is not None
    return max(1, len(_VOWELS.findall(word)) - silent)


def specificity(texts: Sequence[str]) -> np.ndarray:
    """Return how many bits the different words of each text tell: few where all texts say the same; NaN without words.

    The sum over its words of log2(N / n), n the texts of N that have the word, as if words were independent. A long
    text of rare words tells most; whether that is true, `fact_scores` and the alignment judge.
    """
    bags = [sorted({word.lower() for word in _WORD.findall(text)}) for text in texts]
    counts = Counter(word for bag in bags for word in bag)
    total = sum(map(bool, bags))
    values = [sum(log2(total / counts[word]) for word in bag) if bag else np.nan for bag in bags]
    return np.round(np.array(values, float), 4)


def mean_rank_score(measures: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean, over the measures that a sample has, of the share of samples it is better than; ties are half.

    Ranks make measures of any scale count alike. NaN where a sample has none.
    """
    if not measures:
        return np.empty(0)
    ranks = np.stack([_rank(values) for values in measures])
    known = np.isfinite(ranks)
    total = np.where(known, ranks, 0).sum(0)
    with np.errstate(invalid="ignore"):
        return np.round(total / known.sum(0), 6)


def _rank(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    ordered = np.sort(values[known])
    ranks = np.full(len(values), np.nan)
    below, up_to = (np.searchsorted(ordered, values[known], side) for side in ("left", "right"))  # type: ignore[call-overload]
    ranks[known] = (below + up_to) / 2 / max(1, len(ordered))
    return ranks
