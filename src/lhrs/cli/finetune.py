"""`lhrs finetune`: one task on top of a backbone."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="finetune", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Teach a backbone a task. A run that was stopped goes on when the same command is given again.",
)  # fmt: skip

RunFile = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="Run file, such as those in recipes/downstream/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Other values than the file's: fit.lr=1e-4 backbone.name=resnet18"),
]


def _carry_out(task: str, run: Path, overrides: list[str] | None) -> None:
    from lhrs.errors import ConfigError
    from lhrs.training.dispatch import load_run, train

    settings = load_run(run, overrides or ())
    if settings.kind != f"finetune-{task}":
        raise ConfigError(f"{run} is a run of kind {settings.kind!r}, not 'finetune-{task}'.")
    train(settings)


@app.command("classify")
def classify(run: RunFile, overrides: Overrides = None) -> None:
    """Classes of scenes. The result is OUT/model, for `lhrs predict`, and OUT/scores.json."""
    _carry_out("classify", run, overrides)


@app.command("segment")
def segment(run: RunFile, overrides: Overrides = None) -> None:
    """Classes of pixels. The result is OUT/model, for `lhrs predict`, and OUT/scores.json."""
    _carry_out("segment", run, overrides)


@app.command("change")
def change(run: RunFile, overrides: Overrides = None) -> None:
    """Change between two dates. The result is OUT/model, for `lhrs predict`, and OUT/scores.json."""
    _carry_out("change", run, overrides)


@app.command("detect")
def detect(run: RunFile, overrides: Overrides = None) -> None:
    """Objects, with oriented or horizontal boxes. The result is OUT/model, for `lhrs predict`, and OUT/scores.json."""
    _carry_out("detect", run, overrides)
