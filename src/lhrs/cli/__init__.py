"""The `lhrs` command: one file per command, with lazy imports."""

import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

_COMMANDS = {
    "ask": ("ask", "Ask a question about images."),
    "caption": ("ask", "Describe images in a sentence."),
    "classify": ("ask", "Name the scene class of images."),
    "ground": ("ask", "Find objects and print their boxes."),
    "count": ("ask", "Count objects."),
    "scene": ("scene", "Ask about every window of a whole scene and write the answers as GIS layers."),
    "mcp": ("mcp", "Offer the tasks as tools to agents (Model Context Protocol)."),
    "chat": ("chat", "Chat about an image."),
    "serve": ("serve", "Serve an OpenAI-compatible API and a web page."),
    "align": ("align", "Build captions and facts of images from OpenStreetMap (LHRS-Align, -Recap)."),
    "instruct": ("instruct", "Build instruction data from annotated images (LHRS-Instruct, -Plus)."),
    "curate": ("curate", "Filter a dataset: duplicates, leakage, quality."),
    "data": ("data", "Show, check, plot, export and tile datasets."),
    "eval": ("evaluate", "Evaluate a model on benchmarks, with blind baselines."),
    "score": ("score", "Score a file of predictions."),
    "check-boxes": ("check_boxes", "Find out how a model writes boxes, by drawn squares."),
    "train": ("train", "Train a model by a run file."),
    "pretrain": ("pretrain", "Pretrain a backbone on images without labels (CMID)."),
    "finetune": ("finetune", "Finetune a backbone: classification, segmentation, detection, change."),
    "predict": ("predict", "Predict with a finetuned model on images, scenes and pairs of dates."),
    "probe": ("probe", "Evaluate frozen features: nearest neighbors, linear probes, figures."),
    "convert": ("convert", "Convert published LHRS-Bot, LHRS-Bot-Nova and CMID weights."),
    "export": ("export", "Export a model: merged LoRA, another precision, ONNX."),
}
_EXTRA_OF = {
    **dict.fromkeys(("torch", "torchvision", "transformers", "accelerate", "peft", "timm", "safetensors"), "torch"),
    **dict.fromkeys(("tensorboard", "onnx", "onnxscript"), "train"),
    **dict.fromkeys(("pyarrow", "shapely", "osmium", "geopandas", "pyproj", "pystac", "imagehash"), "data"),
    "ray": "ray",
    **dict.fromkeys(("matplotlib", "sklearn", "umap"), "train"),
    "scipy": "eval",
    "openai": "remote",
    "mcp": "serve",
    **dict.fromkeys(("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpcore"), "serve"),
}


class _Lazy(TyperGroup):
    """Imports a command's file when it is called, so that `--help` stays fast."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # typer carries its own copy of click: its types are private
        if cmd_name not in _COMMANDS:
            return None
        file, summary = _COMMANDS[cmd_name]
        if "--help" in sys.argv[1:2] or len(sys.argv) == 1:  # the overview needs names only
            return TyperCommand(cmd_name, short_help=summary, help=summary)
        module = import_module(f"lhrs.cli.{file}")
        if hasattr(module, "app"):
            return typer.main.get_command(module.app)
        command_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        command_app.command(cmd_name)(getattr(module, cmd_name, None) or getattr(module, file))
        return typer.main.get_command(command_app)


app = typer.Typer(
    cls=_Lazy, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"lhrs {version('lhrs')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Language helps remote sensing: talk to images of the Earth's surface, and train and measure models that do."""


def main() -> None:
    """Run the command line; user errors print one line and exit with code 2."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # the search for plugins takes 20 ms of each start
    from lhrs.cli.console import EXIT_USER_ERROR, print_error
    from lhrs.errors import LHRSError

    try:
        sys.exit(app(prog_name="lhrs", standalone_mode=False))
    except typer.TyperException as error:
        message, where = error.format_message(), getattr(getattr(error, "ctx", None), "command_path", "lhrs")
        if message.startswith("Usage:"):  # a group of commands without one of them
            print(message, file=sys.stderr)
        else:
            print_error(f"{message.rstrip('.')}. See: {where} --help")
    except LHRSError as error:
        print_error(error)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA_OF:
            raise
        print_error(f"this needs {missing}, which is not installed: pip install 'lhrs[{_EXTRA_OF[missing]}]'")
    except OSError as error:
        named = f"{error.filename}: " if error.filename else ""
        print_error(f"{named}{error.strerror or error}.")
    except typer.Abort:
        print_error("aborted.")
    sys.exit(EXIT_USER_ERROR)
