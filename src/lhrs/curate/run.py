"""`lhrs curate`: a data set in, the part of it that is worth learning from out, with scores and a report.

The plan: read all samples, measure their images block by block, score what is said of them, judge, write. The same
inputs and settings give the same bytes, on any number of workers, stopped or not.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lhrs.align.claims import fact_scores
from lhrs.align.records import facts_of
from lhrs.blocks import run_blocks
from lhrs.curate.alignment import Encoder
from lhrs.curate.choose import (
    REASONS,
    Verdict,
    drop_bad_images,
    drop_duplicates,
    drop_leaks,
    drop_low_scores,
)
from lhrs.curate.duplicates import Likeness
from lhrs.curate.entries import Entry, open_samples, read_entries, stamp
from lhrs.curate.pictures import SCHEMA as PICTURES
from lhrs.curate.pictures import Pictures, gather, measure
from lhrs.curate.quality import overall, readability, specificity
from lhrs.curate.report import write_report
from lhrs.curate.write import MANIFEST, write_align, write_samples, write_scores
from lhrs.errors import ConfigError, DataError
from lhrs.files import claim_folder, write_file

MEASURES = ("alignment", "fact_coverage", "fact_precision", "readability", "specificity_bits")
"""What the score is made of."""
_BLOCK = 128
"""Images."""
_VERSION = 1
"""Of what is measured; raised when it changes."""
Progress = Callable[[str, int], Callable[[], None]]


@dataclass(frozen=True)
class Curation:
    """What to keep of what."""

    data: Path
    out: Path
    reader: str | None = None
    split: str | None = None
    against: tuple[Path, ...] = ()
    """Test sets that must not be given away."""
    hash_bits: int = 6
    """Distance of perceptual hashes up to which images are near; -1: they do not count."""
    embedding: str | None = None
    """Model by whose embeddings images are near too."""
    similarity: float = 0.95
    """Least cosine of these."""
    alignment: str | None = None
    """CLIP-class model that scores how well image and text go together."""
    max_nodata: float = 0.5
    max_cloud: float = 0.5
    min_sharpness: float = 0.0
    top_p: float = 1.0
    """Share of what the other filters leave that stays, the best first."""


def curate(job: Curation, workers: int = 1, progress: Progress = lambda what, total: lambda: None) -> dict[str, Any]:
    """Write the curated data set; returns what the manifest says of it.

    Args:
        job: what.
        workers: processes that measure images.
        progress: given what is done and in how many blocks, returns what to call after each.

    Raises:
        DataError: an input is missing or broken, or nothing would be left.
        ConfigError: a model cannot be loaded or is of the wrong kind, the folder holds something else, or there is
            nothing to rank by.
    """
    work = claim_folder(job.out)
    dataset, is_align = open_samples(job.data, job.reader, job.split)
    entries = read_entries(dataset, is_align)
    test = [entry for path in job.against for entry in read_entries(*open_samples(path))]
    if not entries:
        raise DataError(f"{job.data} has no samples.")
    if job.top_p < 1 and not any(entry.text for entry in entries):
        raise ConfigError(f"--top-p ranks by what is said of images, and {job.data} says nothing.")
    models = dict.fromkeys(name for name in (job.embedding, job.alignment) if name)
    encoders = {name: Encoder(name, needs_text=name == job.alignment) for name in models}

    pictures = _measured([*entries, *test], work, workers, progress)
    errors = [pictures.errors[row] for entry in entries for row in pictures.of(entry.images)]
    if errors and all(errors):
        raise DataError(f"no image of {job.data} can be opened: {errors[0]}")
    features = {name: _embedded(name, model, pictures, work, progress) for name, model in encoders.items()}
    scores = _image_scores(entries, pictures) | _text_scores(entries)
    if job.alignment:
        scores["alignment"] = _alignment(entries, pictures, features[job.alignment], encoders[job.alignment])
    scores["score"] = overall([scores[name] for name in MEASURES if name in scores])

    verdicts = [Verdict() for _ in entries]
    embeddings = features[job.embedding] if job.embedding else None
    likeness = Likeness(pictures.hashes, pictures.thumbnails, job.hash_bits, embeddings, job.similarity)
    drop_bad_images(verdicts, entries, pictures, scores, job.max_nodata, job.max_cloud, job.min_sharpness)
    if test:
        drop_leaks(verdicts, entries, pictures, test, likeness)
    drop_duplicates(verdicts, entries, pictures, scores["score"], likeness)
    drop_low_scores(verdicts, scores["score"], job.top_p)
    kept = [n for n, verdict in enumerate(verdicts) if verdict.reason is None]
    if not kept:
        raise DataError(f"nothing of {job.data} is left: {_told(_counts(verdicts))}.")

    curated = {
        "lhrs": version("lhrs"),
        "settings": _settings(job),
        "samples": len(entries),
        "kept": len(kept),
        "left out": _counts(verdicts),
    }
    write_scores(entries, scores, verdicts, test, job.out)
    write_report(dataset, entries, scores, verdicts, test, curated, job.out / "report.html")
    manifest = write_align(job.data, kept, job.out) if is_align else write_samples(dataset, kept, job.out)
    write_file(job.out / MANIFEST, json.dumps({**manifest, "curated": curated}, indent=1, ensure_ascii=False) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return curated


def _settings(job: Curation) -> dict[str, Any]:
    unused = {"out"} if job.embedding else {"out", "similarity"}
    return {
        name: [str(path) for path in value] if name == "against" else str(value) if isinstance(value, Path) else value
        for name, value in job.__dict__.items()
        if name not in unused and value not in (None, ())
    }


def _counts(verdicts: Sequence[Verdict]) -> dict[str, int]:
    counts = Counter(verdict.reason for verdict in verdicts)
    return {reason: counts[reason] for reason in REASONS if counts[reason]}


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} for {reason}" for reason, count in counts.items())


def _measured(entries: Sequence[Entry], work: Path, workers: int, progress: Progress) -> Pictures:
    images = sorted({image for entry in entries for image in entry.images})
    blocks = _blocks(images)
    key = _key(images)
    parts = run_blocks(blocks, measure, work / "pictures", key, "local", workers, progress("images", len(blocks)))
    return gather(pa.concat_tables([PICTURES.empty_table(), *(pq.read_table(part, schema=PICTURES) for part in parts)]))


def _embedded(name: str, model: Encoder, pictures: Pictures, work: Path, progress: Progress) -> np.ndarray:
    """Return float32 `(N, D)` of length 1; NaN where an image cannot be opened."""
    images = [image for image, row in pictures.rows.items() if pictures.errors[row] is None]
    blocks = _blocks(images)
    key = _key([*images, name])

    def embed(block: Sequence[str]) -> pa.Table:
        return pa.table({"embedding": list(model.images(block))})

    # One after another: a model has all cores, or the accelerator, to itself.
    parts = run_blocks(blocks, embed, work / "embeddings", key, done=progress("embeddings", len(blocks)))
    found = [np.stack(pq.read_table(part)["embedding"].to_numpy(zero_copy_only=False)) for part in parts]
    if not found:
        return np.empty((len(pictures.rows), 0), np.float32)
    features = np.full((len(pictures.rows), found[0].shape[1]), np.nan, np.float32)
    features[pictures.of(images)] = np.concatenate(found)
    return features


def _blocks(images: Sequence[str]) -> list[Sequence[str]]:
    return [images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK)]


def _key(paths: Sequence[str]) -> str:
    text = json.dumps([_VERSION, [stamp(path) or path for path in paths]])
    return hashlib.sha256(text.encode()).hexdigest()


def _image_scores(entries: Sequence[Entry], pictures: Pictures) -> dict[str, np.ndarray]:
    """Return the least sharp and the emptiest image of each sample; what the data say goes before what is measured."""
    rows = [pictures.of(entry.images) for entry in entries]
    sharp = [pictures.sharpness[row].min() if row else np.nan for row in rows]
    empty = [pictures.nodata_share[row].max() if row else np.nan for row in rows]
    said = [(entry.nodata_share, entry.cloud_share) for entry in entries]
    return {
        "sharpness": np.array(sharp, float),
        "nodata_share": np.array([e if s is None else s for e, (s, _) in zip(empty, said, strict=True)], float),
        "cloud_share": np.array([np.nan if c is None else c for _, c in said], float),
    }


def _text_scores(entries: Sequence[Entry]) -> dict[str, np.ndarray]:
    """Return what can be said of texts, NaN where there are none."""
    about = [fact_scores(e.text, facts_of(e.facts)) if e.facts and e.text else (np.nan, np.nan) for e in entries]
    read = [[value for text in e.answers if (value := readability(text)) is not None] for e in entries]
    return {
        "fact_coverage": np.array([coverage for coverage, _ in about], float),
        "fact_precision": np.array([precision for _, precision in about], float),
        "readability": np.array([round(float(np.mean(values)), 4) if values else np.nan for values in read], float),
        "specificity_bits": specificity([entry.text for entry in entries]),
    }


def _alignment(entries: Sequence[Entry], pictures: Pictures, features: np.ndarray, model: Encoder) -> np.ndarray:
    """Return the cosine of what is said and the image, the mean over several images."""
    texts = sorted({entry.text for entry in entries if entry.text and entry.images})
    place = {text: n for n, text in enumerate(texts)}
    embedded = model.texts(texts)
    values = [
        float((features[pictures.of(entry.images)] @ embedded[place[entry.text]]).mean())
        if entry.text and entry.images else np.nan
        for entry in entries
    ]  # fmt: skip
    return np.round(np.array(values, float), 4)
