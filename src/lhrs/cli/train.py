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
) -> None:
    """Train a model by a run file.

    A stopped run resumes from its newest checkpoint when the command is repeated, and ends with the same weights.
    On several GPUs: torchrun --nproc-per-node 8 -m lhrs train RUN.yaml
    """
    from lhrs.training.dispatch import load_run
    from lhrs.training.dispatch import train as carry_out

    carry_out(load_run(run, overrides or ()))
