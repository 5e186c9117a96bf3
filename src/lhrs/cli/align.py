"""`lhrs align`: images with facts and captions from OpenStreetMap."""

import math
import os
from pathlib import Path

import typer

from lhrs.cli.terminal import note, progress

_MOST_REASONS = 3
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Make images with facts and captions from OpenStreetMap (LHRS-Align, -Recap)."""


@app.command()
def build(
    osm: Path = typer.Option(..., help="Map: .osm.pbf, .osm(.gz, .bz2), GeoJSON, GeoParquet, Overture."),
    out: Path = typer.Option(..., "--out", "-o", help="New folder for the data set."),
    imagery: list[Path] = typer.Option([], help="Georeferenced image, folder of them or of x-y-z tiles, STAC .json."),
    footprints: str = typer.Option("images", help="`grid`: without imagery, side by side over the map."),
    bbox: tuple[float, float, float, float] | None = typer.Option(
        None, help="Of the grid: west south east north, in degrees.", show_default=False
    ),
    size: int = typer.Option(512, min=16, help="Side in pixels of windows cut from scenes, and of the grid's."),
    gsd: float | None = typer.Option(
        None, min=0.01, help="Metres per pixel of windows; the images' own (grid: 1).", show_default=False
    ),
    untagged: str | None = typer.Option(None, help="What features without tags are, such as building."),
    licence: str | None = typer.Option(None, help="Of the imagery, where it does not say."),
    attribution: str | None = typer.Option(None, help="Credit that the imagery asks for, where it does not say."),
    date: str | None = typer.Option(None, help="Day the imagery was taken, YYYY-MM-DD, where it does not say."),
    max_nodata: float = typer.Option(0.5, min=0, max=1, help="Leave out images with more nothing than this share."),
    max_cloud: float = typer.Option(0.5, min=0, max=1, help="Leave out images with more cloud than this share."),
    per_category: int | None = typer.Option(None, min=1, help="At most so many images of each category."),
    seed: int = typer.Option(0, help="Of wording and of the choice per category."),
    workers: int = typer.Option(1, min=1, help="Processes."),
    engine: str = typer.Option("local", help="local or ray (a cluster named by RAY_ADDRESS, or this machine)."),
) -> None:
    """Describe each image by what OpenStreetMap has there."""
    from datetime import date as day

    from lhrs.align.build import Build
    from lhrs.align.build import build as run
    from lhrs.errors import ConfigError

    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine is local or ray, not {engine!r}.")
    if footprints not in ("images", "grid"):
        raise ConfigError(f"--footprints is images or grid, not {footprints!r}.")
    if (footprints == "grid") == bool(imagery):
        raise ConfigError("give --imagery, or --footprints grid to do without.")
    if bbox is not None and not (-180 <= bbox[0] <= 180 >= bbox[2] >= -180 and -90 <= bbox[1] < bbox[3] <= 90):
        raise ConfigError(f"--bbox {' '.join(map(str, bbox))} is not west south east north in degrees.")
    if bbox is not None and (bbox[2] - bbox[0]) % 360 > 180:
        raise ConfigError(f"--bbox {' '.join(map(str, bbox))} spans more than half the Earth: west comes before east.")
    if gsd is not None and not math.isfinite(gsd):
        raise ConfigError(f"--gsd {gsd} is no number of metres.")
    if date is not None:
        try:
            day.fromisoformat(date)
        except ValueError:
            raise ConfigError(f"--date {date!r} is not a day like 2024-05-31.") from None
    absolute = [Path(os.path.abspath(path)) for path in imagery]
    job = Build(
        Path(os.path.abspath(osm)), Path(os.path.abspath(out)), tuple(absolute), bbox, size, gsd, untagged, licence,
        attribution, date, max_nodata, max_cloud, per_category, seed,
    )  # fmt: skip
    from contextlib import ExitStack

    with ExitStack() as stack:
        manifest = run(
            job, "ray" if engine == "ray" else "local", workers,
            lambda total: stack.enter_context(progress("blocks", total)),
        )  # fmt: skip
    left = "".join(f", {count:,} left out for {why}" for why, count in manifest["left out"].items())
    note(
        f"{out}: {manifest['images with captions']:,} of {manifest['footprints']:,} footprints with captions, "
        f"{manifest['facts']:,} facts{left}"
    )
    for reason in manifest.get("unreadable", ())[:_MOST_REASONS]:
        note(f"unreadable: {reason}")


@app.command()
def recaption(
    path: Path = typer.Argument(help="Data set made by `lhrs align build`."),
    model: str = typer.Option(..., "--model", "-m", help="Folder, hub id or URL of a model that sees."),
    out: Path = typer.Option(..., "--out", "-o", help="New folder."),
    prompt: str | None = typer.Option(None, help="May hold {facts} and {caption}.", show_default=False),
    keep: float = typer.Option(0.0, min=0, max=1, help="Share of claims that may lack facts for a text to be kept."),
    flag: float = typer.Option(0.34, min=0, max=1, help="And to be flagged; above it is rejected."),
    device: str | None = typer.Option(None, help="cpu, cuda, ...", show_default=False),
    max_new_tokens: int = typer.Option(256, min=1, help="Of a text."),
    batch_size: int = typer.Option(16, min=1, help="Images at a time."),
) -> None:
    """Describe images anew with a model that is guided by the facts, and check each claim (LHRS-Align-Recap)."""
    _retell("recaption", path, model, out, prompt, keep, flag, device, max_new_tokens, batch_size)


@app.command()
def rewrite(
    path: Path = typer.Argument(help="Data set made by `lhrs align build`."),
    model: str = typer.Option(..., "--model", "-m", help="Folder, hub id or URL of a language model."),
    out: Path = typer.Option(..., "--out", "-o", help="New folder."),
    prompt: str | None = typer.Option(None, help="May hold {facts} and {caption}.", show_default=False),
    device: str | None = typer.Option(None, help="cpu, cuda, ...", show_default=False),
    max_new_tokens: int = typer.Option(256, min=1, help="Of a text."),
    batch_size: int = typer.Option(16, min=1, help="Captions at a time."),
) -> None:
    """Put captions into other words with a language model; where a claim lacks facts, the caption stays."""
    _retell("rewrite", path, model, out, prompt, 0.0, 0.34, device, max_new_tokens, batch_size)


def _retell(
    mode: str, path: Path, model: str, out: Path, prompt: str | None, keep: float, flag: float, device: str | None,
    max_new_tokens: int, batch_size: int,
) -> None:  # fmt: skip
    from contextlib import ExitStack

    from lhrs.align.records import read_index
    from lhrs.align.retell import Retell, retell
    from lhrs.inference.text_generation import load_text_generator

    read_index(path, ["id"])  # before a model is loaded for nothing
    job = Retell(path, out, "recaption" if mode == "recaption" else "rewrite", model, prompt, keep, flag, batch_size)
    with ExitStack() as stack:
        write = load_text_generator(model, device, max_new_tokens)
        manifest = retell(job, write, lambda total: stack.enter_context(progress("batches", total)))
    told = manifest["told"]
    note(f"{out}: {told['kept']:,} kept, {told['flagged']:,} flagged, {told['rejected']:,} rejected")
