"""Samples as curation reads them, independent of the dataset format."""

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
"""Format of datasets with facts, footprints, and fractions of nodata and cloud."""


@dataclass(frozen=True)
class CurationRecord:
    """A sample, without its pixels."""

    id: str
    images: tuple[str, ...]
    answers: tuple[str, ...]
    """Texts of the assistant, one per turn."""
    content_digest: str
    """Digest of all annotations of a sample: turns, labels, boxes. It distinguishes samples of the same images."""
    attribution: str
    """Attribution, or the license."""
    facts: Sequence[dict[str, Any]] | None = None
    footprint: bytes | None = None
    """WKB, longitude and latitude."""
    nodata_fraction: float | None = None
    """From the metadata; also `cloud_fraction`."""
    cloud_fraction: float | None = None

    @property
    def text(self) -> str:
        return " ".join(self.answers)


def open_samples(path: Path, format: str | None = None, split: str | None = None) -> tuple[Dataset, bool]:
    """Return the samples at `path`, and whether they are a dataset of `lhrs align build`.

    Raises:
        ConfigError: no format matches, or several do.
        DataError: a file is missing or broken.
    """
    name = format or detect_format(path)
    return open_dataset(path, name, split), name == ALIGN


def read_records(dataset: Dataset, is_align: bool) -> list[CurationRecord]:
    """Return all samples in the order of the dataset.

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
