"""`lhrs curate`: keeps the part of a dataset that is worth training on, and writes scores and a report.

Steps: read all samples, measure their images block by block, score the texts, filter, write. The same inputs and
settings give the same bytes on any number of workers, resumed or not.
"""

from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from lhrs import fingerprint
from lhrs.align.claim_check import claim_coverage_precision
from lhrs.align.table import rows_to_facts
from lhrs.atomic_io import prepare_output_dir
from lhrs.curate.alignment import EmbeddingModel
from lhrs.curate.duplicates import DuplicateCriteria
from lhrs.curate.filters import (
    REASONS,
    FilterDecision,
    drop_bad_images,
    drop_duplicates,
    drop_leaks,
    drop_low_scores,
)
from lhrs.curate.image_stats import SCHEMA as IMAGE_STATS
from lhrs.curate.image_stats import ImageStats, collect_image_stats, compute_image_stats
from lhrs.curate.quality import mean_rank_score, readability, specificity
from lhrs.curate.records import CurationRecord, open_samples, read_records
from lhrs.curate.report import write_report
from lhrs.curate.writers import write_align, write_samples, write_scores
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.jobs import Job
from lhrs.progress import Progress, no_progress

SCORES = ("alignment", "fact_coverage", "fact_precision", "readability", "specificity_bits")
"""Scores whose mean rank is the score of a sample."""
_BLOCK_SIZE = 128
"""Number of images per block."""
_VERSION = 1
"""Version of the image statistics. Increment it when they change."""


class CurationConfig(BaseModel):
    """Settings of `curate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    """Dataset: of `lhrs align build`, or any that `lhrs data` reads."""
    out: Path
    """New directory."""
    format: str | None = None
    """Format of the data; None detects it."""
    split: str | None = None
    test_sets: tuple[Path, ...] = ()
    """Datasets whose images must not be in the result."""
    phash_bits: int = 6
    """Largest distance of the perceptual hashes of near-duplicates; -1: hashes do not count."""
    embedding: str | None = None
    """Model whose embeddings find near-duplicates too."""
    embedding_threshold: float = 0.95
    """Smallest cosine of the embeddings of near-duplicates."""
    clip_model: str | None = None
    """CLIP-class model that scores the agreement of image and text."""
    max_nodata: float = 0.5
    """Largest fraction of an image without data."""
    max_cloud: float = 0.5
    """Largest fraction of an image under clouds."""
    min_sharpness: float = 0.0
    """Smallest variance of the Laplacian."""
    keep_fraction: float = 1.0
    """Fraction of what passes the other filters that is kept, best scores first."""


def curate(
    config: CurationConfig,
    *,
    num_workers: int = 1,
    progress: Progress = no_progress,
    dropped: Dropped | None = None,
) -> dict[str, Any]:
    """Write the curated dataset; return the part of its manifest about the curation.

    Args:
        config: the settings.
        num_workers: processes that measure images.
        progress: counts blocks of images.
        dropped: receives the counts of what the reader and the filters dropped, which are also in the manifest.

    Raises:
        DataError: an input is missing or broken, or no sample would be kept.
        ConfigError: a model cannot be loaded or is of the wrong kind, the directory contains other files, or there is
            no text to rank by.
    """
    prepare_output_dir(config.out)
    dropped = Dropped() if dropped is None else dropped
    dataset, is_align = open_samples(config.data, config.format, config.split)
    records = read_records(dataset, is_align)
    test = [record for path in config.test_sets for record in read_records(*open_samples(path))]
    if not records:
        raise DataError(f"{config.data} has no samples.")
    if config.keep_fraction < 1 and not any(record.text for record in records):
        raise ConfigError(f"--keep-fraction ranks by the texts of images, and {config.data} has none.")
    names = dict.fromkeys(name for name in (config.embedding, config.clip_model) if name)
    models = {name: EmbeddingModel(name, needs_text=name == config.clip_model) for name in names}

    with Job(config.out, _settings(config), _inputs(config, records, test)) as job:
        stats = _image_stats(job, [*records, *test], num_workers, progress)
        errors = [stats.errors[row] for record in records for row in stats.rows_of(record.images)]
        if errors and all(errors):
            job.discard()
            raise DataError(f"no image of {config.data} can be opened: {errors[0]}")
        features = {name: _embeddings(job, name, model, stats, progress) for name, model in models.items()}
        scores = _image_scores(records, stats) | _text_scores(records)
        if config.clip_model:
            clip = models[config.clip_model], features[config.clip_model]
            scores["alignment"] = _alignment(records, stats, *clip)
        scores["score"] = mean_rank_score([scores[name] for name in SCORES if name in scores])

        decisions = _filter(config, records, test, stats, scores, features)
        accepted = [n for n, decision in enumerate(decisions) if decision.reason is None]
        if not accepted:
            job.discard()
            counts = ", ".join(f"{count:,} {reason}" for reason, count in _counts(decisions).items())
            raise DataError(f"nothing of {config.data} is left: {counts}.")
        curated = {
            "lhrs": version("lhrs"),
            "settings": _settings(config),
            "num_samples": len(records),
            "num_accepted": len(accepted),
            "dropped": _counts(decisions),
        }
        write_scores(records, scores, decisions, test, config.out)
        write_report(dataset, records, scores, decisions, test, curated, config.out / "report.html")
        data = config.data
        manifest = write_align(data, accepted, config.out) if is_align else write_samples(dataset, accepted, config.out)
        dropped.update(dataset.dropped)
        for record, decision in zip(records, decisions, strict=True):
            if decision.reason is not None:
                dropped.add(REASONS[decision.reason], record.id)
        job.write_manifest({**manifest, "curated": curated}, dropped)
        job.finish()
    return curated


def _filter(
    config: CurationConfig, records: Sequence[CurationRecord], test: Sequence[CurationRecord], stats: ImageStats,
    scores: dict[str, np.ndarray], features: dict[str, np.ndarray],
) -> list[FilterDecision]:  # fmt: skip
    decisions = [FilterDecision() for _ in records]
    embeddings = features[config.embedding] if config.embedding else None
    criteria = DuplicateCriteria(
        stats.hashes, stats.thumbnails, config.phash_bits, embeddings, config.embedding_threshold
    )
    limits = config.max_nodata, config.max_cloud, config.min_sharpness
    drop_bad_images(decisions, records, stats, scores, *limits)
    if test:
        drop_leaks(decisions, records, stats, test, criteria)
    drop_duplicates(decisions, records, stats, scores["score"], criteria)
    drop_low_scores(decisions, scores["score"], config.keep_fraction)
    return decisions


def _settings(config: CurationConfig) -> dict[str, Any]:
    unused = {"out"} if config.embedding else {"out", "embedding_threshold"}
    settings = config.model_dump(mode="json", exclude=unused)
    return {name: value for name, value in settings.items() if value not in (None, [])}


def _inputs(
    config: CurationConfig, records: Sequence[CurationRecord], test: Sequence[CurationRecord]
) -> dict[str, str]:
    """Return the fingerprints of the image files and of all other inputs."""
    inputs = fingerprint.of_files(image for record in [*records, *test] for image in record.images)
    texts = [(record.id, record.content_digest) for record in [*records, *test]]
    return {**inputs, f"samples of {config.data}": fingerprint.of_config([_VERSION, texts])}


def _counts(decisions: Sequence[FilterDecision]) -> dict[str, int]:
    counts = Counter(decision.reason for decision in decisions)
    return {reason: counts[reason] for reason in REASONS if counts[reason]}


def _image_stats(job: Job, records: Sequence[CurationRecord], num_workers: int, progress: Progress) -> ImageStats:
    blocks = _blocks(sorted({image for record in records for image in record.images}))
    parts = job.map_blocks(
        blocks, compute_image_stats, "images", num_workers=num_workers, progress=progress, description="images"
    )
    tables = [IMAGE_STATS.empty_table(), *(pq.read_table(part, schema=IMAGE_STATS) for part in parts)]
    return collect_image_stats(pa.concat_tables(tables))


def _embeddings(job: Job, name: str, model: EmbeddingModel, stats: ImageStats, progress: Progress) -> np.ndarray:
    """Return float32 `(N, D)` of length 1; NaN where an image cannot be opened."""
    images = [image for image, row in stats.rows.items() if stats.errors[row] is None]

    def embed(block: Sequence[str]) -> pa.Table:
        return pa.table({"embedding": list(model.images(block))})

    # Blocks run sequentially: the model uses all cores or the accelerator.
    folder = f"embeddings-{fingerprint.of_config(name)}"
    parts = job.map_blocks(_blocks(images), embed, folder, progress=progress, description="embeddings")
    embeddings = [np.stack(pq.read_table(part)["embedding"].to_numpy(zero_copy_only=False)) for part in parts]
    if not embeddings:
        return np.empty((len(stats.rows), 0), np.float32)
    features = np.full((len(stats.rows), embeddings[0].shape[1]), np.nan, np.float32)
    features[stats.rows_of(images)] = np.concatenate(embeddings)
    return features


def _blocks(images: Sequence[str]) -> list[Sequence[str]]:
    return [images[start : start + _BLOCK_SIZE] for start in range(0, len(images), _BLOCK_SIZE)]


def _image_scores(records: Sequence[CurationRecord], stats: ImageStats) -> dict[str, np.ndarray]:
    """Return sharpness and nodata fraction of the worst image of each sample. Metadata take precedence."""
    rows = [stats.rows_of(record.images) for record in records]
    sharp = [stats.sharpness[row].min() if row else np.nan for row in rows]
    empty = [stats.nodata_fraction[row].max() if row else np.nan for row in rows]
    metadata = [(record.nodata_fraction, record.cloud_fraction) for record in records]
    return {
        "sharpness": np.array(sharp, float),
        "nodata_fraction": np.array([e if s is None else s for e, (s, _) in zip(empty, metadata, strict=True)], float),
        "cloud_fraction": np.array([np.nan if c is None else c for _, c in metadata], float),
    }


def _text_scores(records: Sequence[CurationRecord]) -> dict[str, np.ndarray]:
    """Return the scores of texts, NaN where there are none."""
    about = [
        claim_coverage_precision(record.text, rows_to_facts(record.facts))
        if record.facts and record.text else (np.nan, np.nan)
        for record in records
    ]  # fmt: skip
    read = [[value for text in e.answers if (value := readability(text)) is not None] for e in records]
    return {
        "fact_coverage": np.array([coverage for coverage, _ in about], float),
        "fact_precision": np.array([precision for _, precision in about], float),
        "readability": np.array([round(float(np.mean(values)), 4) if values else np.nan for values in read], float),
        "specificity_bits": specificity([record.text for record in records]),
    }


def _alignment(
    records: Sequence[CurationRecord], stats: ImageStats, model: EmbeddingModel, features: np.ndarray
) -> np.ndarray:
    """Return the cosine of text and image, the mean over several images."""
    texts = sorted({record.text for record in records if record.text and record.images})
    place = {text: n for n, text in enumerate(texts)}
    embedded = model.texts(texts)
    values = [
        float((features[stats.rows_of(record.images)] @ embedded[place[record.text]]).mean())
        if record.text and record.images else np.nan
        for record in records
    ]  # fmt: skip
    return np.round(np.array(values, float), 4)
