"""`lhrs score`: score a file of answers, whoever gave them."""

from pathlib import Path

import typer


def score(
    path: Path = typer.Argument(help=".jsonl or .json: records with `prediction` and `answer`."),
    metric: str = typer.Option(..., help="vqa, classify, count, choice, grounding or caption."),
    boxes: str = typer.Option("pixels", help="How boxes are written: pixels, unit, percent, thousand, nova, qwen."),
    legacy: list[str] = typer.Option([], help="Beside it, what this published scorer makes of them; `list` names all."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Score answers strictly: what cannot be parsed is wrong, and counted."""
    import json

    from lhrs.data.dataset import read_json, read_json_lines
    from lhrs.errors import DataError
    from lhrs.metrics.legacy import LEGACY
    from lhrs.metrics.records import legacy_score, score_records

    if "list" in legacy:
        for one in LEGACY.values():
            typer.echo(f"{one.name:20} {one.source}: {one.defect}")
        return
    if path.suffix == ".json":
        records = read_json(path)
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise DataError(f"{path} is not a list of records.")
    else:
        records = [row for _, row in read_json_lines(path)]
    try:
        found = score_records(records, metric, boxes)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
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
