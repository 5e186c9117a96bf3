"""`lhrs curate`: the part of a data set that is worth learning from."""

import os
from pathlib import Path
from typing import Annotated

import typer


def curate(
    path: Annotated[Path, typer.Argument(help="Data: an alignment data set, or anything `lhrs data` reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for what is kept, scores and report.")],
    reader: Annotated[str | None, typer.Option(help="Format of the data, where it cannot be told.")] = None,
    split: Annotated[str | None, typer.Option(help="Only samples of this split.")] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="Test set that must not be given away; may be repeated.")
    ] = None,
    phash: Annotated[
        int,
        typer.Option(min=-1, max=15, help="Bits of 64 up to which images are near-duplicates; -1: equal ones only."),
    ] = 6,
    embedding: Annotated[
        str | None, typer.Option(help="Model whose embeddings tell near-duplicates too: CLIP, SigLIP, DINOv2, timm.")
    ] = None,
    near_duplicates: Annotated[
        float | None, typer.Option(min=0, max=1, help="Cosine of embeddings from which on images are near (0.95).")
    ] = None,
    alignment: Annotated[
        str | None, typer.Option(help="CLIP-class model that scores how well image and text go together.")
    ] = None,
    max_nodata: Annotated[float, typer.Option(min=0, max=1, help="Most of an image that may be nothing.")] = 0.5,
    max_cloud: Annotated[float, typer.Option(min=0, max=1, help="Most that may be cloud, where the data say.")] = 0.5,
    min_sharpness: Annotated[
        float, typer.Option(min=0, help="Least variance of the Laplacian; the report shows how it is spread.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=0, max=1, help="Share of what is left that stays, best scores first.")
    ] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that measure images.")] = 1,
) -> None:
    """Keep the part of a data set that is worth learning from, and report what was left out.

    Left out are images that cannot be opened, empty, cloudy and blurred ones, what a test set shows, duplicates and
    near-duplicates, and with --top-p the lowest scores. OUT has the kept samples, scores.parquet and report.html.
    """
    from contextlib import ExitStack

    from lhrs.cli.terminal import note, progress
    from lhrs.curate.run import Curation
    from lhrs.curate.run import curate as run
    from lhrs.errors import ConfigError

    if not top_p:
        raise ConfigError("--top-p 0 would keep nothing.")
    if near_duplicates is not None and embedding is None:
        raise ConfigError("--near-duplicates is of embeddings: name a model with --embedding.")
    job = Curation(
        Path(os.path.abspath(path)), Path(os.path.abspath(out)), reader, split,
        tuple(Path(os.path.abspath(other)) for other in against or []), phash, embedding,
        0.95 if near_duplicates is None else near_duplicates, alignment,
        max_nodata, max_cloud, min_sharpness, top_p,
    )  # fmt: skip
    with ExitStack() as stack:
        curated = run(job, workers, lambda what, total: stack.enter_context(progress(what, total)))
    left = "".join(f", {count:,} left out for {reason}" for reason, count in curated["left out"].items())
    note(f"{out}: {curated['kept']:,} of {curated['samples']:,} samples kept{left}")
