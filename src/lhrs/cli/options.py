"""Options that several commands share, declared once."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

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

_MODEL_OPTIONS: dict[str, Any] = {
    "max_new_tokens": Annotated[int | None, typer.Option(min=1, help="Maximum length of an answer in tokens.")],
    "system": Annotated[str | None, typer.Option(help="System message, instead of that of the model's family.")],
    "dtype": Annotated[str | None, typer.Option(help="float32, float16 or bfloat16; by default that of the file.")],
    "quantize": Annotated[str | None, typer.Option(help="8bit or 4bit matrices of the language model.")],
    "revision": Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")],
    "image_size": Annotated[int | None, typer.Option(min=1, help="Longest side in pixels of an image as read.")],
    "max_pixels": Annotated[int | None, typer.Option(min=1, help="Maximum number of pixels of an image as read.")],
    "family": Annotated[
        str | None, typer.Option(help="Model family, or family file (.yaml); by default that of the model's type.")
    ],
}


def with_model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `lhrs.inference.options.ModelOptions` to a command, which gets them as `model_options`."""
    signature = inspect.signature(command)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "model_options"]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    added = [inspect.Parameter(name, kind, default=None, annotation=each) for name, each in _MODEL_OPTIONS.items()]

    @wraps(command)
    def run(**values: Any) -> None:
        from lhrs.inference.options import ModelOptions

        given = {name: values.pop(name) for name in _MODEL_OPTIONS}
        command(**values, model_options=ModelOptions(**given))

    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return run
