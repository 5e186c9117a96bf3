"""`lhrs mcp`: the tasks as tools for agents, over standard input and output."""

from pathlib import Path
from typing import Annotated

import typer

from lhrs.cli.options import Device, Model


def mcp(
    folder: Annotated[Path, typer.Argument(help="Images below it may be read; scenes are written below it.")] = Path(
        "."
    ),
    model: Model = None,
    device: Device = None,
) -> None:
    """Offer ask, caption, classify, ground, count and scene to agents (Model Context Protocol)."""
    from lhrs.errors import ConfigError
    from lhrs.inference.load import load
    from lhrs.serving.mcp import make_server

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder.")
    make_server(folder, lambda: load(model, device), model, device).run("stdio")
