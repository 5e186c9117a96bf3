"""Predictions of another program for the questions of a benchmark."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Item
from lhrs.imagery.band_stack import image_shape
from lhrs.metrics.metric import Metric


def join_predictions(
    items: Sequence[Item],
    records: Sequence[Mapping[str, Any]],
    metric: Metric,
    file: str,
    all_wordings: bool = False,
) -> list[dict[str, Any]]:
    """Return a record for every question; a question without a prediction is wrong.

    Args:
        items: the questions.
        records: predictions, with `id` and `prediction`.
        metric: of the benchmark.
        file: name of the file with the predictions, for messages.
        all_wordings: see `Benchmark.all_wordings`.

    Raises:
        DataError: a prediction has no id, an unknown one, or one that occurs twice.
    """
    predictions = _by_id(records, {item.id for item in items}, file)
    joined = []
    for item in items:
        prediction = predictions.get(item.id, {})
        row = {"prediction": prediction.get("prediction"), "boxes": prediction.get("prediction"),
               "confidence": prediction.get("confidence")}  # fmt: skip
        record = {"prediction": None, **metric.to_record(item, row)}
        if all_wordings:
            record["group"] = item.question_group or item.id
        else:
            del record["group"]  # each question was asked once
        size = prediction.get("size") or (_image_size(item.images[0]) if metric.answer_type == "boxes" else None)
        joined.append(record if size is None else {**record, "size": size})
    return joined


def _by_id(records: Sequence[Mapping[str, Any]], known: set[str], file: str) -> dict[str, Mapping[str, Any]]:
    predictions: dict[str, Mapping[str, Any]] = {}
    for n, record in enumerate(records, 1):
        if "id" not in record or "prediction" not in record:
            raise DataError(f"{file}: record {n} lacks {'id' if 'id' not in record else 'prediction'!r}.")
        name = str(record["id"])
        if name not in known:
            raise DataError(f"{file}: record {n} answers {name!r}, which is no question of this benchmark.")
        if name in predictions:
            raise DataError(f"{file}: {name!r} is answered twice.")
        predictions[name] = record
    if not predictions:
        raise DataError(f"{file} answers none of the questions.")
    return predictions


def _image_size(path: str) -> tuple[int, int] | None:
    """Return (width, height), or None if the image cannot be read. A metric that needs the size reports it."""
    try:
        height, width = image_shape(Path(path))
    except DataError:
        return None
    return width, height
