"""`lhrs predict`: predictions of a finetuned model for images, whole scenes and pairs of dates."""

from pathlib import Path
from typing import Annotated

import typer

from lhrs.cli.console import print_info
from lhrs.progress import progress_bar


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Folder of a model: OUT/model of `lhrs finetune`.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...", help="Images or folders of them; for change BEFORE AFTER, two images or two folders."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Scene classes: .csv or .geojson; with --window-size also .tif. Masks: a .tif, or a folder for "
            "several. Objects: .geojson on the map, .jsonl in pixels, or a folder for DOTA's files.",
        ),
    ],
    window_size: Annotated[
        int | None,
        typer.Option(
            "--window-size",
            min=1,
            help="Scene classification: side in pixels of windows that are classified instead of whole images.",
        ),
    ] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="Objects: minimum score, 0-1.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, ...; a GPU if there is one.")] = None,
) -> None:
    """Write predictions of a model of `lhrs finetune` for images of any size.

    Masks become a GeoTIFF (COG) with the image's georeference, and a GeoJSON of their polygons where the image is
    georeferenced; those that an interrupted run of the same model has written are kept. Objects become polygons with
    class and score; large scenes are read in tiles.
    """
    from lhrs.downstream import load_predictor
    from lhrs.downstream.model_config import read_model_config
    from lhrs.downstream.task import PredictOptions, get_task
    from lhrs.errors import ConfigError

    task = get_task(read_model_config(model).task)
    options = PredictOptions(window_size, min_score)
    for name in options.set_names():
        if name not in task.predict_options:
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is not for {model}, a model of task {task.name!r}.")
    task.check_output(out, options)
    for path in task.write(lambda: load_predictor(model, device), images, out, options, progress_bar, print_info):
        print(path)
