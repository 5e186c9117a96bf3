import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


def lhrs(*arguments: object, stdin: str | None = None, code: int = 0, env: dict | None = None):
    """Run the command line in its own process and check that it ends with `code` and without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "lhrs", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def records(done) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def river():
    return EXAMPLES / "river.tif"


@pytest.fixture
def pictures(tmp_path):
    """Eleven small pictures whose names sort differently as text and as numbers."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(11):
        Image.fromarray(np.full((40, 40, 3), 20 * n, np.uint8)).save(folder / f"tile_{n}.png")
    return folder
