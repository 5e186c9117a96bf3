"""The `lhrs` command: thin files, one a command; heavy imports inside functions."""

import os
import sys
from importlib import import_module
from typing import Any

import click
import typer
from typer.core import TyperGroup

_COMMANDS = {
    "ask": ("ask", "Ask a question about images."),
    "caption": ("ask", "Describe images in a sentence."),
    "classify": ("ask", "Name the class of images."),
    "ground": ("ask", "Find things and give their boxes."),
    "count": ("ask", "Count things."),
    "chat": ("chat", "Talk about an image."),
    "data": ("data", "Look at conversation data, and find what is wrong with it."),
    "train": ("train", "Train a model as a run file says."),
}


class _Lazy(TyperGroup):
    """Imports a command's file when it is called, so that `--help` stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        file, summary = _COMMANDS[cmd_name]
        if "--help" in sys.argv[1:2] or len(sys.argv) == 1:  # the overview needs names only
            return click.Command(cmd_name, short_help=summary, help=summary)
        module = import_module(f"lhrs.cli.{file}")
        if hasattr(module, "app"):
            return typer.main.get_command(module.app)
        one = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        one.command(cmd_name)(getattr(module, cmd_name))
        return typer.main.get_command(one)


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
    """Run the command line; mistakes of the user end in one line and exit code 2."""
    from lhrs.cli.terminal import FAILED, complain
    from lhrs.errors import LHRSError

    try:
        app()
    except LHRSError as error:
        complain(error)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        complain("interrupted.")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has seen enough
        _close_stdout()


def _close_stdout() -> Any:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
