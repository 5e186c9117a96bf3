"""Captions told anew by a model, each claim held against the facts (LHRS-Align-Recap, and verified rewriting).

`recaption` looks at the image with the facts as guidance; `rewrite` sees the facts and the caption only. Texts are kept
whole. A text whose claims the facts bear out becomes the caption; others are flagged or rejected, the caption stays.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lhrs.align.claims import Claim, check, hallucination
from lhrs.align.facts import Fact
from lhrs.align.records import INDEX, MANIFEST, facts_of, read_index, write_index
from lhrs.align.tags import tag_table
from lhrs.blocks import run_blocks
from lhrs.errors import ConfigError, DataError
from lhrs.files import claim_folder, write_file
from lhrs.imagery.open import open_image

Mode = Literal["recaption", "rewrite"]
Writer = Callable[[Sequence[tuple[np.ndarray | None, str]]], list[str]]
"""Writes texts for prompts, each with an image or without."""

_LOOK = (
    "Describe this image of the Earth's surface in two to four sentences. A map says that it shows: {facts}. Use what "
    "of this you can see, with its position. Do not mention what you cannot see, and do not say what is absent."
)
_REWRITE = (
    "Rewrite this description of an aerial image in natural English, in one to three sentences. Keep every number and "
    "position, add nothing.\n\nDescription: {caption}\nFacts: {facts}\n\nRewritten description:"
)
_COLUMNS = [
    ("told", pa.string()), ("status", pa.string()), ("hallucination", pa.float64()),
    ("claims", pa.list_(pa.struct([("text", pa.string()), ("about", pa.string()), ("verdict", pa.string())]))),
]  # fmt: skip
"""What rows gain: the whole text, `kept`, `flagged` or `rejected`, and what was found."""
_SIDE = 1024


@dataclass(frozen=True)
class Retell:
    """How to tell captions anew."""

    source: Path
    out: Path
    mode: Mode
    model: str
    prompt: str | None = None
    """May hold {facts} and {caption}; None is the mode's own."""
    keep: float = 0.0
    """Share of a text's claims that the facts may not bear out for it to be kept."""
    flag: float = 0.34
    """And to be flagged; above, it is rejected."""
    batch_size: int = 16


def retell(
    job: Retell, write: Writer, progress: Callable[[int], Callable[[], None]] = lambda total: lambda: None
) -> dict[str, Any]:
    """Tell the captions of a data set anew; returns the new manifest.

    Args:
        job: what.
        write: the model.
        progress: given the number of batches, returns what to call after each.

    Raises:
        DataError: there is no such data set, or an image is missing.
        ConfigError: the folder holds something else, or images are needed and there are none.
    """
    table = read_index(job.source)
    work = claim_folder(job.out)
    if job.mode == "recaption" and table["image"].null_count == len(table):
        raise ConfigError(f"{job.source} has no images to look at: it was built on a grid. Use lhrs align rewrite.")
    batches = [(start, min(start + job.batch_size, len(table))) for start in range(0, len(table), job.batch_size)]
    with (job.source / INDEX).open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest() + json.dumps(
            {k: str(v) for k, v in asdict(job).items() if k != "out"}
        )
    tell = partial(_tell, table=table, job=job, write=write)
    parts = run_blocks(batches, tell, work / "parts", key, done=progress(len(batches)))
    told = pa.concat_tables([pq.read_table(part) for part in parts])
    kept = [status == "kept" for status in told["status"].to_pylist()]
    original = table["caption"].to_pylist()
    captions = [new if ok else old for new, ok, old in zip(told["told"].to_pylist(), kept, original, strict=True)]
    images = [_moved(image, job) for image in table["image"].to_pylist()]
    table = _with(table, "caption", pa.array(captions, pa.string()))
    table = _with(table, "image", pa.array(images, pa.string()))
    for name in told.schema.names:
        table = _with(table, name, told[name])
    if "map_caption" not in table.column_names:  # else it was told before, and the map's caption is kept
        table = table.append_column("map_caption", pa.array(original, pa.string()))
    write_index(table, job.out / INDEX)
    manifest = _manifest(job, told)
    write_file(job.out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    if (job.source / "ATTRIBUTION.txt").exists():
        write_file(job.out / "ATTRIBUTION.txt", (job.source / "ATTRIBUTION.txt").read_bytes())
    shutil.rmtree(work)
    return manifest


def _with(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the table with a column that is new, or takes the place of the one of its name."""
    at = table.schema.get_field_index(name)
    return table.append_column(name, values) if at < 0 else table.set_column(at, name, values)


def judge(text: str, facts: Sequence[Fact], keep: float, flag: float) -> tuple[str, float, list[Claim]]:
    """Return `kept`, `flagged` or `rejected`, the share of claims that do not hold, and the claims.

    A text without a claim says nothing about the image: it is rejected.
    """
    claims = check(text, facts, exact=False)
    share = hallucination(claims)
    if not claims:
        return "rejected", 1.0, claims
    return ("kept" if share <= keep else "flagged" if share <= flag else "rejected"), share, claims


def in_words(facts: Sequence[Fact]) -> str:
    """Return visible facts as guidance for a model."""
    said = []
    for fact in facts:
        if not fact.visible:
            continue
        kind = tag_table().kinds[fact.kind]
        many = fact.num_visible > 1 and kind.plural is not None and not fact.length_m
        text = f"{fact.num_visible} {kind.plural}" if many else fact.kind
        if fact.area_share >= 0.02:
            text += f" ({fact.area_share:.0%} of the image)"
        said.append(f"{text}, {fact.position}" if fact.position else text)
    return "; ".join(said)


def _tell(batch: tuple[int, int], table: pa.Table, job: Retell, write: Writer) -> pa.Table:
    rows = table.slice(batch[0], batch[1] - batch[0]).to_pylist()
    facts = [facts_of(row["facts"]) for row in rows]
    template = job.prompt or (_LOOK if job.mode == "recaption" else _REWRITE)
    prompts = [
        (_pixels(row, job), template.replace("{facts}", in_words(known)).replace("{caption}", row["caption"]))
        for row, known in zip(rows, facts, strict=True)
    ]
    texts = write(prompts)
    if len(texts) != len(prompts):
        raise DataError(f"{job.model} answered {len(texts)} of {len(prompts)} prompts.")
    made = []
    for text, known in zip(texts, facts, strict=True):
        status, share, claims = judge(text, known, job.keep, job.flag)
        made.append({"told": text, "status": status, "hallucination": share, "claims": [asdict(c) for c in claims]})
    return pa.Table.from_pylist(made, pa.schema(_COLUMNS))


def _pixels(row: dict[str, Any], job: Retell) -> np.ndarray | None:
    if job.mode == "rewrite" or row["image"] is None:
        return None
    return open_image(job.source / row["image"], _SIDE).pixels


def _moved(image: str | None, job: Retell) -> str | None:
    """Return an image's path from the new folder."""
    if image is None or os.path.isabs(image):
        return image
    return os.path.relpath(job.source.absolute() / image, job.out.absolute())


def _manifest(job: Retell, told: pa.Table) -> dict[str, Any]:
    path = job.source / MANIFEST
    before = json.loads(path.read_bytes()) if path.exists() else {}
    statuses = Counter(told["status"].to_pylist())
    shares = [share for share in told["hallucination"].to_pylist()]
    return {
        **before,
        "told": {
            "mode": job.mode, "model": job.model, "prompt": job.prompt or "the mode's own", "keep": job.keep,
            "flag": job.flag, **{name: statuses[name] for name in ("kept", "flagged", "rejected")},
            "hallucination": round(float(np.mean(shares)), 4),
        },
    }  # fmt: skip
