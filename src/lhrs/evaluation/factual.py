"""How true captions are: their claims held against facts of a map or of boxes.

Recall is the share of visible kinds of things that a caption mentions, precision the share of its claims that the facts
bear out. A map is not complete: what it does not hold counts as not borne out, for every model alike.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lhrs.align.claims import check, fact_scores
from lhrs.align.facts import Fact
from lhrs.errors import DataError
from lhrs.metrics.statistics import bootstrap

_WHOLE = {
    "group": "thing", "parent": None, "visible": True, "area_share": 0.0, "area_m2": 0.0, "length_m": 0.0,
    "largest_share": 0.0, "position": None, "quadrants": (), "orientation": None,
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


def score_facts(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how true and how complete captions are.

    Args:
        records: with `prediction` and `facts` or `boxes`.

    Raises:
        DataError: see `facts_of_record`.
    """
    if not records:
        raise DataError("there are no records to score.")
    recall, precision, claims, contradicted = [], [], 0, 0
    for n, record in enumerate(records, 1):
        if "prediction" not in record:
            raise DataError(f"record {n} has no 'prediction'.")
        text, facts = str(record["prediction"] or ""), facts_of_record(record)
        covered, right = fact_scores(text, facts)
        found = check(text, facts)
        claims += len(found)
        contradicted += sum(claim.verdict == "contradicted" for claim in found)
        recall.append(covered)
        precision.append(right if found else np.nan)  # who says nothing is not right
    told = np.array(precision)
    known = told[~np.isnan(told)]
    both = np.array(recall), np.nan_to_num(told)
    f1 = np.divide(2 * both[0] * both[1], both[0] + both[1], out=np.zeros(len(told)), where=sum(both) > 0)
    return {
        "fact_f1": float(f1.mean()), "interval": list(bootstrap(f1)), "fact_recall": float(both[0].mean()),
        "fact_precision": float(known.mean()) if len(known) else 0.0, "claims": claims, "contradicted": contradicted,
        "n": len(told), "unparseable": float(np.isnan(told).mean()),
    }  # fmt: skip


def _fact(row: Mapping[str, Any]) -> Fact:
    whole = {**_WHOLE, "count": 1, "num_visible": row.get("count", 1), **row}
    return Fact(**{**whole, "relations": [], "quadrants": list(whole["quadrants"] or ())})
