"""`lhrs scene`: query every window of a scene."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lhrs.cli.console import print_info
from lhrs.cli.options import with_model_options
from lhrs.progress import progress_bar

if TYPE_CHECKING:
    from lhrs.inference.options import ModelOptions


def _print_sensors(value: bool) -> None:
    if value:
        from lhrs.imagery.sensors import sensors

        for sensor in sensors().values():
            typer.echo(f"{sensor.name:18} {', '.join(sensor.composites)}: {sensor.about}")
        raise typer.Exit


@with_model_options
def scene(
    scenes: list[str] = typer.Argument(
        metavar="SCENE...",
        help="GeoTIFFs, folders of them, STAC items, URLs. For `change` the scene before, then after.",
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the results; a stopped command resumes there."),
    task: str = typer.Option(..., help="classify, caption, ground, count, vqa or change."),
    labels: str | None = typer.Option(None, help="Allowed classes or answers: a,b,c.", show_default=False),
    question: str | None = typer.Option(None, help="Question of vqa or change.", show_default=False),
    target: str | None = typer.Option(None, help="Objects to ground or count.", show_default=False),
    model: str | None = typer.Option(
        None, "--model", "-m", help="Folder, hub id or URL of a server.", show_default=False
    ),
    device: str | None = typer.Option(None, help="cpu, cuda, ...", show_default=False),
    window_size: int | None = typer.Option(
        None, min=16, help="Side of a window in pixels of the rendering; default: of the model.", show_default=False
    ),
    gsd: float | None = typer.Option(
        None, min=0.01, help="Meters per pixel of the rendering; default: of the scene.", show_default=False
    ),
    overlap: float | None = typer.Option(
        None,
        min=0,
        max=0.9,
        help="Overlap of windows as a fraction; ground 0.25, else 0.",
        show_default=False,
    ),
    sensor: str | None = typer.Option(None, help="See --list-sensors; detected by default.", show_default=False),
    composite: list[str] = typer.Option([], help="Band composite, such as swir; several are several images."),
    min_valid: float = typer.Option(0.2, min=0, max=1, help="Minimum fraction of valid pixels in a window."),
    workers: int = typer.Option(1, min=1, help="Processes, each with the model."),
    engine: str = typer.Option("local", help="local or ray (a cluster named by RAY_ADDRESS, or this machine)."),
    list_sensors: bool = typer.Option(
        False, callback=_print_sensors, is_eager=True, help="List the known sensors and their composites."
    ),
    *,
    model_options: "ModelOptions",
) -> None:
    """Ask about every window of a scene and write the answers as GIS layers."""
    from lhrs.errors import ConfigError
    from lhrs.imagery.locations import gdal_name
    from lhrs.scene.run import SceneConfig, run
    from lhrs.scene.window_inference import KINDS, SceneQuery

    if task not in KINDS:
        raise ConfigError(f"--task is one of {', '.join(KINDS)}, not {task!r}.")
    if engine not in ("local", "ray"):
        raise ConfigError(f"--engine is local or ray, not {engine!r}.")
    if gsd is not None and not math.isfinite(gsd):
        raise ConfigError(f"--gsd {gsd} is no number of meters.")
    if question is not None and task not in ("vqa", "change"):
        raise ConfigError(f"--question belongs to vqa and change, not to {task}.")
    if target is not None and task not in ("ground", "count"):
        raise ConfigError(f"--target belongs to ground and count, not to {task}.")
    listed = None if labels is None else tuple(part.strip() for part in labels.split(","))
    if listed is not None and not all(listed):
        raise ConfigError(f"--labels {labels!r} has an empty entry.")
    paths = tuple(gdal_name(s) or os.path.abspath(s) for s in scenes)
    query = SceneQuery(task, listed, question or target or "", model, device, model_options)
    config = SceneConfig(
        scenes=paths, out=Path(os.path.abspath(out)), query=query, size=window_size, gsd_m=gsd, overlap=overlap,
        sensor=sensor, composites=tuple(composite), min_valid=min_valid,
    )  # fmt: skip
    manifest = run(config, engine="ray" if engine == "ray" else "local", num_workers=workers, progress=progress_bar)
    for summary in manifest["scenes"]:
        typer.echo(f"{summary['item']}: {summary['answer']}" if len(manifest["scenes"]) > 1 else summary["answer"])
    answered, windows = (sum(summary[key] for summary in manifest["scenes"]) for key in ("answered", "windows"))
    num_ood = sum(summary["out_of_distribution"] for summary in manifest["scenes"])
    composite_used = manifest["scenes"][0]["composite"]
    print_info(f"{out}: {answered:,} of {windows:,} windows answered; {composite_used}; {manifest['model']}")
    for warning in manifest.get("warnings", ()):
        print_info(f"warning: {warning}")
    if manifest["dropped"]:
        print_info("left out " + ", ".join(f"{count:,} {reason}" for reason, count in manifest["dropped"].items()))
    if num_ood:
        print_info(f"{num_ood:,} windows are unlike the model's training images: do not rely on their answers.")
