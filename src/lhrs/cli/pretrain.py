"""`lhrs pretrain`: pretrain a backbone on images without labels."""

from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    run: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="Run file, such as recipes/cmid-resnet50.yaml.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Override values of the file: optim.epochs=10 backbone.size=96"),
    ] = None,
) -> None:
    """Pretrain a backbone with CMID, without labels.

    A stopped run resumes from its newest checkpoint when the command is repeated. The result is OUTPUT_DIR/model, which
    timm loads: timm.create_model("local-dir:OUTPUT_DIR/model", pretrained=True). On several GPUs:
    torchrun --nproc-per-node 8 -m lhrs pretrain RUN.yaml
    """
    from lhrs.errors import ConfigError
    from lhrs.training.cmid_config import CMIDConfig
    from lhrs.training.dispatch import load_run, train
    from lhrs.training.malloc import tune_malloc

    settings = load_run(run, overrides or ())
    if not isinstance(settings, CMIDConfig):
        raise ConfigError(f"{run} is a run of kind {settings.kind!r}: give it to `lhrs train`.")
    tune_malloc()
    train(settings)
