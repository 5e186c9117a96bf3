"""`lhrs mcp`: the tasks as tools for agents, over standard input and output."""

from pathlib import Path

import typer


def mcp(
    folder: Path = typer.Argument(Path("."), help="Images below it may be read; scenes are written below it."),
    model: str | None = typer.Option(
        None, "-m", "--model", help="Folder, hub id, URL of a server.", show_default=False
    ),
    device: str | None = typer.Option(None, help="cpu, cuda, ...", show_default=False),
) -> None:
    """Offer ask, caption, classify, ground, count and scene to agents (Model Context Protocol)."""
    from lhrs.errors import ConfigError
    from lhrs.inference.load import load
    from lhrs.serving.mcp import make_server

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder.")
    make_server(folder, lambda: load(model, device), model, device).run("stdio")
