"""What curation leaves behind: the kept samples in the format they came in, and a table of all scores."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from lhrs.align.records import INDEX, MANIFEST, read_index, write_index
from lhrs.curate.choose import Verdict
from lhrs.curate.entries import Entry
from lhrs.data.dataset import Dataset, read_json
from lhrs.errors import DataError
from lhrs.files import write_file, written_whole

SAMPLES = "samples.jsonl"
SCORES = "scores.parquet"


def write_scores(
    entries: Sequence[Entry],
    scores: dict[str, np.ndarray],
    verdicts: Sequence[Verdict],
    test: Sequence[Entry],
    out: Path,
) -> None:
    """Write `scores.parquet`, a row per sample of the input: id, scores, whether it was kept, and why not."""
    matches = [verdict.match for verdict in verdicts]
    resembles = [
        None if v.match is None else (test if v.reason in ("leak", "ground") else entries)[v.match.index].id
        for v in verdicts
    ]
    columns = {
        "id": pa.array([entry.id for entry in entries], pa.string()),
        "image": pa.array([entry.images[0] if entry.images else None for entry in entries], pa.string()),
        **{name: pa.array(values, pa.float64(), from_pandas=True) for name, values in scores.items()},
        "kept": pa.array([verdict.reason is None for verdict in verdicts], pa.bool_()),
        "reason": pa.array([verdict.reason for verdict in verdicts], pa.string()),
        "resembles": pa.array(resembles, pa.string()),
        "hash_bits": pa.array([match and match.bits for match in matches], pa.int32()),
        "similarity": pa.array([match and match.similarity for match in matches], pa.float64()),
    }
    with written_whole(out / SCORES) as part:
        pq.write_table(pa.table(columns), part, compression="zstd", compression_level=3)


def write_samples(dataset: Dataset, kept: Sequence[int], out: Path) -> dict[str, Any]:
    """Write kept samples as JSON lines of our schema, images by absolute path; returns the manifest."""
    licences: Counter[str] = Counter()
    with written_whole(out / SAMPLES) as part, part.open("w", encoding="utf-8") as file:
        for n in kept:
            sample = dataset[n]
            licences[sample.licence] += 1
            file.write(sample.model_dump_json(exclude_defaults=True) + "\n")
    return {"kind": "lhrs-samples", "licence": dict(sorted(licences.items()))}


def write_align(data: Path, kept: Sequence[int], out: Path) -> dict[str, Any]:
    """Write an alignment data set of the kept rows, its own images linked or copied; returns the manifest.

    Raises:
        DataError: the manifest or an image cannot be read.
    """
    table = read_index(data).take(pa.array(kept))
    manifest = read_json(data / MANIFEST)
    images = table["image"].to_pylist()
    for n, image in enumerate(images):
        if image and not os.path.isabs(image):
            if ".." in Path(image).parts:  # of another data set, which this one was told from: not ours to write
                images[n] = os.path.relpath((data / image).resolve(), out.resolve())
            else:
                _link(data / image, out / image)
    at = table.schema.get_field_index("image")
    table = table.set_column(at, "image", pa.array(images, pa.string()))
    write_index(table.append_column("number", pa.array(range(len(table)), pa.int64())), out / INDEX)
    credits_ = sorted(set(table["attribution"].to_pylist()))
    write_file(out / "ATTRIBUTION.txt", "\n".join(credits_) + "\n")
    licence = {**manifest.get("licence", {}), "images": sorted(set(filter(None, table["licence"].to_pylist())))}
    shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    return {
        **manifest,
        "licence": licence,
        "attribution": credits_,
        "images with captions": len(table),
        "facts": len(table["facts"].combine_chunks().flatten()),
        "categories": dict(sorted(Counter(table["category"].to_pylist()).items())),
        "bounds": shapely.total_bounds(shapes).tolist(),
    }


def _link(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, or a copy on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(target) as part:
        try:
            os.link(source, part)
        except OSError:
            try:
                shutil.copyfile(source, part)
            except OSError as error:
                raise DataError(f"{source} cannot be copied: {error.strerror}.") from None
