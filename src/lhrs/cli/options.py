"""Options that several commands share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None, typer.Option("-m", "--model", help="Folder, hub id or URL of a server; lhrs-nano by default.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 or mps; by default a GPU if there is one.")]
Out = Annotated[Path, typer.Option("-o", "--out", help="Folder to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0: the most likely answer; above: answers are sampled.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of sampled answers.")]
Sensor = Annotated[
    str | None, typer.Option(help="Sensor of the images, see `lhrs scene --list-sensors`; detected by default.")
]
Composite = Annotated[str | None, typer.Option(help="Band composite of the sensor to render, such as swir.")]
GSD = Annotated[float | None, typer.Option("--gsd", min=0.0, help="Meters per pixel of the rendering.")]
