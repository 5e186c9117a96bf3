"""Scores of a benchmark with intervals and baselines, and the files that report them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.atomic_io import write_atomic
from lhrs.evaluation.benchmark import Benchmark
from lhrs.evaluation.prompts import PromptedItem
from lhrs.metrics.metric import Metric
from lhrs.metrics.scoring import score_per_sample, score_records
from lhrs.metrics.statistics import bootstrap, paired_difference

SCORES, TABLE, PAGE = "scores.json", "scores.md", "errors.html"
_MAX_ERRORS = 24


def score_answers(
    benchmark: Benchmark,
    metric: Metric,
    prompted: Sequence[PromptedItem],
    rows: dict[str, list[dict[str, Any]]],
    protocol: str,
) -> dict[str, Any]:
    """Return the scores of a benchmark, with its baselines.

    Args:
        benchmark: gives the name and the groups of question types.
        metric: of the benchmark.
        prompted: the questions.
        rows: answers by variant; `normal` is required.
        protocol: how the questions were asked.
    """
    strict = benchmark.all_wordings
    main = "circular" if strict else metric.main_score_of(protocol)
    scores = {
        variant: score_records(_records(prompted, some, metric, strict), metric) for variant, some in rows.items()
    }
    normal = scores["normal"]
    values = score_per_sample(_records(prompted, rows["normal"], metric), metric)
    questions, values = _by_question(prompted, values, main == "circular", strict)
    by_group = {
        group: float(values[members].mean())
        for group, types in benchmark.groups.items()
        if (members := [n for n, q in enumerate(questions) if {*(q.item.type or "").split("|")} & {*types}])
    }
    return {
        "benchmark": benchmark.full_name, "metric": main, "protocol": protocol, "n": len(values),
        "score": normal[main], "interval": list(bootstrap(values)),
        "parse_failure_rate": normal.get("parse_failure_rate", 0.0),
        "baselines": {
            **{name: normal[name] for name in ("majority", "chance") if name in normal},
            **{variant: scores[variant][main] for variant in rows if variant != "normal"},
        },
        "all": {**normal, "by_group": by_group} if by_group else normal,
    }  # fmt: skip


def compare(
    metric: Metric,
    prompted: Sequence[PromptedItem],
    rows: Sequence[dict],
    other_rows: Sequence[dict],
    all_wordings: bool = False,
) -> dict[str, float | list[float]]:
    """Return how much better the first model is than the second on the same questions, with a paired test.

    Args:
        metric: of the benchmark.
        prompted: the questions.
        rows: answers of the first model.
        other_rows: answers of the second model.
        all_wordings: see `Benchmark.all_wordings`.
    """
    a, b = (score_per_sample(_records(prompted, some, metric), metric) for some in (rows, other_rows))
    a, b = (_by_question(prompted, values, False, all_wordings)[1] for values in (a, b))
    mean, interval, p = paired_difference(a, b)
    return {"difference": mean, "interval": list(interval), "p": p}


def score_table(results: Sequence[dict[str, Any]], model: str) -> str:
    """Return the scores as a Markdown table."""
    lines = [
        f"| {model} | metric | n | score | 95 % | parse failures | majority | blind | shuffled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        baselines = result["baselines"]
        values = [baselines.get("majority", baselines.get("chance")), baselines.get("blind"), baselines.get("shuffled")]
        cells = " | ".join("-" if value is None else f"{value:.3f}" for value in values)
        low, high = result["interval"]
        protocol = "" if result["protocol"] == "free" else f" ({result['protocol']})"
        lines.append(
            f"| {result['benchmark']}{protocol} | {result['metric']} | {result['n']:,} | **{result['score']:.3f}** "
            f"| {low:.3f} - {high:.3f} | {result['parse_failure_rate']:.3f} | {cells} |"
        )
    return "\n".join(lines) + "\n"


def write_report(results: Sequence[dict[str, Any]], model: str, folder: Path) -> None:
    """Write the scores as JSON and as a Markdown table."""
    write_atomic(folder / SCORES, json.dumps({"model": model, "results": list(results)}, indent=1) + "\n")
    write_atomic(folder / TABLE, score_table(results, model))


def write_errors(
    benchmark: Benchmark, metric: Metric, prompted: Sequence[PromptedItem], rows: Sequence[dict[str, Any]], path: Path
) -> None:
    """Write an HTML page of the worst answers with their images."""
    from lhrs.data.visualize import html_page
    from lhrs.schema import Box, Sample, Turn

    records = _records(prompted, rows, metric)
    values, parsed = score_per_sample(records, metric), metric.parse(records)
    worst = [int(n) for n in np.argsort(values, kind="stable")[:_MAX_ERRORS] if values[n] < 1]
    samples = []
    for n in worst:
        item, row = prompted[n].item, rows[n]
        turns = [
            Turn(role="user", text=prompted[n].prompt),
            Turn(role="assistant", text=str(row["prediction"])),
            Turn(role="system", text=f"ground truth: {metric.ground_truth(item)}"),
            Turn(role="system", text=f"parsed prediction: {parsed[n]}"),
        ]
        boxes = [Box(label=label, xyxy=xyxy) for label, xyxy in metric.boxes_to_draw(item, row)]
        samples.append(
            Sample(id=f"{item.id} ({item.type or metric.name})", images=list(item.images), boxes=boxes, turns=turns,
                   source=benchmark.full_name, license=benchmark.license)
        )  # fmt: skip
    num_wrong = int((values < 1).sum())
    html_page(samples, path, f"{benchmark.full_name}: {len(samples)} of {num_wrong:,} wrong answers")


def _records(
    prompted: Sequence[PromptedItem], rows: Sequence[dict[str, Any]], metric: Metric, all_wordings: bool = False
) -> list[dict[str, Any]]:
    """Return the records of answers; `all_wordings` groups the wordings of a question, not only its rotations."""
    records = [metric.to_record(question.item, row) for question, row in zip(prompted, rows, strict=True)]
    if not all_wordings:
        return records
    groups = [question.item.question_group or question.item.id for question in prompted]
    return [{**record, "group": group} for record, group in zip(records, groups, strict=True)]


def _by_question(
    prompted: Sequence[PromptedItem], values: np.ndarray, all_rotations: bool, all_wordings: bool
) -> tuple[list[PromptedItem], np.ndarray]:
    """Return each question once, with the mean or the minimum of the scores of its rotations and of its wordings."""
    if all_rotations:
        prompted, values = _merge(prompted, values, [question.item.id for question in prompted], np.min)
    groups = [question.item.question_group or n for n, question in enumerate(prompted)]
    return _merge(prompted, values, groups, np.min if all_wordings else np.mean)


def _merge(
    prompted: Sequence[PromptedItem], values: np.ndarray, keys: Sequence[object], merge: Callable[[np.ndarray], Any]
) -> tuple[list[PromptedItem], np.ndarray]:
    groups: dict[object, list[int]] = {}
    for n, key in enumerate(keys):
        groups.setdefault(key, []).append(n)
    return [prompted[rows[0]] for rows in groups.values()], np.array([merge(values[r]) for r in groups.values()])
