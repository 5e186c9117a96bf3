"""`lhrs finetune`: one task on top of a backbone."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="finetune", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Finetune a backbone on a task. A stopped run resumes when the command is repeated.",
)  # fmt: skip

RunFile = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="Run file, such as those in recipes/downstream/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Override values of the file: optim.lr=1e-4 backbone.name=resnet18"),
]


def _run(task: str, run: Path, overrides: list[str] | None) -> None:
    from lhrs.errors import ConfigError
    from lhrs.training.dispatch import load_run, train

    settings = load_run(run, overrides or ())
    if settings.kind != task:
        raise ConfigError(f"{run} is a run of kind {settings.kind!r}, not {task!r}.")
    train(settings)


@app.command("classify")
def classify(run: RunFile, overrides: Overrides = None) -> None:
    """Scene classification.

    The result is OUTPUT_DIR/model, for `lhrs predict`, and OUTPUT_DIR/scores.json.
    """
    _run("classify", run, overrides)


@app.command("segment")
def segment(run: RunFile, overrides: Overrides = None) -> None:
    """Semantic segmentation.

    The result is OUTPUT_DIR/model, for `lhrs predict`, and OUTPUT_DIR/scores.json.
    """
    _run("segment", run, overrides)


@app.command("change")
def change(run: RunFile, overrides: Overrides = None) -> None:
    """Change detection between two dates.

    The result is OUTPUT_DIR/model, for `lhrs predict`, and OUTPUT_DIR/scores.json.
    """
    _run("change", run, overrides)


@app.command("detect")
def detect(run: RunFile, overrides: Overrides = None) -> None:
    """Object detection, with oriented or horizontal boxes.

    The result is OUTPUT_DIR/model, for `lhrs predict`, and OUTPUT_DIR/scores.json.
    """
    _run("detect", run, overrides)
