"""Visual grounding: one box, oriented box, polygon or mask for one expression."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lhrs.boxes import iou_pairs, parse_boxes
from lhrs.metrics.metric import Metric, Prompt, Question, Record
from lhrs.metrics.shapes import is_shape, shape_iou

_FOUR_NUMBERS = re.compile(r"[\[(]\s*" + r"\s*,\s*".join([r"(-?\d+(?:\.\d+)?)"] * 4) + r"\s*[\])]")


class Grounding(Metric):
    """Accuracy at an overlap of 0.5 and of 0.75, and the mean overlap."""

    name = "grounding"
    answer_type = "boxes"
    max_new_tokens = 64

    def prompt(self, question: Question) -> Prompt:
        return Prompt("grounding", question.question)

    def to_record(self, question: Question, row: Record) -> dict[str, Any]:
        return super().to_record(question, {**row, "prediction": row["boxes"]})

    def boxes_to_draw(self, question: Question, row: Record) -> list[tuple[str, tuple[float, float, float, float]]]:
        boxes = [("ground truth", question.answer), *(("prediction", box) for box in row["boxes"][:1])]
        return [(label, tuple(float(v) for v in box)) for label, box in boxes]  # type: ignore[misc]

    def compute(self, records: Sequence[Record], box_format: str) -> dict[str, Any]:
        return dict(_overlaps(records, box_format).to_dict())

    def compute_per_sample(self, records: Sequence[Record]) -> np.ndarray:
        return (_overlaps(records, "pixels").iou >= 0.5).astype(float)

    def parse_predictions(self, records: Sequence[Record]) -> list[Any]:
        parsed = _overlaps(records, "pixels").parsed
        return [record["prediction"] if known else None for record, known in zip(records, parsed, strict=True)]


@dataclass(frozen=True)
class Overlaps:
    """How well predicted shapes overlap the true ones."""

    iou: np.ndarray
    """float64 `(N,)`, one per expression; 0 without a prediction."""
    parsed: np.ndarray
    """bool `(N,)`: the answer contains a shape."""

    def accuracy(self, threshold: float = 0.5) -> float:
        """Fraction of all expressions whose overlap is at least the threshold."""
        return float((self.iou >= threshold).mean()) if len(self.iou) else float("nan")

    def to_dict(self) -> dict[str, float | int]:
        """Return all scores as plain numbers."""
        return {
            "accuracy": self.accuracy(), "acc@0.5": self.accuracy(), "acc@0.75": self.accuracy(0.75),
            "mean_iou": float(self.iou.mean()) if len(self.iou) else float("nan"), "n": len(self.iou),
            "parse_failure_rate": float(1 - self.parsed.mean()) if len(self.parsed) else float("nan"),
        }  # fmt: skip


def score_grounding(predictions: Sequence[np.ndarray | None], answers: np.ndarray) -> Overlaps:
    """Score one box per expression.

    Every expression counts: an answer without a box has IoU 0. Of several boxes only the first is scored, so that
    guessing often does not help.

    Args:
        predictions: `(K, 4)` xyxy pixels of each answer; None or K = 0 without a box.
        answers: `(N, 4)` true boxes, xyxy pixels of the same image.
    """
    first = np.zeros((len(predictions), 4))
    parsed = np.zeros(len(predictions), bool)
    for n, boxes in enumerate(predictions):
        if boxes is not None and np.size(boxes):
            first[n], parsed[n] = np.asarray(boxes, float).reshape(-1, 4)[0], True
    return Overlaps(iou_pairs(first, answers) * parsed, parsed)


def score_shapes(predictions: Sequence[Any], answers: Sequence[Any]) -> Overlaps:
    """Score one box, oriented box, polygon or mask per expression; see `lhrs.metrics.shapes.shape_iou`.

    Raises:
        DataError: an answer cannot be read.
        MissingExtraError: polygons need shapely, masks pycocotools.
    """
    ious = [shape_iou(p, a, n) for n, (p, a) in enumerate(zip(predictions, answers, strict=True), 1)]
    return Overlaps(np.array([iou or 0.0 for iou in ious]), np.array([iou is not None for iou in ious], bool))


def _overlaps(records: Sequence[Record], box_format: str) -> Overlaps:
    if any(is_shape(record["answer"]) for record in records):
        return score_shapes([record["prediction"] for record in records], [record["answer"] for record in records])
    answers = [_boxes(record, "answer", box_format) for record in records]
    for n, boxes in enumerate(answers, 1):
        if not len(boxes):
            raise ValueError(f"the answer of record {n} has no box of four numbers")
    truth = np.array([boxes[0] for boxes in answers])
    return score_grounding([_boxes(record, "prediction", box_format) for record in records], truth)


def _boxes(record: Record, name: str, box_format: str) -> np.ndarray:
    """Return `(K, 4)` xyxy pixels of the boxes of a record: four numbers, a list of boxes, or a text."""
    value = record[name]
    if value is None:
        return np.empty((0, 4))
    if not isinstance(value, str):
        boxes = np.asarray(value, float)
        return boxes.reshape(-1, 4) if boxes.size % 4 == 0 else np.empty((0, 4))
    if box_format == "pixels":
        return np.array(_FOUR_NUMBERS.findall(value), float).reshape(-1, 4)
    size = record.get("size")
    if not size:
        raise ValueError(f"boxes written as {box_format} need `size`, the image's [width, height]")
    return parse_boxes(value, (int(size[0]), int(size[1])), box_format).boxes
