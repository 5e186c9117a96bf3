"""DOTA's submission files: `Task1_<class>.txt` with a line per box."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lhrs.atomic_io import atomic_dir, write_atomic
from lhrs.metrics.detection import Detections

_PREFIX = "Task1_"


def write_results(folder: Path, detections: Mapping[str, Detections], classes: Sequence[str]) -> None:
    """Write DOTA's submission: `Task1_<class>.txt` for every class, a line `image score x1 y1 ... x4 y4` per box.

    Args:
        folder: replaced if it exists.
        detections: by the image's name without suffix, in pixels of the image.
        classes: names in the order of labels.
    """
    with atomic_dir(folder) as part:
        for number, name in enumerate(classes):
            lines = [
                f"{image} {score:.6f} {' '.join(f'{v:.2f}' for v in corners.ravel())}\n"
                for image, objects in detections.items()
                for corners, score, label in zip(objects.corners, objects.scores, objects.labels, strict=True)
                if label == number
            ]
            write_atomic(part / f"{_PREFIX}{name}.txt", "".join(lines))
