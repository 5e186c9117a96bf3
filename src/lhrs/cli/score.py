"""`lhrs score`: score a file of predictions of any model."""

from pathlib import Path

import typer


def score(
    path: Path = typer.Argument(help=".jsonl or .json: records with `prediction` and `answer`."),
    metric: str | None = typer.Option(
        None, help="vqa, classify, count, choice, grounding, detection, caption, honesty or facts.", show_default=False
    ),
    benchmark: str | None = typer.Option(
        None,
        metavar="NAME=PATH",
        help="Read the true answers from a benchmark; records have `id` and `prediction`.",
        show_default=False,
    ),
    boxes: str = typer.Option("pixels", help="How boxes are written: pixels, norm1, percent, norm1000, nova, qwen."),
    extra_metric: list[str] = typer.Option([], help="For captions: meteor, spice (need Java and pycocoevalcap)."),
    legacy: list[str] = typer.Option([], help="Add the score of a published scorer; `list` lists them."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Score predictions strictly: a prediction that cannot be parsed is wrong, and is counted."""
    import json

    if "list" in legacy:
        from lhrs.metrics.legacy import LEGACY

        for scorer in LEGACY.values():
            typer.echo(f"{scorer.name:20} {scorer.source}: {scorer.defect}")
        return
    from lhrs.evaluation.score import score

    scores = score(
        path, metric=metric, benchmark=benchmark, box_format=boxes, extra_metrics=extra_metric, legacy=legacy
    )
    if as_json:
        typer.echo(json.dumps(scores, ensure_ascii=False))
        return
    for name, value in scores.items():
        if isinstance(value, dict):
            for part, number in value.items():
                typer.echo(f"  {part:24} {number:.4f}")
        elif isinstance(value, list):
            typer.echo(f"{name:26} {value[0]:.4f} - {value[1]:.4f}")
        else:
            typer.echo(f"{name:26} {value:,}" if isinstance(value, int) else f"{name:26} {value:.4f}")
