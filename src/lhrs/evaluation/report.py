"""What answers are worth: scores with intervals, and beside them what is reached without looking."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhrs.evaluation.asking import Asked, record
from lhrs.evaluation.benchmark import Benchmark, Item, data_hash
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
    questions, values = _by_question(asked, values, main == "circular")
    by_group = {
        group: float(values[among].mean())
        for group, types in benchmark.groups.items()
        if (among := [n for n, one in enumerate(questions) if {*(one.item.type or "").split("|")} & {*types}])
    }
    low, high = bootstrap(values)
    return {
        "benchmark": benchmark.title, "metric": main, "protocol": protocol, "n": len(values), "score": mine[main],
        "interval": [low, high], "unparseable": mine["unparseable"],
        "controls": {
            **{name: mine[name] for name in ("majority", "chance") if name in mine},
            **{variant: scores[variant][main] for variant in rows if variant != "asked"},
        },
        "all": {**mine, "by_group": by_group} if by_group else mine,
    }  # fmt: skip


def _by_question(asked: Sequence[Asked], values: np.ndarray, every: bool) -> tuple[list[Asked], np.ndarray]:
    """Return each question once, and how well it was answered: the mean of its wordings, of all rotations the worst."""
    if every:
        asked, values = _merged(asked, values, [one.item.id for one in asked], np.min)
    return _merged(asked, values, [one.item.same_as or n for n, one in enumerate(asked)], np.mean)


def _merged(
    asked: Sequence[Asked], values: np.ndarray, keys: Sequence[object], merge: Callable[[np.ndarray], Any]
) -> tuple[list[Asked], np.ndarray]:
    groups: dict[object, list[int]] = {}
    for n, key in enumerate(keys):
        groups.setdefault(key, []).append(n)
    return [asked[which[0]] for which in groups.values()], np.array([merge(values[w]) for w in groups.values()])


def told_of(benchmark: Benchmark, items: Sequence[Item], whole: bool) -> dict[str, Any]:
    """Return what data were scored: their hash, and whether it is the pinned one; None where there is none to compare.

    Args:
        benchmark: which.
        items: what was asked.
        whole: whether those are all of its questions.

    Raises:
        DataError: an image cannot be read.
    """
    found = data_hash(items)
    expected = benchmark.expected_hash.get(benchmark.split or "") if whole else None
    pinned = None if expected is None else found == expected
    return {"data_hash": found, "pinned": pinned, **({} if pinned is not False else {"expected_hash": expected}),
            **benchmark.told()}  # fmt: skip


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
        right = item.answer if item.answerable or item.options else "to deny it"
        if item.options and benchmark.metric in ("choice", "honesty"):
            indices = (item.answer,) if isinstance(item.answer, int) else item.answer
            right = "; ".join(item.options[int(n)] for n in indices)
        samples.append(
            Sample(
                id=f"{item.id} ({item.type or benchmark.metric})", images=list(item.images), boxes=boxes,
                turns=[Turn(role="user", text=asked[n].prompt), Turn(role="assistant", text=str(row["prediction"])),
                       Turn(role="system", text=f"right: {right}")],
                source=benchmark.title, licence=benchmark.licence,
            )
        )  # fmt: skip
    write_page(samples, path, f"{benchmark.title}: {len(samples)} of {int((values < 1).sum()):,} wrong answers")
    return len(samples)


def compare(
    benchmark: Benchmark, asked: Sequence[Asked], mine: Sequence[dict], theirs: Sequence[dict]
) -> dict[str, float | list[float]]:
    """Return how much better the first model is on the same questions, with a paired test."""
    a, b = (
        per_sample([record(one, row, benchmark.metric) for one, row in zip(asked, rows, strict=True)], benchmark.metric)
        for rows in (mine, theirs)
    )
    a, b = (_by_question(asked, values, every=False)[1] for values in (a, b))
    mean, interval, p = paired_difference(a, b)
    return {"difference": mean, "interval": list(interval), "p": p}
