"""`lhrs train`: run a run file."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    run: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="Run file, such as those in recipes/.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Override values of the file: optim.lr=1e-5 data.0.path=my.jsonl"
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only open the data and print counts, the first sample and the expected memory."),
    ] = False,
) -> None:
    """Train a model by a run file.

    A stopped run resumes from its newest checkpoint when the command is repeated, and ends with the same weights.
    On several GPUs: torchrun --nproc-per-node 8 -m lhrs train RUN.yaml
    """
    from lhrs.training import dispatch

    config = dispatch.load_run(run, overrides or ())
    if not check:
        dispatch.train(config)
        return
    for line in dispatch.check(config):
        typer.echo(line)
