"""Score predictions of any model or program."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lhrs.errors import ConfigError, DataError
from lhrs.evaluation.metrics import find_metric
from lhrs.metrics.scoring import legacy_score, score_records


def score(
    predictions: str | Path | Sequence[Mapping[str, Any]],
    *,
    metric: str | None = None,
    benchmark: str | None = None,
    box_format: str = "pixels",
    extra_metrics: Sequence[str] = (),
    legacy: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the scores of predictions.

    Args:
        predictions: .jsonl or .json file, or records, with `prediction` and `answer`; with a benchmark `prediction` and
            `id`.
        metric: name of the metric; exactly one of `metric` and `benchmark` is given.
        benchmark: `NAME[:SPLIT]=PATH`, which gives the metric and the true answers.
        box_format: how boxes are written in texts; one of `lhrs.metrics.scoring.BOX_FORMATS`.
        extra_metrics: optional scores of the metric; captions have `meteor` and `spice`.
        legacy: names of published scorers, whose scores are added; see `lhrs.metrics.legacy`.

    Raises:
        ConfigError: an option is wrong.
        DataError: the file or a record is wrong.
        MissingExtraError: an optional dependency is not installed.
    """
    if (metric is None) == (benchmark is None):
        raise ConfigError("name what is scored: either --metric, or --benchmark NAME=PATH.")
    source = str(predictions) if isinstance(predictions, str | Path) else "the records"
    records: Sequence[Mapping[str, Any]] = (
        read_records(Path(predictions)) if isinstance(predictions, str | Path) else predictions
    )
    if benchmark is not None:
        from lhrs.evaluation.benchmark import open_benchmark
        from lhrs.evaluation.external_predictions import join_predictions

        opened = open_benchmark(benchmark)
        chosen = find_metric(opened.metric)
        records = join_predictions(opened.items(), records, chosen, source, opened.all_wordings)
    else:
        chosen = find_metric(str(metric))
    for name in extra_metrics:
        if name not in chosen.extra_scores:
            known = f"known: {', '.join(chosen.extra_scores)}" if chosen.extra_scores else "it has none"
            raise ConfigError(f"{name!r} is no extra metric of {chosen.name!r}; {known}.")
    try:
        scores = score_records(records, chosen, box_format)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    scores |= {name: chosen.extra_score(name, records) for name in extra_metrics}
    return scores | {f"legacy {name}": legacy_score(records, name) for name in legacy}


def read_records(path: Path) -> list[Mapping[str, Any]]:
    """Return the records of a .json or .jsonl file.

    Raises:
        DataError: it is missing or contains no list of records.
    """
    from lhrs.data.dataset import read_json, read_json_lines

    if path.suffix != ".json":
        return [row for _, row in read_json_lines(path)]
    records = read_json(path)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path} is not a list of records.")
    return records
