"""What curation needs to know of each sample, whatever the format it was read from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lhrs import fingerprint
from lhrs.align.table import read_table
from lhrs.data.dataset import Dataset, detect_format, open_dataset
from lhrs.schema import Sample

ALIGN = "align"
"""The reader of data sets that have facts, footprints, and shares of nodata and cloud."""


@dataclass(frozen=True)
class CurationRecord:
    """A sample, without its pixels."""

    id: str
    images: tuple[str, ...]
    answers: tuple[str, ...]
    """What the assistant says, turn by turn."""
    content_digest: str
    """Tells samples of the same images apart by all that is said of them: turns, labels, boxes."""
    attribution: str
    """Attribution, or the license."""
    facts: Sequence[dict[str, Any]] | None = None
    footprint: bytes | None = None
    """WKB, longitude and latitude."""
    nodata_fraction: float | None = None
    """As the data say; so the next."""
    cloud_fraction: float | None = None

    @property
    def text(self) -> str:
        return " ".join(self.answers)


def open_samples(path: Path, reader: str | None = None, split: str | None = None) -> tuple[Dataset, bool]:
    """Return the samples at `path`, and whether they are an alignment data set.

    Raises:
        ConfigError: no reader fits, or several do.
        DataError: something is missing or broken.
    """
    name = reader or detect_format(path)
    return open_dataset(path, name, split), name == ALIGN


def read_records(dataset: Dataset, is_align: bool) -> list[CurationRecord]:
    """Return all samples in their order.

    Raises:
        DataError: an annotation is broken.
    """
    if not is_align:
        return [_to_record(sample) for sample in dataset]
    names = ("facts", "geometry", "nodata_fraction", "cloud_fraction")
    rows = read_table(dataset.root, names)
    columns = [rows[name] for name in names]
    return [
        _to_record(
            sample, *(column[n].as_py() for column in columns)
        )  # row by row: all facts at once would fill memory
        for n, sample in enumerate(dataset)
    ]


def _to_record(
    sample: Sample,
    facts: Sequence[dict[str, Any]] | None = None,
    footprint: bytes | None = None,
    nodata_fraction: float | None = None,
    cloud_fraction: float | None = None,
) -> CurationRecord:
    about = sample.model_dump(mode="json", include={"turns", "labels", "boxes"})
    answers = (turn.text for turn in sample.turns if turn.role == "assistant")
    return CurationRecord(
        sample.id, tuple(sample.images), tuple(text for text in answers if text.strip()),
        fingerprint.sha256_of_bytes(json.dumps(about).encode()), sample.attribution or sample.license,
        facts, footprint, nodata_fraction, cloud_fraction,
    )  # fmt: skip
