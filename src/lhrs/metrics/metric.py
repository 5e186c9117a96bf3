"""The interface of a metric, and the registry that finds one by its name.

A new metric is a file in `lhrs/metrics/` with one subclass of `Metric`, or an entry point of the group `lhrs.metrics`.
`lhrs score --metric NAME` and benchmarks with `metric = "NAME"` then use it; no other file changes.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from lhrs.errors import ConfigError
from lhrs.reasoning import has_reasoning, strip_reasoning
from lhrs.registry import load_components

PACKAGE = "lhrs.metrics"
"""The package whose modules define metrics, and the entry-point group of metrics from other packages."""

Record = Mapping[str, Any]
"""One answer to score: `prediction` and `answer`, and what the metric needs besides."""
PromptKind = Literal["question", "short_answer", "choice", "multiple_choice", "classification", "grounding", "caption"]
"""The prompts that every model family has."""


@dataclass(frozen=True)
class Prompt:
    """How a question is asked, as plain data: evaluation turns it into the words of a model family."""

    kind: PromptKind
    text: str = ""
    """The question or the expression. An empty caption question takes the words of the model family."""
    options: tuple[str, ...] = ()
    """Options as they are shown, without letters."""


class Question(Protocol):
    """A question of a benchmark, as a metric sees it."""

    @property
    def id(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def answer(self) -> Any: ...
    @property
    def options(self) -> tuple[str, ...]: ...
    @property
    def type(self) -> str | None: ...
    @property
    def answerable(self) -> bool: ...


class Metric(ABC):
    """How a kind of question is asked, how its answers are parsed and scored, and what reports show of them."""

    name: ClassVar[str]
    """The name on the command line and in benchmarks."""
    main_score: ClassVar[str] = "accuracy"
    """The score that stands for a benchmark in tables."""
    answer_type: ClassVar[Literal["text", "boxes"]] = "text"
    """What a model must answer; boxes are stored in pixels of the image."""
    max_new_tokens: ClassVar[int] = 32
    lettered_options: ClassVar[bool] = False
    """Whether an answer may name an option by its letter, so that the order of the options matters."""
    required_fields: ClassVar[tuple[str, ...]] = ("answer",)
    """What a record needs besides `prediction`."""
    extra_scores: ClassVar[tuple[str, ...]] = ()
    """Slow or optional scores, computed on request by `extra_score`."""
    asks_models: ClassVar[bool] = True
    """Whether a model that writes text can answer; otherwise only predictions of other programs are scored."""

    def prompt(self, question: Question) -> Prompt:
        """Return how a question is asked."""
        return Prompt("question", question.question)

    def allowed_answers(self, question: Question) -> tuple[str, ...] | None:
        """Return the only answers that the constrained protocol allows; None if every answer is allowed."""
        return None

    @abstractmethod
    def compute(self, records: Sequence[Record], box_format: str) -> dict[str, Any]:
        """Return the scores of records whose predictions hold no reasoning; `main_score` is among them."""

    @abstractmethod
    def compute_per_sample(self, records: Sequence[Record]) -> np.ndarray:
        """Return the score of each record, float64 `(N,)`; see `per_sample`."""

    def parse_predictions(self, records: Sequence[Record]) -> list[Any]:
        """Return the parsed value of each prediction; see `parse`."""
        return [record["prediction"] or None for record in records]

    def score(self, records: Sequence[Record], box_format: str = "pixels") -> dict[str, Any]:
        """Return the scores of records.

        Args:
            records: in any order. Reasoning blocks and end tokens in predictions are removed before parsing.
            box_format: how boxes are written in texts; one of `lhrs.metrics.scoring.BOX_FORMATS`.

        Returns:
            Scores by name, and `reasoning_blocks`, the number of predictions with a reasoning block, if there are any.
        """
        answers, num_reasoning = strip_predictions(records)
        scores = self.compute(answers, box_format)
        return {**scores, "reasoning_blocks": num_reasoning} if num_reasoning else scores

    def per_sample(self, records: Sequence[Record]) -> np.ndarray:
        """Return the score of each record, float64 `(N,)`, for paired tests and pages of errors; 1 is correct."""
        return self.compute_per_sample(strip_predictions(records)[0])

    def parse(self, records: Sequence[Record]) -> list[Any]:
        """Return the parsed value of each prediction; None if it cannot be parsed."""
        return self.parse_predictions(strip_predictions(records)[0])

    def extra_score(self, name: str, records: Sequence[Record]) -> float:
        """Return one of `extra_scores`."""
        raise NotImplementedError(name)

    def main_score_of(self, protocol: str) -> str:
        """Return the name of the score that stands for a benchmark under a protocol."""
        return self.main_score

    def to_record(self, question: Question, row: Record) -> dict[str, Any]:
        """Return the record of a question and of the stored row of its answer."""
        record = {
            "prediction": row["prediction"], "answer": question.answer, "options": question.options or None,
            "type": question.type, "confidence": row.get("confidence"), "group": question.id,
            "answerable": question.answerable,
        }  # fmt: skip
        return {key: value for key, value in record.items() if value is not None}

    def ground_truth(self, question: Question) -> str:
        """Return the ground truth as reports show it."""
        return str(question.answer)

    def boxes_to_draw(self, question: Question, row: Record) -> list[tuple[str, tuple[float, float, float, float]]]:
        """Return labeled boxes, xyxy pixels, that reports draw on the image."""
        return []


def strip_predictions(records: Sequence[Record]) -> tuple[list[Record], int]:
    """Return records whose predictions hold the answer alone, and how many predictions had a reasoning block.

    Reasoning blocks, answer tags and end tokens are removed; see `lhrs.reasoning.strip_reasoning`.
    """
    texts = [record["prediction"] for record in records]
    answers = [strip_reasoning(text) if isinstance(text, str) else text for text in texts]
    rows = zip(records, texts, answers, strict=True)
    stripped = [record if answer is text else {**record, "prediction": answer} for record, text, answer in rows]
    return stripped, sum(isinstance(text, str) and has_reasoning(text) for text in texts)


def load_metrics(package: str = PACKAGE) -> dict[str, Metric]:
    """Return the metrics that a package and its entry points define, by name."""
    classes = load_components(package, Metric).values()  # type: ignore[type-abstract]
    metrics = [metric_class() for metric_class in classes if not inspect.isabstract(metric_class)]
    return {metric.name: metric for metric in sorted(metrics, key=lambda metric: metric.name)}


def get_metric(name: str, packages: Sequence[str] = (PACKAGE,)) -> Metric:
    """Return a metric by its name.

    Args:
        name: of the metric.
        packages: are searched in order; see `load_metrics`.

    Raises:
        ConfigError: there is no such metric.
    """
    known: list[str] = []
    for package in packages:
        metrics = load_metrics(package)
        if name in metrics:
            return metrics[name]
        known += metrics
    raise ConfigError(f"there is no metric {name!r}; known: {', '.join(sorted(known))}.")
