"""What run files of every kind have."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from lhrs.config import Config

Share = Annotated[float, Field(ge=0, le=1)]


class Run(Config):
    """What every kind of training has."""

    kind: str
    out: Path
    """Folder of the run: the resolved run file, checkpoints, TensorBoard, and at the end the result."""
    seed: NonNegativeInt = 0
    """Initial weights, data order, augmentation and dropout follow from it."""
    log_every: PositiveInt = 50
    save_every: PositiveInt = 500
    """Optimizer steps between checkpoints; a run that was stopped goes on from the newest."""
    workers: NonNegativeInt = 0
    """Processes that read data; the result does not depend on it."""
    threads: PositiveInt | None = None
    """CPU threads of torch; None leaves it to torch. Sums round differently on another number."""
    cpu: bool = False
    bf16: bool = False
    """Compute in bfloat16; trained weights stay in float32."""
