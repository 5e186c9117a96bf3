"""Answers that somebody else's program gave to a benchmark's questions."""

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from lhrs.errors import DataError
from lhrs.evaluation.benchmark import Item, Metric


def match(items: Sequence[Item], records: Sequence[Mapping[str, Any]], metric: Metric, file: str) -> list[dict]:
    """Return a record for `lhrs.metrics.records` for every question; one that was not answered is wrong.

    Args:
        items: the questions.
        records: with `id` and `prediction`.
        metric: of the benchmark; boxes written as shares need the image's size, read from its header.
        file: of the records, for messages.

    Raises:
        DataError: a record has no id, one that the benchmark does not have, or one that is there twice.
    """
    known = {item.id for item in items}
    said: dict[str, Mapping[str, Any]] = {}
    for n, record in enumerate(records, 1):
        if "id" not in record or "prediction" not in record:
            raise DataError(f"{file}: record {n} lacks {'id' if 'id' not in record else 'prediction'!r}.")
        name = str(record["id"])
        if name not in known:
            raise DataError(f"{file}: record {n} answers {name!r}, which is no question of this benchmark.")
        if name in said:
            raise DataError(f"{file}: {name!r} is answered twice.")
        said[name] = record
    if not said:
        raise DataError(f"{file} answers none of the questions.")
    found = []
    for item in items:
        given = said.get(item.id, {})
        row = {
            "prediction": given.get("prediction"), "answer": item.answer, "options": item.options or None,
            "type": item.type, "confidence": given.get("confidence"), "answerable": item.answerable,
            "size": given.get("size") or (_size(item.images[0]) if metric == "grounding" else None),
        }  # fmt: skip
        found.append({key: value for key, value in row.items() if value is not None or key == "prediction"})
    return found


def _size(path: str) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError:  # needed only where boxes are written as shares; missing there is said by the scorer
        return None
