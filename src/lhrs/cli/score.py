"""`lhrs score`: score a file of answers, whoever gave them."""

from pathlib import Path
from typing import Any

import typer


def score(
    path: Path = typer.Argument(help=".jsonl or .json: records with `prediction` and `answer`."),
    metric: str | None = typer.Option(
        None, help="vqa, classify, count, choice, grounding, detection, caption, honesty or facts.", show_default=False
    ),
    bench: str | None = typer.Option(
        None,
        metavar="NAME=PATH",
        help="Take the truth from a benchmark; records hold `id` and `prediction`.",
        show_default=False,
    ),
    boxes: str = typer.Option("pixels", help="How boxes are written: pixels, unit, percent, thousand, nova, qwen."),
    also: list[str] = typer.Option([], help="Of captions: meteor, spice (need Java and pycocoevalcap)."),
    legacy: list[str] = typer.Option([], help="Beside it, what this published scorer makes of them; `list` names all."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Score answers strictly: what cannot be parsed is wrong, and counted."""
    import json

    from lhrs.errors import ConfigError, DataError
    from lhrs.metrics.legacy import LEGACY
    from lhrs.metrics.records import captions_of, legacy_score, score_records

    if "list" in legacy:
        for one in LEGACY.values():
            typer.echo(f"{one.name:20} {one.source}: {one.defect}")
        return
    if (metric is None) == (bench is None):
        raise ConfigError("say what is scored: either --metric, or --bench NAME=PATH.")
    records = _records(path)
    if bench is not None:
        from lhrs.evaluation.benchmark import open_benchmark
        from lhrs.evaluation.given import match

        opened = open_benchmark(bench)
        metric, records = opened.metric, match(opened.items(), records, opened.metric, str(path))
    if also and metric != "caption":
        raise ConfigError(f"--also {also[0]} is about captions, not {metric}.")
    try:
        if metric == "facts":
            from lhrs.evaluation.factual import score_facts

            found: dict[str, Any] = score_facts(records)
        else:
            found = score_records(records, str(metric), boxes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    for name in also:
        from lhrs.metrics.java import java_score

        found[name] = java_score(*captions_of(records), name)
    found |= {f"legacy {name}": legacy_score(records, name) for name in legacy}
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for name, value in found.items():
        if isinstance(value, dict):
            for part, number in value.items():
                typer.echo(f"  {part:24} {number:.4f}")
        elif isinstance(value, list):
            typer.echo(f"{name:26} {value[0]:.4f} - {value[1]:.4f}")
        else:
            typer.echo(f"{name:26} {value:,}" if isinstance(value, int) else f"{name:26} {value:.4f}")


def _records(path: Path) -> list[dict[str, Any]]:
    from lhrs.data.dataset import read_json, read_json_lines
    from lhrs.errors import DataError

    if path.suffix != ".json":
        return [row for _, row in read_json_lines(path)]
    records = read_json(path)
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{path} is not a list of records.")
    return records
