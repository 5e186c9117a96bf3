"""Scores of a file of answers, for people who only want the scorer.

A record holds `prediction` and `answer`, and where the metric needs them `type`, `options`, `size`, `confidence` or
`answerable`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lhrs.boxes import STYLES, parse_boxes
from lhrs.errors import ConfigError, DataError
from lhrs.metrics import labels
from lhrs.metrics.captioning import cider, score_captions, tokenize
from lhrs.metrics.confidence import aurc, ece
from lhrs.metrics.detection import score_detections
from lhrs.metrics.honesty import honesty
from lhrs.metrics.legacy import LEGACY
from lhrs.metrics.overlap import Grounding, ground
from lhrs.metrics.parse import LETTERS, label_key
from lhrs.metrics.shapes import ground_shapes, is_shape
from lhrs.metrics.statistics import bootstrap

Record = Mapping[str, Any]
_FOUR = re.compile(r"[\[(]\s*" + r"\s*,\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*[\])]")
BOX_FORMS = ("pixels", *STYLES)


def score_records(records: Sequence[Record], metric: str, boxes: str = "pixels") -> dict[str, Any]:
    """Return the scores of records by one of `METRICS`.

    Args:
        records: in any order.
        metric: its name.
        boxes: how boxes are written in texts; `pixels` are four numbers in brackets, xyxy.

    Raises:
        ConfigError: there is no such metric or way to write boxes.
        DataError: a record lacks what the metric needs.
    """
    if metric not in METRICS:
        raise ConfigError(f"there is no metric {metric!r}; known: {', '.join(METRICS)}.")
    if boxes not in BOX_FORMS:
        raise ConfigError(f"boxes are written as one of {', '.join(BOX_FORMS)}, not {boxes!r}.")
    if not records:
        raise DataError("there are no records to score.")
    for n, record in enumerate(records, 1):
        for name in ("prediction", "answer"):
            if name not in record:
                raise DataError(f"record {n} has no {name!r}.")
    try:
        return METRICS[metric](records, boxes)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"a record does not fit the metric {metric!r}: {error}.") from None


def _texts(records: Sequence[Record], name: str) -> list[str]:
    return [str(record[name]) if record[name] is not None else "" for record in records]


def _types(records: Sequence[Record]) -> list[str] | None:
    return [str(r["type"]) for r in records] if all(r.get("type") is not None for r in records) else None


def _with_interval(score: labels.Score, records: Sequence[Record]) -> dict[str, Any]:
    found: dict[str, Any] = score.summary()
    found["interval"] = list(bootstrap(score.right))
    if all(isinstance(r.get("confidence"), int | float) for r in records):
        confidence = np.array([float(r["confidence"]) for r in records])
        found |= {"ece": ece(confidence, score.right), "aurc": aurc(confidence, score.right)}
    return found


def _vqa(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    answers = _texts(records, "answer")
    score = labels.vqa(_texts(records, "prediction"), answers, _types(records))
    return {**_with_interval(score, records), "majority": labels.majority(answers)}


def _classify(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    answers = _texts(records, "answer")
    offered = sorted({str(o) for r in records for o in r.get("options") or ()}) or None
    score = labels.classify(_texts(records, "prediction"), answers, offered)
    return {**_with_interval(score, records), "majority": labels.majority(answers)}


def _count(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    answers = _texts(records, "answer")
    score = labels.counts(_texts(records, "prediction"), answers)
    truth = np.array([float(a.replace(",", "")) for a in answers])
    more = {"mae_of_the_median": float(np.abs(truth - np.median(truth)).mean())}
    return {**_with_interval(score, records), **more}


def _choice(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    options = [[str(o) for o in r["options"]] for r in records]
    answers = [_index(r["answer"], offered) for r, offered in zip(records, options, strict=True)]
    score = labels.choose(_texts(records, "prediction"), answers, options, _types(records))
    found = _with_interval(score, records)
    ways = [len(o) if isinstance(a, int) else 2 ** len(o) - 1 for a, o in zip(answers, options, strict=True)]
    found["chance"] = float(np.mean(1 / np.array(ways)))
    if all(r.get("group") is not None for r in records):
        circular = labels.choose_circular([r["group"] for r in records], score.right)
        found |= {"circular": circular.accuracy, "questions": len(circular.right)}
    return found


def _index(answer: Any, options: Sequence[str]) -> int | tuple[int, ...]:
    """Return the index of a right option given as index, letter or text; of a list of such, the indices in order."""
    if isinstance(answer, list | tuple):
        return tuple(sorted({_one_index(one, options) for one in answer}))
    return _one_index(answer, options)


def _one_index(answer: Any, options: Sequence[str]) -> int:
    if isinstance(answer, int):
        return answer
    keys = [label_key(option) for option in options]
    if label_key(str(answer)) in keys:
        return keys.index(label_key(str(answer)))
    letter = str(answer).strip().rstrip(".").upper()
    if len(letter) == 1 and letter in LETTERS[: len(options)]:
        return LETTERS.index(letter)
    raise ValueError(f"answer {answer!r} is no index, letter or text of its options")


def _honesty(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    score = _honest(records, _types(records))
    always = float(np.mean([not r.get("answerable", True) for r in records]))
    return {**_with_interval(score, records), "majority": always}  # to deny everything


def _honest(records: Sequence[Record], types: Sequence[str] | None = None) -> labels.Score:
    options = [[str(o) for o in r.get("options") or ()] for r in records]
    answers = [_one_index(r["answer"], o) if o else str(r["answer"]) for r, o in zip(records, options, strict=True)]
    answerable = [bool(r.get("answerable", True)) for r in records]
    return honesty(_texts(records, "prediction"), answers, options, answerable, types)


def _grounding(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    return dict(_found(records, boxes).summary())


def _found(records: Sequence[Record], boxes: str) -> Grounding:
    if any(is_shape(record["answer"]) for record in records):
        return ground_shapes([record["prediction"] for record in records], [record["answer"] for record in records])
    truth = np.array([_box(r, "answer", boxes)[0] for r in records])
    return ground([_box(r, "prediction", boxes) for r in records], truth)


def _box(record: Record, name: str, boxes: str) -> np.ndarray:
    """Return `(K, 4)` xyxy pixels of a record's box: a list of four numbers, a list of such, or a text."""
    value = record[name]
    if value is None:
        return np.empty((0, 4))
    if not isinstance(value, str):
        found = np.asarray(value, float)
        return found.reshape(-1, 4) if found.size % 4 == 0 else np.empty((0, 4))
    if boxes == "pixels":
        return _pixel_boxes(value)
    size = record.get("size")
    if not size:
        raise ValueError(f"boxes written as {boxes} need `size`, the image's [width, height]")
    return parse_boxes(value, (int(size[0]), int(size[1])), boxes).boxes


def _pixel_boxes(text: str) -> np.ndarray:
    return np.array(_FOUR.findall(text), float).reshape(-1, 4)


def _detection(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    return score_detections(records)


def _caption(records: Sequence[Record], boxes: str) -> dict[str, Any]:
    return score_captions(*captions_of(records))


def captions_of(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """Return captions and the references of each."""
    return _texts(records, "prediction"), [_references(record) for record in records]


def _references(record: Record) -> list[str]:
    answer = record["answer"]
    return [answer] if isinstance(answer, str) else [str(text) for text in answer]


METRICS: dict[str, Callable[[Sequence[Record], str], dict[str, Any]]] = {
    "vqa": _vqa, "classify": _classify, "count": _count, "choice": _choice, "grounding": _grounding,
    "caption": _caption, "detection": _detection, "honesty": _honesty,
}  # fmt: skip


def per_sample(records: Sequence[Record], metric: str) -> np.ndarray:
    """Return float64 `(N,)`, how good each record is: 1 or 0, the overlap's being at least a half, or CIDEr.

    What paired tests compare, and what pages of errors are sorted by.
    """
    said = _texts(records, "prediction")
    if metric == "grounding":
        return (_found(records, "pixels").iou >= 0.5).astype(float)
    if metric == "caption":
        known = [[tokenize(text) for text in _references(r)] for r in records]
        return cider([tokenize(text) for text in said], known)
    answers = _texts(records, "answer")
    if metric == "choice":
        options = [[str(o) for o in r["options"]] for r in records]
        truth_ = [_index(r["answer"], offered) for r, offered in zip(records, options, strict=True)]
        return labels.choose(said, truth_, options).right.astype(float)
    if metric == "honesty":
        return _honest(records).right.astype(float)
    if metric == "classify":
        offered = sorted({str(o) for r in records for o in r.get("options") or ()}) or None
        return labels.classify(said, answers, offered).right.astype(float)
    return (labels.vqa if metric == "vqa" else labels.counts)(said, answers).right.astype(float)


def legacy_score(records: Sequence[Record], name: str) -> float:
    """Return what a published scorer makes of records.

    Raises:
        ConfigError: there is no such scorer.
    """
    if name not in LEGACY:
        raise ConfigError(f"there is no legacy scorer {name!r}; known: {', '.join(LEGACY)}.")
    if name.endswith("grounding"):
        pairs = [[np.asarray(r[key], float).reshape(-1, 4)[:1] for r in records] for key in ("prediction", "answer")]
        return LEGACY[name].score(*(np.concatenate(side) for side in pairs))
    return LEGACY[name].score(_texts(records, "prediction"), _texts(records, "answer"))
