"""Recaptioning: a model writes the captions again, and each claim is verified against the facts (LHRS-Align-Recap).

`recaption` gives the model the image with the facts as guidance, `rewrite` the facts and the caption only. Every
generated text is kept in its own column. A text whose claims are supported becomes the caption. Other texts are flagged
or rejected, and the caption is kept.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from lhrs import fingerprint
from lhrs.align.claim_check import Claim, unsupported_fraction, verify_claims
from lhrs.align.facts import Fact
from lhrs.align.table import INDEX, read_table, rows_to_facts, write_table
from lhrs.align.tags import tag_table
from lhrs.atomic_io import prepare_output_dir, write_atomic
from lhrs.errors import ConfigError, DataError
from lhrs.imagery.image import open_image
from lhrs.jobs import MANIFEST, Job
from lhrs.progress import Progress, no_progress

Mode = Literal["recaption", "rewrite"]
TextGenerator = Callable[[Sequence[tuple[np.ndarray | None, str]]], list[str]]
"""Return texts for prompts, each with or without an image."""

_RECAPTION_PROMPT = (
    "Describe this image of the Earth's surface in two to four sentences. A map says that it shows: {facts}. Use what "
    "of this you can see, with its position. Do not mention what you cannot see, and do not say what is absent."
)
_REWRITE_PROMPT = (
    "Rewrite this description of an aerial image in natural English, in one to three sentences. Keep every number and "
    "position, add nothing.\n\nDescription: {caption}\nFacts: {facts}\n\nRewritten description:"
)
_CLAIM = pa.struct([("text", pa.string()), ("kind", pa.string()), ("verdict", pa.string())])
_COLUMNS = pa.schema(
    [
        ("generated_text", pa.string()),
        ("status", pa.string()),  # accepted, flagged or rejected
        ("unsupported_fraction", pa.float64()),
        ("claims", pa.list_(_CLAIM)),
    ]
)
"""Columns added to the rows."""
_MAX_SIDE = 1024


class RecaptionConfig(BaseModel):
    """Settings of `recaption`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Path
    """Dataset of `lhrs align build`."""
    out: Path
    """New directory."""
    mode: Mode
    model: str
    """Name in the manifest."""
    prompt: str | None = None
    """May contain {facts} and {caption}; None is the prompt of the mode."""
    max_unsupported: float = 0.0
    """Largest fraction of unsupported claims of an accepted text."""
    flag_above: float = 0.34
    """Fraction of unsupported claims above which a text is rejected; up to it, it is flagged."""
    batch_size: int = 16


def recaption(config: RecaptionConfig, generate: TextGenerator, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Write the captions of a dataset again; return the new manifest.

    Args:
        config: the settings.
        generate: the model.
        progress: counts batches.

    Raises:
        DataError: there is no such dataset, or an image is missing.
        ConfigError: the directory contains other files, or images are needed and there are none.
    """
    table = read_table(config.source)
    prepare_output_dir(config.out)
    if config.mode == "recaption" and table["image"].null_count == len(table):
        raise ConfigError(f"{config.source} has no images: it was built on a grid. Use lhrs align rewrite.")
    size = config.batch_size
    batches = [(start, min(start + size, len(table))) for start in range(0, len(table), size)]
    index = config.source / INDEX
    inputs = {str(index): fingerprint.of_file(index, content=True)}
    with Job(config.out, config.model_dump(mode="json", exclude={"out"}), inputs) as job:
        write_batch = partial(_recaption_batch, table=table, config=config, generate=generate)
        parts = job.map_blocks(batches, write_batch, progress=progress, description="batches")
        generated = pa.concat_tables([_COLUMNS.empty_table(), *(pq.read_table(part) for part in parts)])
        write_table(_join_columns(table, generated, config), config.out / INDEX)
        attribution = config.source / "ATTRIBUTION.txt"
        if attribution.exists():
            write_atomic(config.out / attribution.name, attribution.read_bytes())
        manifest = job.write_manifest(_manifest(config, generated))
        job.finish()
    return manifest


def _join_columns(table: pa.Table, generated: pa.Table, config: RecaptionConfig) -> pa.Table:
    """Return the table with the generated columns; accepted texts become captions."""
    accepted = [status == "accepted" for status in generated["status"].to_pylist()]
    original, texts = table["caption"].to_pylist(), generated["generated_text"].to_pylist()
    captions = [text if use else caption for text, use, caption in zip(texts, accepted, original, strict=True)]
    images = [_relocated(image, config) for image in table["image"].to_pylist()]
    table = _set_column(table, "caption", pa.array(captions, pa.string()))
    table = _set_column(table, "image", pa.array(images, pa.string()))
    for name in generated.schema.names:
        table = _set_column(table, name, generated[name])
    if "osm_caption" not in table.column_names:  # recaptioned before: the first caption is kept
        table = table.append_column("osm_caption", pa.array(original, pa.string()))
    return table


def _set_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the table with a column added or replaced."""
    index = table.schema.get_field_index(name)
    return table.append_column(name, values) if index < 0 else table.set_column(index, name, values)


def grade_caption(
    text: str, facts: Sequence[Fact], max_unsupported: float, flag_above: float
) -> tuple[str, float, list[Claim]]:
    """Return `accepted`, `flagged` or `rejected`, the fraction of unsupported claims, and the claims.

    A text without a claim does not describe the image: it is rejected.
    """
    claims = verify_claims(text, facts, exact=False)
    fraction = unsupported_fraction(claims)
    if not claims:
        return "rejected", 1.0, claims
    status = "accepted" if fraction <= max_unsupported else "flagged" if fraction <= flag_above else "rejected"
    return status, fraction, claims


def facts_to_prompt(facts: Sequence[Fact]) -> str:
    """Return visible facts as guidance for a model."""
    phrases = []
    for fact in facts:
        if not fact.visible:
            continue
        kind = tag_table().kinds[fact.kind]
        is_plural = fact.num_visible > 1 and kind.plural is not None and not fact.length_m
        text = f"{fact.num_visible} {kind.plural}" if is_plural else fact.kind
        if fact.area_fraction >= 0.02:
            text += f" ({fact.area_fraction:.0%} of the image)"
        phrases.append(f"{text}, {fact.position}" if fact.position else text)
    return "; ".join(phrases)


def _recaption_batch(
    batch: tuple[int, int], table: pa.Table, config: RecaptionConfig, generate: TextGenerator
) -> pa.Table:
    rows = table.slice(batch[0], batch[1] - batch[0]).to_pylist()
    facts = [rows_to_facts(row["facts"]) for row in rows]
    template = config.prompt or (_RECAPTION_PROMPT if config.mode == "recaption" else _REWRITE_PROMPT)
    prompts = [
        (
            _read_pixels(row, config),
            template.replace("{facts}", facts_to_prompt(visible)).replace("{caption}", row["caption"]),
        )
        for row, visible in zip(rows, facts, strict=True)
    ]
    texts = generate(prompts)
    if len(texts) != len(prompts):
        raise DataError(f"{config.model} answered {len(texts)} of {len(prompts)} prompts.")
    results = []
    for text, visible in zip(texts, facts, strict=True):
        status, fraction, claims = grade_caption(text, visible, config.max_unsupported, config.flag_above)
        results.append(
            {
                "generated_text": text,
                "status": status,
                "unsupported_fraction": fraction,
                "claims": [asdict(claim) for claim in claims],
            }
        )
    return pa.Table.from_pylist(results, _COLUMNS)


def _read_pixels(row: dict[str, Any], config: RecaptionConfig) -> np.ndarray | None:
    if config.mode == "rewrite" or row["image"] is None:
        return None
    return open_image(config.source / row["image"], _MAX_SIDE).pixels


def _relocated(image: str | None, config: RecaptionConfig) -> str | None:
    """Return the path of an image from the new directory."""
    if image is None or os.path.isabs(image):
        return image
    return os.path.relpath(config.source.absolute() / image, config.out.absolute())


def _manifest(config: RecaptionConfig, generated: pa.Table) -> dict[str, Any]:
    path = config.source / MANIFEST
    before = json.loads(path.read_bytes()) if path.exists() else {}
    statuses = Counter(generated["status"].to_pylist())
    fractions = generated["unsupported_fraction"].to_pylist()
    return {
        **before,
        "generated_text": {
            "mode": config.mode,
            "model": config.model,
            "prompt": config.prompt or "default",
            "max_unsupported": config.max_unsupported,
            "flag_above": config.flag_above,
            **{name: statuses[name] for name in ("accepted", "flagged", "rejected")},
            "unsupported_fraction": round(float(np.mean(fractions)), 4),
        },
    }
