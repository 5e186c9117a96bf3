"""What `lhrs` says about itself, and how little it loads to say it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tests.cli.conftest import run
from typer.testing import CliRunner

import lhrs.cli

FOLDER = Path(lhrs.cli.__file__).parent


def listed() -> list[str]:
    """Return the commands that the overview names."""
    lines = run("--help").stdout.partition("Commands:")[2].splitlines()
    return [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]


def test_the_overview_names_every_command():
    assert listed() == list(lhrs.cli._COMMANDS)
    summaries = [summary for _, summary in lhrs.cli._COMMANDS.values()]
    assert all(summary.endswith(".") for summary in summaries) and len(set(summaries)) == len(summaries)


def test_every_file_is_a_command():
    shared = {"__init__", "terminal", "console", "options"}
    assert {path.stem for path in FOLDER.glob("*.py")} - shared == {file for file, _ in lhrs.cli._COMMANDS.values()}


def subcommands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (words, command) of a command and all below it."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from subcommands(command, (*path, name))


@pytest.mark.parametrize("name", lhrs.cli._COMMANDS)
def test_every_command_explains_itself(name, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lhrs", name])  # the overview alone gets by without the command's file
    root = typer.main.get_command(lhrs.cli.app)
    command = root.get_command(typer.Context(root), name)
    for words, each in subcommands(command, (name,)):
        assert (each.help or "").strip(), words
        for parameter in each.params:
            described = parameter.param_type_name == "argument" or parameter.help
            assert described, f"{' '.join(words)}: {parameter.name} has no help"
        shown = CliRunner().invoke(lhrs.cli.app, [*words, "--help"], prog_name="lhrs").output
        assert f"lhrs {' '.join(words)}" in shown


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        f"sys.argv = ['lhrs', *{arguments!r}]\n"
        "from lhrs.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stderr))
    heavy = {"numpy", "onnxruntime", "tokenizers", "rasterio", "PIL", "torch", "rich"}
    assert not heavy & loaded, heavy & loaded
