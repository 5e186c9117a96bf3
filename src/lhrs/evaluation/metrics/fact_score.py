"""Fact score: the claims of a caption, verified against facts of a map or against labeled boxes.

Recall is the fraction of visible kinds of objects that a caption mentions. Precision is the fraction of its claims that
the facts support. Maps are incomplete: claims about objects that are not mapped count as unsupported, for every model.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lhrs.align.claim_check import claim_coverage_precision, verify_claims
from lhrs.align.facts import Fact
from lhrs.errors import DataError
from lhrs.metrics.accuracy import predictions_of
from lhrs.metrics.metric import Metric, Prompt, Question, Record
from lhrs.metrics.statistics import bootstrap

_DEFAULTS = {
    "group": "thing", "parent": None, "visible": True, "area_fraction": 0.0, "area_m2": 0.0, "length_m": 0.0,
    "largest_area_fraction": 0.0, "position": None, "quadrants": (), "orientation": None,
}  # fmt: skip


def facts_of_record(record: Mapping[str, Any]) -> list[Fact]:
    """Return a record's facts: `facts` as `lhrs align build` writes them, or `boxes` with labels.

    Raises:
        DataError: it has neither, or they are not such.
    """
    try:
        if record.get("facts") is not None:
            return [_fact(row) for row in record["facts"]]
        if record.get("boxes") is not None:
            labels = Counter(str(box["label"]).strip().lower() for box in record["boxes"])
            return [_fact({"kind": kind, "count": labels[kind]}) for kind in sorted(labels)]
    except (KeyError, TypeError) as error:
        raise DataError(f"facts or boxes of a record are not in their format ({error!r}).") from None
    raise DataError("the metric 'facts' needs `facts` (of lhrs align) or `boxes` (with `label`) in every record.")


class FactScore(Metric):
    """Recall and precision of the facts in captions, and their F1."""

    name = "facts"
    main_score = "fact_f1"
    max_new_tokens = 128
    required_fields = ()

    def prompt(self, question: Question) -> Prompt:
        return Prompt("caption", question.question)

    def compute(self, records: Sequence[Record], box_format: str) -> dict[str, Any]:
        return score_facts(records)

    def compute_per_sample(self, records: Sequence[Record]) -> np.ndarray:
        return _f1(*_recall_and_precision(records)[:2])


def score_facts(records: Sequence[Record]) -> dict[str, Any]:
    """Return how correct and how complete captions are.

    Args:
        records: with `prediction`, and `facts` or `boxes`.

    Raises:
        DataError: see `facts_of_record`.
    """
    recall, precision, num_claims, num_contradicted = _recall_and_precision(records)
    f1, stated = _f1(recall, precision), precision[~np.isnan(precision)]
    return {
        "fact_f1": float(f1.mean()), "interval": list(bootstrap(f1)), "fact_recall": float(recall.mean()),
        "fact_precision": float(stated.mean()) if len(stated) else 0.0, "claims": num_claims,
        "contradicted": num_contradicted, "n": len(precision), "parse_failure_rate": float(np.isnan(precision).mean()),
    }  # fmt: skip


def _recall_and_precision(records: Sequence[Record]) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return recall and precision `(N,)`, and the numbers of claims and of contradicted claims.

    The precision of a caption without claims is NaN.
    """
    recall, precision, num_claims, num_contradicted = [], [], 0, 0
    for text, record in zip(predictions_of(records), records, strict=True):
        facts = facts_of_record(record)
        covered, supported = claim_coverage_precision(text, facts)
        claims = verify_claims(text, facts)
        num_claims += len(claims)
        num_contradicted += sum(claim.verdict == "contradicted" for claim in claims)
        recall.append(covered)
        precision.append(supported if claims else np.nan)
    return np.array(recall), np.array(precision), num_claims, num_contradicted


def _f1(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return F1 of each record; 0 without claims."""
    values = np.nan_to_num(precision)
    total = recall + values
    return np.divide(2 * recall * values, total, out=np.zeros(len(total)), where=total > 0)


def _fact(row: Mapping[str, Any]) -> Fact:
    values = {**_DEFAULTS, "count": 1, "num_visible": row.get("count", 1), **row}
    return Fact(**{**values, "relations": [], "quadrants": list(values["quadrants"] or ())})
