"""BLEU, ROUGE-L and CIDEr of captions against references, without Java.

The scores equal those of the reference code of COCO captions (Chen et al., 2015, arXiv:1504.00325) on the same tokens.
Its tokenizer is a Java program. Ours follows the same Penn Treebank rules for English captions: lower case, no
punctuation, clitics split off.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.metrics.accuracy import predictions_of
from lhrs.metrics.metric import Metric, Prompt, Question, Record, strip_predictions
from lhrs.metrics.pycocoevalcap_metrics import JAVA_METRICS, java_score

_SMALL, _TINY = 1e-9, 1e-15
_BETA = 1.2
_SIGMA = 6.0
_CLITICS = re.compile(r"(?<=\w)(n't|'s|'re|'ve|'ll|'d|'m)\b")
_TOKEN = re.compile(r"n't|'(?:s|re|ve|ll|d|m)\b|\d+(?:[.,:]\d+)*|\w+(?:[-']\w+)*")


class Captioning(Metric):
    """BLEU, ROUGE-L and CIDEr; METEOR and SPICE on request."""

    name = "caption"
    main_score = "cider"
    max_new_tokens = 128
    extra_scores = JAVA_METRICS

    def prompt(self, question: Question) -> Prompt:
        return Prompt("caption", question.question)

    def compute(self, records: Sequence[Record], box_format: str) -> dict[str, Any]:
        return score_captions(predictions_of(records), _references(records))

    def compute_per_sample(self, records: Sequence[Record]) -> np.ndarray:
        tokenized = [[tokenize(text) for text in group] for group in _references(records)]
        return cider([tokenize(text) for text in predictions_of(records)], tokenized)

    def extra_score(self, name: str, records: Sequence[Record]) -> float:
        candidates, references = predictions_of(strip_predictions(records)[0]), _references(records)
        tokenized = [[" ".join(tokenize(text)) for text in group] for group in references]
        return java_score([" ".join(tokenize(text)) for text in candidates], tokenized, name)


def tokenize(text: str) -> list[str]:
    """Return the words of a caption, in lower case and without punctuation."""
    return _TOKEN.findall(_CLITICS.sub(r" \1", text.lower()))


def bleu(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> list[float]:
    """Return BLEU-1 to BLEU-4 of a corpus (Papineni et al., 2002), with the closest reference length.

    Args:
        candidates: tokens of each caption.
        references: tokens of each caption's references.
    """
    guessed, matched, length, wanted = np.zeros(4), np.zeros(4), 0, 0
    for candidate, group in zip(candidates, references, strict=True):
        length += len(candidate)
        wanted += min((abs(len(r) - len(candidate)), len(r)) for r in group)[1]
        for n in range(4):
            mine = Counter(_grams(candidate, n + 1))
            most: Counter[tuple[str, ...]] = Counter()
            for reference in group:
                most |= Counter(_grams(reference, n + 1))
            guessed[n] += max(0, len(candidate) - n)
            matched[n] += sum(min(count, most[gram]) for gram, count in mine.items())
    product, scores = 1.0, []
    ratio = (length + _TINY) / (wanted + _SMALL)
    for n in range(4):
        product *= (matched[n] + _TINY) / (guessed[n] + _SMALL)
        scores.append(product ** (1 / (n + 1)) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0))
    return scores


def rouge_l(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> np.ndarray:
    """Return `(N,)`: F of the longest common subsequence, best precision and recall over references (Lin, 2004)."""
    scores = []
    for candidate, group in zip(candidates, references, strict=True):
        common = [_longest_common(candidate, reference) for reference in group]
        precision = max(c / len(candidate) if candidate else 0.0 for c in common)
        recall = max(c / len(r) if r else 0.0 for c, r in zip(common, group, strict=True))
        both = recall + _BETA**2 * precision
        scores.append((1 + _BETA**2) * precision * recall / both if precision and recall else 0.0)
    return np.array(scores)


def cider(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]], clipped: bool = True
) -> np.ndarray:
    """Return `(N,)` CIDEr of each caption (Vedantam et al., 2015, arXiv:1411.5726); these references give the weights.

    Args:
        candidates: tokens of each caption.
        references: tokens of each caption's references.
        clipped: CIDEr-D, which the reference code of COCO captions calls CIDEr: counts are clipped and differences in
            length are penalized. False is CIDEr as first defined.
    """
    counts_of = [[_counts(reference) for reference in group] for group in references]
    documents: Counter[tuple[str, ...]] = Counter()
    for group in counts_of:
        documents.update({gram for counts in group for gram in counts})
    log_total = math.log(float(len(counts_of))) if counts_of else 0.0
    scores = []
    for candidate, group, texts in zip(candidates, counts_of, references, strict=True):
        mine, norm = _vector(_counts(candidate), documents, log_total)
        total = np.zeros(4)
        for counts, text in zip(group, texts, strict=True):
            theirs, their_norm = _vector(counts, documents, log_total)
            value = np.zeros(4)
            for n in range(4):
                for gram, weight in mine[n].items():
                    other = theirs[n].get(gram, 0.0)
                    value[n] += (min(weight, other) if clipped else weight) * other
                if norm[n] and their_norm[n]:
                    value[n] /= norm[n] * their_norm[n]
            gap = _bigrams(candidate) - _bigrams(text)
            total += value * (math.exp(-(gap**2) / (2 * _SIGMA**2)) if clipped else 1.0)
        scores.append(10 * float(total.mean()) / len(group))
    return np.array(scores)


def score_captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float | int]:
    """Return BLEU-1 to 4, ROUGE-L and CIDEr of texts; empty captions count as 0 and are reported.

    Args:
        candidates: one caption per image.
        references: one or more captions per image.
    """
    words = [tokenize(text) for text in candidates]
    tokenized = [[tokenize(text) for text in group] for group in references]
    scores = bleu(words, tokenized)
    return {
        "cider": float(cider(words, tokenized).mean()), **{f"bleu{n + 1}": scores[n] for n in range(4)},
        "rouge_l": float(rouge_l(words, tokenized).mean()), "n": len(words),
        "parse_failure_rate": float(np.mean([not caption for caption in words])),
    }  # fmt: skip


def _references(records: Sequence[Record]) -> list[list[str]]:
    answers = [record["answer"] for record in records]
    return [[answer] if isinstance(answer, str) else [str(text) for text in answer] for answer in answers]


def _grams(words: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(words[n : n + size]) for n in range(len(words) - size + 1)]


def _counts(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    return Counter(gram for size in range(1, 5) for gram in _grams(words, size))


def _bigrams(words: Sequence[str]) -> int:
    return max(0, len(words) - 1)


def _vector(
    counts: Counter[tuple[str, ...]], documents: Counter[tuple[str, ...]], log_total: float
) -> tuple[list[dict[tuple[str, ...], float]], np.ndarray]:
    vectors: list[dict[tuple[str, ...], float]] = [{}, {}, {}, {}]
    squares = np.zeros(4)
    for gram, count in counts.items():
        weight = count * (log_total - math.log(max(1.0, documents[gram])))
        vectors[len(gram) - 1][gram] = weight
        squares[len(gram) - 1] += weight**2
    return vectors, np.sqrt(squares)


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for n, other in enumerate(b, 1):
            before, row[n] = row[n], before + 1 if word == other else max(row[n], row[n - 1])
    return row[-1]
