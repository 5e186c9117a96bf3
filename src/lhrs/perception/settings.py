"""Settings of a model with dense heads, and the sizes at which it sees an image."""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from lhrs.errors import CheckpointError
from lhrs.perception.evidence import HeadNames

STRIDE = 32
"""Sides of the network's input are multiples of it."""
FILE_NAME = "perception.json"


class PerceptionSettings(BaseModel):
    """What the outputs of the dense heads mean, and what was fitted on held-out images."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenes: tuple[str, ...]
    tags: tuple[str, ...]
    cover: tuple[str, ...]
    objects: tuple[str, ...]
    mean: tuple[float, float, float]
    """Per band, of values in [0, 1]."""
    std: tuple[float, float, float]
    min_scores: dict[str, float] = {}
    """Smallest score of a detection by object class."""
    temperatures: dict[str, float] = {}
    """Of `scene`, `tags` and `cover`; 1 where there is none."""
    overview_px: int = 256
    """Longer side at which the whole image is seen."""
    detail_px: int = 512
    """Side of the windows of larger images, at their own resolution."""

    @property
    def names(self) -> HeadNames:
        """Names of the heads' outputs."""
        return HeadNames(self.scenes, self.tags, self.cover, self.objects)


def read_settings(folder: Path) -> PerceptionSettings:
    """Read `perception.json`.

    Raises:
        CheckpointError: it is missing or broken.
    """
    path = folder / FILE_NAME
    try:
        return PerceptionSettings.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError) as error:
        raise CheckpointError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def overview_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Return the (width, height) at which a whole image is seen.

    Small images are enlarged to about twice their size, as in training; the aspect is kept up to rounding.
    """
    side = max(width, height)
    target = 128 if side <= 96 else min(max(side, 128), longest)
    return _rounded(width * target / side), _rounded(height * target / side)


def _rounded(length: float) -> int:
    return max(STRIDE, STRIDE * round(length / STRIDE))
