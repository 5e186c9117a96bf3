"""The answers about a scene."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lhrs.imagery.discover import ImageSource
from lhrs.imagery.merge_detections import Merged
from lhrs.imagery.scene import Scene
from lhrs.imagery.windows import SceneWindow

UNCHANGED, CHANGED = "unchanged", "changed"


@dataclass(frozen=True)
class Result:
    """The answers about one scene."""

    source: ImageSource
    scene: Scene
    after: Scene | None
    windows: Sequence[SceneWindow]
    rows: list[dict[str, Any]]
    """One row per window, in order; see `lhrs.scene.window_inference`."""
    objects: Merged | None
    """Merged objects of task `ground`; None for other tasks."""


def class_code(row: dict[str, Any], names: Sequence[str]) -> int:
    """Return a window's code in the raster: 0 without an answer, 1 for the first name."""
    if row["answer"] is None:
        return 0
    if row["answer_before"] is not None:
        return names.index(CHANGED if row["answer"] != row["answer_before"] else UNCHANGED) + 1
    return names.index(row["answer"]) + 1
