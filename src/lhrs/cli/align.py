"""`lhrs align`: images with facts and captions from OpenStreetMap."""

import math
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from lhrs.cli.console import print_info
from lhrs.progress import progress_bar

_MAX_REASONS = 3
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

OutOption = Annotated[Path, typer.Option("--out", "-o", help="New directory.")]
PromptOption = Annotated[str | None, typer.Option(help="May contain {facts} and {caption}.", show_default=False)]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, ...", show_default=False)]
MaxTokensOption = Annotated[int, typer.Option(min=1, help="Maximum length of a text in tokens.")]
DatasetArgument = Annotated[Path, typer.Argument(help="Dataset of `lhrs align build`.")]


@app.callback()
def _root() -> None:
    """Make images with facts and captions from OpenStreetMap (LHRS-Align, -Recap)."""


@app.command()
def build(
    osm: Annotated[
        Path,
        typer.Option(
            help="Map: .osm.pbf, .osm(.gz, .bz2), Overpass JSON, GeoJSON, GeoPackage, Shapefile, GeoParquet, Overture."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="New directory for the dataset.")],
    imagery: Annotated[
        list[Path] | None, typer.Option(help="Georeferenced image, directory of them or of x-y-z tiles, STAC .json.")
    ] = None,
    layout: Annotated[
        Literal["images", "grid"], typer.Option(help="`grid`: without imagery, a grid over the map.")
    ] = "images",
    bbox: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(help="Bounds of the grid: west south east north, in degrees.", show_default=False),
    ] = None,
    size: Annotated[
        int, typer.Option(min=16, help="Side in pixels of windows cut from scenes, and of the grid.")
    ] = 512,
    gsd: Annotated[
        float | None,
        typer.Option(min=0.01, help="Meters per pixel of windows; default: of the image, 1 for a grid."),
    ] = None,
    default_tag: Annotated[str | None, typer.Option(help="Kind of features without tags, such as building.")] = None,
    image_license: Annotated[
        str | None, typer.Option("--license", help="License of images whose metadata have none.")
    ] = None,
    attribution: Annotated[str | None, typer.Option(help="Attribution of images whose metadata have none.")] = None,
    date: Annotated[
        str | None, typer.Option(help="Day of acquisition, YYYY-MM-DD, of images whose metadata have none.")
    ] = None,
    max_nodata: Annotated[float, typer.Option(min=0, max=1, help="Largest fraction of an image without data.")] = 0.5,
    max_cloud: Annotated[float, typer.Option(min=0, max=1, help="Largest fraction of an image under clouds.")] = 0.5,
    max_per_category: Annotated[int | None, typer.Option(min=1, help="Maximum number of images of a category.")] = None,
    seed: Annotated[int, typer.Option(help="Of the wording and the sample of each category.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: a cluster of RAY_ADDRESS, or this machine.")
    ] = "local",
) -> None:
    """Describe each image by what OpenStreetMap has there."""
    from datetime import date as day

    from lhrs.align.build import CaptionDatasetConfig, build_caption_dataset
    from lhrs.dropped import Dropped
    from lhrs.errors import ConfigError

    if (layout == "grid") == bool(imagery):
        raise ConfigError("give --imagery, or --layout grid to do without.")
    if bbox is not None and not (-180 <= bbox[0] <= 180 >= bbox[2] >= -180 and -90 <= bbox[1] < bbox[3] <= 90):
        raise ConfigError(f"--bbox {' '.join(map(str, bbox))} is not west south east north in degrees.")
    if bbox is not None and (bbox[2] - bbox[0]) % 360 > 180:
        raise ConfigError(f"--bbox {' '.join(map(str, bbox))} spans more than half the Earth: west comes before east.")
    if gsd is not None and not math.isfinite(gsd):
        raise ConfigError(f"--gsd {gsd} is not a number of meters.")
    if date is not None:
        try:
            day.fromisoformat(date)
        except ValueError:
            raise ConfigError(f"--date {date!r} is not a day like 2024-05-31.") from None
    config = CaptionDatasetConfig(
        osm=Path(os.path.abspath(osm)),
        out=Path(os.path.abspath(out)),
        imagery=tuple(Path(os.path.abspath(path)) for path in imagery or ()),
        bbox=bbox,
        size=size,
        gsd_m=gsd,
        default_tag=default_tag,
        license=image_license,
        attribution=attribution,
        date=date,
        max_nodata=max_nodata,
        max_cloud=max_cloud,
        max_per_category=max_per_category,
        seed=seed,
    )
    dropped = Dropped()
    manifest = build_caption_dataset(config, engine=engine, num_workers=workers, progress=progress_bar, dropped=dropped)
    print_info(
        f"{out}: {manifest['num_images']:,} of {manifest['num_footprints']:,} footprints with captions, "
        f"{manifest['num_facts']:,} facts"
    )
    if len(dropped):
        print_info(dropped.summary())
    for reason in manifest.get("unreadable", ())[:_MAX_REASONS]:
        print_info(f"unreadable: {reason}")


@app.command()
def recaption(
    path: DatasetArgument,
    model: Annotated[str, typer.Option("--model", "-m", help="Folder, hub id or URL of a vision-language model.")],
    out: OutOption,
    prompt: PromptOption = None,
    max_unsupported: Annotated[
        float, typer.Option(min=0, max=1, help="Largest fraction of unsupported claims of an accepted text.")
    ] = 0.0,
    flag_above: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of unsupported claims above which a text is rejected.")
    ] = 0.34,
    device: DeviceOption = None,
    max_new_tokens: MaxTokensOption = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
) -> None:
    """Describe images with a model that is guided by the facts, and verify each claim (LHRS-Align-Recap)."""
    _recaption("recaption", path, model, out, prompt, max_unsupported, flag_above, device, max_new_tokens, batch_size)


@app.command()
def rewrite(
    path: DatasetArgument,
    model: Annotated[str, typer.Option("--model", "-m", help="Folder, hub id or URL of a language model.")],
    out: OutOption,
    prompt: PromptOption = None,
    device: DeviceOption = None,
    max_new_tokens: MaxTokensOption = 256,
    batch_size: Annotated[int, typer.Option(min=1, help="Captions per batch.")] = 16,
) -> None:
    """Rewrite captions with a language model; where a claim is unsupported, the caption stays."""
    _recaption("rewrite", path, model, out, prompt, 0.0, 0.34, device, max_new_tokens, batch_size)


def _recaption(
    mode: Literal["recaption", "rewrite"], path: Path, model: str, out: Path, prompt: str | None,
    max_unsupported: float, flag_above: float, device: str | None, max_new_tokens: int, batch_size: int,
) -> None:  # fmt: skip
    from lhrs.align.recaption import RecaptionConfig
    from lhrs.align.recaption import recaption as run_recaption
    from lhrs.align.table import read_table
    from lhrs.inference.text_generation import load_text_generator

    read_table(path, ["id"])  # before a model is loaded for nothing
    config = RecaptionConfig(
        source=path, out=out, mode=mode, model=model, prompt=prompt, max_unsupported=max_unsupported,
        flag_above=flag_above, batch_size=batch_size,
    )  # fmt: skip
    manifest = run_recaption(config, load_text_generator(model, device, max_new_tokens), progress=progress_bar)
    counts = manifest["generated_text"]
    print_info(
        f"{out}: {counts['accepted']:,} accepted, {counts['flagged']:,} flagged, {counts['rejected']:,} rejected"
    )
