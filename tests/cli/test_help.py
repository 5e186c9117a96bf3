"""What `lhrs` says about itself, and how little it loads to say it."""

import json
import subprocess
import sys

import pytest
from tests.cli.conftest import run

COMMANDS = ["ask", "caption", "classify", "ground", "count", "chat", "data"]


def test_the_overview_names_every_command():
    shown = run("--help").stdout
    assert all(f"  {name} " in shown for name in [*COMMANDS, "train"])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    assert f"lhrs {command}" in run(command, "--help").stdout


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
