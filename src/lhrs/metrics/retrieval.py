"""Image-text retrieval: recall at 1, 5 and 10 in both directions, and their mean.

A query is a hit at K if one of its relevant candidates is among the first K, as in AMFMN (Yuan et al., 2022,
arXiv:2204.09868, `acc_i2t` and `acc_t2i` of utils.py) and RemoteCLIP (Liu et al., 2024, arXiv:2306.11029).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lhrs.metrics.metric import Metric, Record

IMAGE_TO_TEXT, TEXT_TO_IMAGE = "image to text", "text to image"
"""Types of queries."""
RECALLS = (1, 5, 10)
_NEVER = np.inf


class Retrieval(Metric):
    """Recalls of rankings. `prediction` is a list of candidate ids, best first; the first ten are enough."""

    name = "retrieval"
    main_score = "mean_recall"
    asks_models = False
    required_fields = ("answer", "type")

    def compute(self, records: Sequence[Record], box_format: str) -> dict[str, Any]:
        ranks = np.array([_rank(record) for record in records])
        types = [str(record["type"]) for record in records]
        by_type = {name: ranks[[kind == name for kind in types]] for name in sorted(set(types))}
        scores = summarize_ranks(by_type)
        missing = [not _ranking(record) for record in records]
        return {**scores, "n": len(records), "parse_failure_rate": float(np.mean(missing))}

    def compute_per_sample(self, records: Sequence[Record]) -> np.ndarray:
        return np.array([np.mean([_rank(record) <= k for k in RECALLS]) for record in records])


def score_similarity(similarity: np.ndarray, image_of_text: Sequence[int]) -> dict[str, float]:
    """Return the recalls of similarities, the same as of rankings by them; ties count against the model.

    Args:
        similarity: float `(T, I)` of each text and each image; larger is more similar.
        image_of_text: index of the image of each text, `(T,)`.

    Raises:
        ValueError: the shapes disagree, an image has no text, or a similarity is not finite.
    """
    similarity, owner = np.asarray(similarity, np.float64), np.asarray(image_of_text, np.int64)
    num_texts, num_images = similarity.shape
    if owner.shape != (num_texts,) or set(owner.tolist()) != set(range(num_images)):
        raise ValueError(f"{num_texts} texts need one of {num_images} images each, and every image a text")
    if not np.isfinite(similarity).all():
        raise ValueError("similarities must be finite")
    is_pair = owner[:, None] == np.arange(num_images)
    return summarize_ranks({
        IMAGE_TO_TEXT: _ranks(similarity.T, is_pair.T), TEXT_TO_IMAGE: _ranks(similarity, is_pair),
    })  # fmt: skip


def summarize_ranks(ranks: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return recalls and their mean of the rank of the first relevant candidate, from 1, by type of query."""
    recalls = {f"{name} R@{k}": float((values <= k).mean()) for name, values in ranks.items() for k in RECALLS}
    return {"mean_recall": float(np.mean(list(recalls.values()))), **recalls}


def _ranks(similarity: np.ndarray, is_relevant: np.ndarray) -> np.ndarray:
    """Return the rank of the best relevant candidate of each row of `(Q, C)`, behind all others as similar."""
    best = np.where(is_relevant, similarity, -np.inf).max(1, keepdims=True)
    return 1 + (~is_relevant & (similarity >= best)).sum(1)


def _rank(record: Record) -> float:
    relevant = {str(name) for name in record["answer"]}
    return next((n for n, name in enumerate(_ranking(record), 1) if name in relevant), _NEVER)


def _ranking(record: Record) -> list[str]:
    ranking = record["prediction"]
    if ranking is None:
        return []
    if not isinstance(ranking, list | tuple):
        raise TypeError(f"`prediction` is a list of ids, best first, not {ranking!r}")
    return list(dict.fromkeys(str(name) for name in ranking))
