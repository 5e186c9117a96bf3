"""Score records by the name of a metric.

A record contains `prediction` and `answer`. Some metrics also read `type`, `options`, `size`, `confidence`,
`answerable` or `group`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lhrs.boxes import STYLES
from lhrs.errors import ConfigError, DataError
from lhrs.metrics.accuracy import answers_of, predictions_of
from lhrs.metrics.legacy import LEGACY
from lhrs.metrics.metric import Metric, Record, get_metric

BOX_FORMATS = ("pixels", *STYLES)
"""How boxes may be written in texts; `pixels` are four numbers in brackets, xyxy."""


def score_records(records: Sequence[Record], metric: str | Metric, box_format: str = "pixels") -> dict[str, Any]:
    """Return the scores of records.

    Args:
        records: in any order.
        metric: a metric or its name.
        box_format: one of `BOX_FORMATS`.

    Raises:
        ConfigError: there is no such metric or box format.
        DataError: a record lacks a field that the metric needs.
    """
    chosen = get_metric(metric) if isinstance(metric, str) else metric
    if box_format not in BOX_FORMATS:
        raise ConfigError(f"boxes are written as one of {', '.join(BOX_FORMATS)}, not {box_format!r}.")
    if not records:
        raise DataError("there are no records to score.")
    for n, record in enumerate(records, 1):
        for field in ("prediction", *chosen.required_fields):
            if field not in record:
                raise DataError(f"record {n} has no {field!r}.")
    try:
        return chosen.score(records, box_format)
    except KeyError as error:
        raise DataError(f"a record does not fit the metric {chosen.name!r}: it has no {error}.") from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"a record does not fit the metric {chosen.name!r}: {error}.") from None


def score_per_sample(records: Sequence[Record], metric: str | Metric) -> np.ndarray:
    """Return the score of each record, float64 `(N,)`; see `Metric.per_sample`."""
    return (get_metric(metric) if isinstance(metric, str) else metric).per_sample(records)


def legacy_score(records: Sequence[Record], name: str) -> float:
    """Return what a published scorer computes for records.

    Raises:
        ConfigError: there is no such scorer.
    """
    if name not in LEGACY:
        raise ConfigError(f"there is no legacy scorer {name!r}; known: {', '.join(LEGACY)}.")
    if name.endswith("grounding"):
        pairs = [[np.asarray(r[key], float).reshape(-1, 4)[:1] for r in records] for key in ("prediction", "answer")]
        return LEGACY[name].score(*(np.concatenate(side) for side in pairs))
    return LEGACY[name].score(predictions_of(records), answers_of(records))
