"""`lhrs finetune`: one task on top of a backbone."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from lhrs import registry

app = typer.Typer(
    name="finetune", no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Finetune a backbone on a task. A stopped run resumes when the command is repeated.",
)  # fmt: skip

RunFile = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="Run file, such as those in recipes/downstream/.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Override values of the file: optim.lr=1e-4 backbone.name=resnet18"),
]

_KNOWN = {
    "classify": "scene classification", "segment": "semantic segmentation", "change": "change detection",
    "detect": "object detection",
}  # fmt: skip


def _command(task: str) -> Callable[..., None]:
    def run_task(run: RunFile, overrides: Overrides = None) -> None:
        from lhrs.errors import ConfigError
        from lhrs.training.dispatch import load_run, train

        settings = load_run(run, overrides or ())
        if settings.kind != task:
            raise ConfigError(f"{run} is a run of kind {settings.kind!r}, not {task!r}.")
        train(settings)

    return run_task


for _task in registry.list_components("lhrs.downstream.tasks"):
    _help = f"Finetune on {_KNOWN.get(_task, _task)}. The result is OUTPUT_DIR/model and OUTPUT_DIR/scores.json."
    app.command(_task, help=_help)(_command(_task))
