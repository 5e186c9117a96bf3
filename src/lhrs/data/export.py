"""Export of datasets to formats of other tools. A format is a module of `lhrs.data.exporters`."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from lhrs import registry
from lhrs.atomic_io import atomic_dir
from lhrs.data.dataset import Dataset
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError
from lhrs.progress import Progress, no_progress

EXPORTERS = "lhrs.data.exporters"
"""The package of the built-in exporters, and the entry-point group of external ones."""


class Exporter(ABC):
    """Writes a dataset in one format. Its docstring says what it writes; what the format lacks is counted."""

    homepage: ClassVar[str]
    """Reference of the format."""

    @abstractmethod
    def write(self, dataset: Dataset, folder: Path, dropped: Dropped, progress: Progress) -> int:
        """Write all samples to an existing empty folder, and return how many items it now has.

        Args:
            dataset: The samples.
            folder: Empty.
            dropped: Counts what the format lacks.
            progress: Counts samples.

        Raises:
            DataError: An annotation or an image is broken.
            ConfigError: The dataset has nothing that this format is for.
        """


def export_names() -> list[str]:
    """Return the names of the formats, as an option has them: `label-studio`."""
    return [name.replace("_", "-") for name in registry.list_components(EXPORTERS)]


def export_dataset(
    dataset: Dataset, out: Path, name: str, dropped: Dropped | None = None, progress: Progress = no_progress
) -> int:
    """Write a dataset in another format, and return the number of items (images, or conversations).

    The folder appears when it is complete.

    Args:
        dataset: The samples.
        out: A new folder.
        name: One of `export_names()`.
        dropped: Counts what the format lacks.
        progress: Counts samples.

    Raises:
        ConfigError: There is no such format, or the folder exists and is not empty.
        DataError: An annotation or an image is broken.
    """
    exporter = registry.get_component(EXPORTERS, name.replace("-", "_"), Exporter)()  # type: ignore[type-abstract]
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out} exists already; name another folder, or remove it.")
    with atomic_dir(out) as part:
        return exporter.write(dataset, part, Dropped() if dropped is None else dropped, progress)
