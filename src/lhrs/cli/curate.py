"""`lhrs curate`: keeps the part of a dataset that is worth training on."""

import os
from pathlib import Path
from typing import Annotated

import typer


def curate(
    path: Annotated[Path, typer.Argument(help="Dataset: of `lhrs align build`, or any that `lhrs data` reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New directory for the dataset, scores and report.")],
    format: Annotated[
        str | None, typer.Option(help="Format of the data; by default the only one that matches.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only samples of this split.")] = None,
    test_set: Annotated[
        list[Path] | None, typer.Option(help="Dataset whose images must not be in the result; may be repeated.")
    ] = None,
    phash_bits: Annotated[
        int,
        typer.Option(min=-1, max=15, help="Bits of 64 by which perceptual hashes of near-duplicates differ; -1: none."),
    ] = 6,
    embedding: Annotated[
        str | None, typer.Option(help="Model whose embeddings find near-duplicates: CLIP, SigLIP, DINOv2, timm.")
    ] = None,
    embedding_threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="Smallest cosine of embeddings of near-duplicates (0.95).")
    ] = None,
    clip_model: Annotated[
        str | None, typer.Option(help="CLIP-class model that scores the agreement of image and text.")
    ] = None,
    max_nodata: Annotated[float, typer.Option(min=0, max=1, help="Largest fraction of an image without data.")] = 0.5,
    max_cloud: Annotated[float, typer.Option(min=0, max=1, help="Largest fraction under clouds, where known.")] = 0.5,
    min_sharpness: Annotated[
        float, typer.Option(min=0, help="Smallest variance of the Laplacian; the report has its histogram.")
    ] = 0.0,
    keep_fraction: Annotated[
        float,
        typer.Option(min=0, max=1, help="Fraction of the samples that pass the filters to keep, best scores first."),
    ] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that measure images.")] = 1,
) -> None:
    """Keep the part of a dataset that is worth training on, and report what was dropped.

    Dropped are images that cannot be opened, empty, cloudy and blurred ones, images of a test set, duplicates and
    near-duplicates, and with --keep-fraction the lowest scores. OUT has the samples, scores.parquet and report.html.
    """
    from lhrs.cli.console import print_info
    from lhrs.curate.pipeline import CurationConfig
    from lhrs.curate.pipeline import curate as run_curation
    from lhrs.dropped import Dropped
    from lhrs.errors import ConfigError
    from lhrs.progress import progress_bar

    if not keep_fraction:
        raise ConfigError("--keep-fraction 0 would keep nothing.")
    if embedding_threshold is not None and embedding is None:
        raise ConfigError("--embedding-threshold is of embeddings: name a model with --embedding.")
    config = CurationConfig(
        data=Path(os.path.abspath(path)),
        out=Path(os.path.abspath(out)),
        format=format,
        split=split,
        test_sets=tuple(Path(os.path.abspath(other)) for other in test_set or []),
        phash_bits=phash_bits,
        embedding=embedding,
        embedding_threshold=0.95 if embedding_threshold is None else embedding_threshold,
        clip_model=clip_model,
        max_nodata=max_nodata,
        max_cloud=max_cloud,
        min_sharpness=min_sharpness,
        keep_fraction=keep_fraction,
    )
    dropped = Dropped()
    curated = run_curation(config, num_workers=workers, progress=progress_bar, dropped=dropped)
    print_info(f"{out}: {curated['num_accepted']:,} of {curated['num_samples']:,} samples kept")
    if len(dropped):
        print_info(dropped.summary())
