import json
import os
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from tests.embedded import EMBEDDED_FOLDER, EXAMPLES


def run(*arguments: object, stdin: str | None = None, code: int = 0, **env: str) -> subprocess.CompletedProcess:
    """Run the command line in its own process and check that it ends with `code` and without a traceback."""
    command = [sys.executable, "-m", "lhrs", *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, env={**os.environ, **env})
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def records(done: subprocess.CompletedProcess) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def flags(nano) -> list[str]:
    """What selects the model under test; nothing where it is the default."""
    return [] if nano == EMBEDDED_FOLDER else ["--model", str(nano)]


@pytest.fixture
def lhrs(flags):
    return lambda *arguments, **settings: run(*arguments, *flags, **settings)


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


@pytest.fixture
def tile(tmp_path):
    """A GeoTIFF of 100 x 50 pixels of 10 m in UTM zone 33 north, its corner at 15 degrees east."""
    path = tmp_path / "tile.tif"
    profile = dict(driver="GTiff", width=100, height=50, count=3, dtype="uint8", crs="EPSG:32633")
    with rasterio.open(path, "w", transform=from_origin(500000, 5_400_000, 10, 10), **profile) as out:
        out.write(np.full((3, 50, 100), 90, np.uint8))
    return path
