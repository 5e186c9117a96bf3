"""Every strange raster, whole and broken: an answer or one clear line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.scene.test_scene import sees  # noqa: F401

from lhrs.errors import LHRSError
from lhrs.imagery.open import IMAGE_SUFFIXES
from lhrs.scene.run import SceneJob, run
from lhrs.scene.work import Asking

FIXTURES = Path(__file__).parents[3] / "shared/data/geotiff_fixtures"
FILES = sorted(p for p in FIXTURES.rglob("*") if p.is_file() and p.suffix.lower() in IMAGE_SUFFIXES | {".json"})
pytestmark = pytest.mark.skipif(not FILES, reason="the shared fixtures are not here")


def scene(path, out):
    """Return the answer or the line."""
    try:
        manifest = run(SceneJob((str(path),), out, Asking("classify", labels=("a", "b")), 4096))
        return manifest["scenes"][0]["answer"]
    except LHRSError as error:
        return str(error)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def test_every_fixture(sees, tmp_path):  # noqa: F811
    told = {path: scene(path, tmp_path / "out") for path in FILES}
    assert all(told.values())
    answered = [path for path, said in told.items() if "km2" in said]
    assert len(answered) > len(FILES) // 3
    for path in set(FILES) - set(answered):
        assert path.name in told[path] or "nothing" in told[path], told[path]


def test_broken_files(sees, tmp_path):  # noqa: F811
    rng = np.random.default_rng(0)
    small = [path for path in FILES if path.stat().st_size < 200_000]
    for n in range(60):
        path = small[rng.integers(len(small))]
        content = bytearray(path.read_bytes())
        if n % 3 == 0:
            content = content[: rng.integers(1, len(content))]
        for at in rng.integers(0, min(len(content), [64, 512, len(content)][n % 3]), 8):
            content[at] = rng.integers(256)
        broken = tmp_path / f"{n}{path.suffix}"
        broken.write_bytes(content)
        assert scene(broken, tmp_path / "out")
