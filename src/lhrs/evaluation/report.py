"""What answers are worth: scores with intervals, and beside them what is reached without looking."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.evaluation.asking import Asked, record
from lhrs.evaluation.benchmark import Benchmark
from lhrs.files import write_file
from lhrs.metrics.records import per_sample, score_records
from lhrs.metrics.statistics import bootstrap, paired_difference

SCORES, TABLE, PAGE = "scores.json", "scores.md", "errors.html"
_MAIN = {"caption": "cider", "count": "mae"}
_WORST = 24


def main_metric(metric: str, protocol: str) -> str:
    """Return the name of the number that stands for a benchmark."""
    return "circular" if protocol == "circular" and metric == "choice" else _MAIN.get(metric, "accuracy")


def score_answers(
    benchmark: Benchmark, asked: Sequence[Asked], rows: dict[str, list[dict[str, Any]]], protocol: str
) -> dict[str, Any]:
    """Return the scores of a benchmark: of its answers, and of the controls beside them.

    Args:
        benchmark: which.
        asked: the questions as they were put.
        rows: answers by variant; `asked` must be there.
        protocol: how they were put.
    """
    metric, main = benchmark.metric, main_metric(benchmark.metric, protocol)
    scores = {
        variant: score_records([record(a, r, metric) for a, r in zip(asked, answers, strict=True)], metric)
        for variant, answers in rows.items()
    }
    mine = scores["asked"]
    values = per_sample([record(a, r, metric) for a, r in zip(asked, rows["asked"], strict=True)], metric)
    if main == "circular":
        groups: dict[str, list[float]] = {}
        for one, value in zip(asked, values.tolist(), strict=True):
            groups.setdefault(one.item.id, []).append(value)
        values = np.array([min(group) for group in groups.values()])
    low, high = bootstrap(values)
    return {
        "benchmark": benchmark.name(), "metric": main, "protocol": protocol, "n": len(values), "score": mine[main],
        "interval": [low, high], "unparseable": mine["unparseable"],
        "controls": {
            **{name: mine[name] for name in ("majority", "chance") if name in mine},
            **{variant: scores[variant][main] for variant in rows if variant != "asked"},
        },
        "all": mine,
    }  # fmt: skip


def table(results: Sequence[dict[str, Any]], model: str) -> str:
    """Return the scores as Markdown."""
    lines = [
        f"| {model} | metric | n | score | 95 % | unparseable | majority | blind | shuffled |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        controls = one["controls"]
        beside = [controls.get("majority", controls.get("chance")), controls.get("blind"), controls.get("shuffled")]
        told = " | ".join("-" if value is None else f"{value:.3f}" for value in beside)
        low, high = one["interval"]
        how = "" if one["protocol"] == "free" else f" ({one['protocol']})"
        lines.append(
            f"| {one['benchmark']}{how} | {one['metric']} | {one['n']:,} | **{one['score']:.3f}** "
            f"| {low:.3f} - {high:.3f} | {one['unparseable']:.3f} | {told} |"
        )
    return "\n".join(lines) + "\n"


def write_report(results: Sequence[dict[str, Any]], model: str, folder: Path) -> None:
    """Write the scores for programs and for people."""
    write_file(folder / SCORES, json.dumps({"model": model, "results": list(results)}, indent=1) + "\n")
    write_file(folder / TABLE, table(results, model))


def write_errors(benchmark: Benchmark, asked: Sequence[Asked], rows: Sequence[dict[str, Any]], path: Path) -> int:
    """Write a page of the worst answers with their images; returns how many are on it."""
    from lhrs.data.sheet import write_page
    from lhrs.schema import Box, Sample, Turn

    records = [record(a, r, benchmark.metric) for a, r in zip(asked, rows, strict=True)]
    values = per_sample(records, benchmark.metric)
    worst = [int(n) for n in np.argsort(values, kind="stable")[:_WORST] if values[n] < 1]
    samples = []
    for n in worst:
        item, row = asked[n].item, rows[n]
        boxes = []
        if benchmark.metric == "grounding":
            boxes = [Box(label="right", xyxy=tuple(item.answer))]  # type: ignore[arg-type]
            boxes += [Box(label="said", xyxy=tuple(box)) for box in row["boxes"][:1]]
        right = item.options[int(item.answer)] if benchmark.metric == "choice" else item.answer  # type: ignore[arg-type]
        samples.append(
            Sample(
                id=f"{item.id} ({item.type or benchmark.metric})", images=list(item.images), boxes=boxes,
                turns=[Turn(role="user", text=asked[n].prompt), Turn(role="assistant", text=str(row["prediction"])),
                       Turn(role="system", text=f"right: {right}")],
                source=benchmark.name(), licence=benchmark.licence,
            )
        )  # fmt: skip
    write_page(samples, path, f"{benchmark.name()}: {len(samples)} of {int((values < 1).sum()):,} wrong answers")
    return len(samples)


def compare(
    benchmark: Benchmark, asked: Sequence[Asked], mine: Sequence[dict], theirs: Sequence[dict]
) -> dict[str, float | list[float]]:
    """Return how much better the first model is on the same questions, with a paired test."""
    a, b = (
        per_sample([record(one, row, benchmark.metric) for one, row in zip(asked, rows, strict=True)], benchmark.metric)
        for rows in (mine, theirs)
    )
    mean, interval, p = paired_difference(a, b)
    return {"difference": mean, "interval": list(interval), "p": p}
