"""Export of samples as WebDataset shards: files of one sample share their name up to the first dot."""

import io
import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

from lhrs import fingerprint
from lhrs.atomic_io import atomic_write
from lhrs.data.dataset import Dataset
from lhrs.dropped import Dropped
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.image import open_image
from lhrs.imagery.locations import is_8bit_image, is_part_of_file, open_binary
from lhrs.jobs import MANIFEST, Job
from lhrs.progress import Progress, no_progress
from lhrs.schema import Sample

_PLAIN = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}
"""Formats that are copied, by their first bytes."""


def write_shards(
    dataset: Sequence[Sample], out: Path, per_shard: int = 1000, progress: Progress = no_progress
) -> list[Path]:
    """Write samples and a manifest, and return the shards. Existing shards of the same samples are not rewritten.

    PNG, JPEG and WebP files are copied; other images are rendered as PNG. The output is deterministic.

    Args:
        dataset: samples; of several images, NAME.0.png is the first, and so on.
        out: directory.
        per_shard: samples per file.
        progress: counts samples.

    Raises:
        DataError: an image cannot be read.
        ConfigError: the directory contains other files, or shards of samples that have changed since.
    """
    total = -(-len(dataset) // per_shard)
    files = [out / f"shard-{n:06d}.tar" for n in range(total)]
    # The work directory is kept, so that a finished export is also resumed without rewriting.
    with Job(out, {"per_shard": per_shard}, _inputs(dataset)) as job, progress("writing", len(dataset)) as bar:
        if any(path not in (*files, out / MANIFEST) and not path.name.startswith(".") for path in out.iterdir()):
            raise ConfigError(f"{out} contains other files; name another folder.")
        for n, file in enumerate(files):
            part = range(n * per_shard, min((n + 1) * per_shard, len(dataset)))
            if not file.exists():
                _write_shard(file, dataset, part)
            bar.update(len(part))
        dropped = dataset.dropped if isinstance(dataset, Dataset) else Dropped()
        job.write_manifest({"kind": "webdataset", "num_samples": len(dataset), "num_shards": total}, dropped)
    return files


def _inputs(dataset: Sequence[Sample]) -> dict[str, str]:
    """Return the fingerprints of the image files, and of all samples."""
    images, texts = [], []
    for sample in dataset:
        images += sample.images
        texts.append(sample.model_dump_json().encode())
    return {**fingerprint.of_files(images), "samples": fingerprint.of_bytes(*texts)}


def _write_shard(file: Path, dataset: Sequence[Sample], indices: range) -> None:
    with atomic_write(file) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        for index in indices:
            for suffix, content in _files(dataset[index]):
                info = tarfile.TarInfo(f"{index:09d}{suffix}")  # without times and owners, for deterministic bytes
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


def _files(sample: Sample) -> list[tuple[str, bytes]]:
    files = []
    for number, (suffix, content) in enumerate(map(_image, sample.images)):
        files.append((suffix if len(sample.images) == 1 else f".{number}{suffix}", content))
    answers = [turn.text for turn in sample.turns if turn.role == "assistant"] or sample.labels
    if answers:
        files.append((".txt", answers[-1].encode()))
    annotations = sample.model_dump(mode="json", exclude_defaults=True, exclude={"images"})
    return [*files, (".json", json.dumps(annotations, ensure_ascii=False).encode())]


def _image(path: str) -> tuple[str, bytes]:
    if os.path.isfile(path) or is_part_of_file(path):
        try:
            with open_binary(path) as file:
                content = file.read()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from error
        suffix = next((suffix for start, suffix in _PLAIN.items() if content.startswith(start)), None)
        if suffix is not None and is_8bit_image(content[:32]):
            return suffix, content
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(open_image(path, None).pixels).save(buffer, format="PNG")
    return ".png", buffer.getvalue()
