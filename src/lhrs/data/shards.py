"""Samples as tar files in webdataset's layout: files of one sample share their name up to the first dot."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from lhrs.errors import ConfigError, DataError
from lhrs.files import write_file, written_whole
from lhrs.imagery.open import open_image
from lhrs.schema import Sample

_PLAIN = {".png", ".jpg", ".jpeg", ".webp"}


def write_shards(
    dataset: Sequence[Sample], out: Path, per_shard: int = 1000, done: Callable[[], None] = lambda: None
) -> list[Path]:
    """Write samples and return the files; those of the same samples that are there already are not written again.

    PNG, JPEG and WebP go in as they are, other images as the PNG of what a person would see. The same samples give the
    same bytes.

    Args:
        dataset: samples with at most one image each; of more, only the first goes in.
        out: folder.
        per_shard: samples per file.
        done: called after each sample.

    Raises:
        DataError: an image cannot be read.
        ConfigError: the folder holds other things, or shards of samples that have changed since.
    """
    key = hashlib.sha256(f"{per_shard}\n".encode())
    for sample in dataset:
        key.update(f"{sample.model_dump_json()}\n{_stamps(sample.images[:1])}\n".encode())
    mark = out / ".key"
    if mark.exists() and mark.read_text() != key.hexdigest():
        raise ConfigError(
            f"{out} holds the shards of other data, or of these before they changed; name another folder, or remove it."
        )
    total = -(-len(dataset) // per_shard)
    files = [out / f"shard-{n:06d}.tar" for n in range(total)]
    if out.exists() and any(p not in files and not p.name.startswith(".") for p in out.iterdir()):
        raise ConfigError(f"{out} holds other things; name another folder.")
    out.mkdir(parents=True, exist_ok=True)
    write_file(mark, key.hexdigest())
    for n, file in enumerate(files):
        part = range(n * per_shard, min((n + 1) * per_shard, len(dataset)))
        if not file.exists():
            with written_whole(file) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
                for index in part:
                    for suffix, content in _files(dataset[index]):
                        info = tarfile.TarInfo(f"{index:09d}{suffix}")  # no times, no owners: the same bytes always
                        info.size = len(content)
                        archive.addfile(info, io.BytesIO(content))
        for _ in part:
            done()
    return files


def _stamps(images: Sequence[str]) -> list[tuple[int, int]]:
    """Return what changes when a file does; one that is missing is told when it is read."""
    about = [os.stat(image) for image in images if os.path.exists(image)]
    return [(status.st_size, status.st_mtime_ns) for status in about]


def _files(sample: Sample) -> list[tuple[str, bytes]]:
    found = []
    if sample.images:
        found.append(_image(Path(sample.images[0])))
    said = [turn.text for turn in sample.turns if turn.role == "assistant"] or sample.labels
    if said:
        found.append((".txt", said[-1].encode()))
    about = sample.model_dump(mode="json", exclude_defaults=True, exclude={"images"})
    return [*found, (".json", json.dumps(about, ensure_ascii=False).encode())]


def _image(path: Path) -> tuple[str, bytes]:
    suffix = path.suffix.lower()
    if suffix in _PLAIN:
        try:
            return suffix, path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from error
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(open_image(path, None).pixels).save(buffer, format="PNG")
    return ".png", buffer.getvalue()
