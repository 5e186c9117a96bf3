"""`lhrs pretrain`: teach a backbone on images without labels."""

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    run: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="Run file, such as recipes/cmid-resnet50.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Other values than the file's: fit.epochs=10 backbone.size=96"),
    ] = None,
) -> None:
    """Pretrain a backbone with CMID, without labels.

    A run that was stopped goes on from its newest checkpoint when the same command is given again. The result is
    OUT/backbone, which timm loads: timm.create_model("local-dir:OUT/backbone", pretrained=True). On several GPUs:
    torchrun --nproc-per-node 8 -m lhrs pretrain RUN.yaml
    """
    from lhrs.errors import ConfigError
    from lhrs.training.dispatch import load_run, train
    from lhrs.training.heap import keep_freed_memory
    from lhrs.training.pretrain_run import PretrainRun

    settings = load_run(run, overrides or ())
    if not isinstance(settings, PretrainRun):
        raise ConfigError(f"{run} is a run of kind {settings.kind!r}: give it to `lhrs train`.")
    keep_freed_memory()
    train(settings)
