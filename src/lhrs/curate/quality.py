"""Quality scores of the texts of an image: readability, specificity, and a mean rank over all scores."""

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
"""Flesch reading ease of plain English (Flesch 1948). Easier texts do not score higher. Captions that name residential
and agricultural areas reach 0, the end of Flesch's scale: they score 0.5, and a reading ease of -60 scores 0."""
_FEW_WORDS = 5
"""Minimum number of words. For shorter texts the formula measures the subject, not the style."""


def readability(text: str) -> float | None:
    """Return 1 for plain English without repetition, 0 for unreadable text; None for very short texts.

    The score is the Flesch reading ease, mapped from -60..60 to 0..1, times the fraction of distinct trigrams.
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
    """Return the information of the distinct words of each text in bits; NaN without words.

    The score is the sum of log2(N / n) over the words, where n of N texts contain the word. It assumes independent
    words. Long texts of rare words score highest. It does not measure whether a text is correct: use
    `lhrs.align.claim_check.claim_coverage_precision` and the alignment score.
    """
    bags = [sorted({word.lower() for word in _WORD.findall(text)}) for text in texts]
    counts = Counter(word for bag in bags for word in bag)
    total = sum(map(bool, bags))
    values = [sum(log2(total / counts[word]) for word in bag) if bag else np.nan for bag in bags]
    return np.round(np.array(values, float), 4)


def mean_rank_score(measures: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean rank of each sample over its scores: the fraction of samples with a lower score; ties count half.

    Ranks give scores of any scale the same weight. A sample without scores is NaN.
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
