"""Writes the accepted samples in the format of the input, and a table of all scores."""

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

from lhrs.align.table import INDEX, read_table, write_table
from lhrs.atomic_io import atomic_write, write_atomic
from lhrs.curate.filters import FilterDecision
from lhrs.curate.records import CurationRecord
from lhrs.data.dataset import Dataset, read_json
from lhrs.errors import DataError
from lhrs.jobs import MANIFEST

SAMPLES = "samples.jsonl"
SCORES = "scores.parquet"


def write_scores(
    records: Sequence[CurationRecord],
    scores: dict[str, np.ndarray],
    decisions: Sequence[FilterDecision],
    test: Sequence[CurationRecord],
    out: Path,
) -> None:
    """Write `scores.parquet`, a row per input sample: id, scores, whether it was accepted, and the reason if not."""
    matches = [decision.match for decision in decisions]
    resembles = [
        None if v.match is None else (test if v.reason in ("leak", "ground") else records)[v.match.index].id
        for v in decisions
    ]
    columns = {
        "id": pa.array([record.id for record in records], pa.string()),
        "image": pa.array([record.images[0] if record.images else None for record in records], pa.string()),
        **{name: pa.array(values, pa.float64(), from_pandas=True) for name, values in scores.items()},
        "accepted": pa.array([decision.reason is None for decision in decisions], pa.bool_()),
        "reason": pa.array([decision.reason for decision in decisions], pa.string()),
        "resembles": pa.array(resembles, pa.string()),
        "hash_bits": pa.array([match and match.bits for match in matches], pa.int32()),
        "similarity": pa.array([match and match.similarity for match in matches], pa.float64()),
    }
    with atomic_write(out / SCORES) as part:
        pq.write_table(pa.table(columns), part, compression="zstd", compression_level=3)


def write_samples(dataset: Dataset, accepted: Sequence[int], out: Path) -> dict[str, Any]:
    """Write accepted samples as JSON lines of the lhrs schema, with absolute image paths. Return the manifest."""
    licenses: Counter[str] = Counter()
    with atomic_write(out / SAMPLES) as part, part.open("w", encoding="utf-8") as file:
        for n in accepted:
            sample = dataset[n]
            licenses[sample.license] += 1
            file.write(sample.model_dump_json(exclude_defaults=True) + "\n")
    return {"kind": "lhrs-samples", "licenses": dict(sorted(licenses.items()))}


def write_align(data: Path, accepted: Sequence[int], out: Path) -> dict[str, Any]:
    """Write a caption dataset of the accepted rows. Images of the dataset are linked or copied. Return the manifest.

    Raises:
        DataError: the manifest or an image cannot be read.
    """
    table = read_table(data).take(pa.array(accepted))
    manifest = read_json(data / MANIFEST)
    images = table["image"].to_pylist()
    for n, image in enumerate(images):
        if image and not os.path.isabs(image):
            if ".." in Path(image).parts:  # in the source dataset of this one: reference it, do not copy
                images[n] = os.path.relpath((data / image).resolve(), out.resolve())
            else:
                _link(data / image, out / image)
    at = table.schema.get_field_index("image")
    table = table.set_column(at, "image", pa.array(images, pa.string()))
    write_table(table.append_column("number", pa.array(range(len(table)), pa.int64())), out / INDEX)
    attributions = sorted(set(table["attribution"].to_pylist()))
    write_atomic(out / "ATTRIBUTION.txt", "\n".join(attributions) + "\n")
    shapes = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
    return {
        **manifest,
        "image_licenses": sorted(set(filter(None, table["license"].to_pylist()))),
        "attribution": attributions,
        "num_images": len(table),
        "num_facts": len(table["facts"].combine_chunks().flatten()),
        "categories": dict(sorted(Counter(table["category"].to_pylist()).items())),
        "bounds": shapely.total_bounds(shapes).tolist(),
    }


def _link(source: Path, target: Path) -> None:
    """Create `target` as a hard link to `source`, or as a copy on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as part:
        try:
            os.link(source, part)
        except OSError:
            try:
                shutil.copyfile(source, part)
            except OSError as error:
                raise DataError(f"{source} cannot be copied: {error.strerror}.") from None
