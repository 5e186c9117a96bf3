"""Every strange raster, whole and broken: an answer or one clear line."""

import shutil

import numpy as np
import pytest

from lhrs.errors import LHRSError
from lhrs.imagery.image import IMAGE_SUFFIXES
from lhrs.scene.run import SceneConfig, run
from lhrs.scene.window_inference import SceneQuery


@pytest.fixture(scope="module")
def rasters(shared_data):
    suffixes = IMAGE_SUFFIXES | {".json"}
    files = [p for p in (shared_data / "geotiff_fixtures").rglob("*") if p.is_file() and p.suffix.lower() in suffixes]
    assert files
    return sorted(files)


def classify(path, out):
    """Return the answer and None, or None and the error's line."""
    try:
        manifest = run(
            SceneConfig(scenes=(str(path),), out=out, query=SceneQuery("classify", labels=("a", "b")), size=4096)
        )
        assert (out / "manifest.json").exists()
        return manifest["scenes"][0]["answer"], None
    except LHRSError as error:
        assert not (out / "manifest.json").exists()
        return None, str(error)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def check(path, answer, line):
    if line is None:
        assert "km2" in answer or answer.startswith("nothing: "), answer
    else:
        assert "\n" not in line and path.name in line, line


def test_every_fixture(sees, rasters, tmp_path):
    results = {path: classify(path, tmp_path / "out") for path in rasters}
    for path, (answer, line) in results.items():
        check(path, answer, line)
    assert sum("km2" in (answer or "") for answer, _ in results.values()) > len(rasters) // 3


def test_broken_files(sees, rasters, tmp_path):
    rng = np.random.default_rng(0)
    small = [path for path in rasters if path.stat().st_size < 200_000]
    num_answers = num_errors = 0
    for n in range(60):
        path = small[rng.integers(len(small))]
        content = bytearray(path.read_bytes())
        if n % 3 == 0:
            content = content[: rng.integers(1, len(content))]
        for at in rng.integers(0, min(len(content), [64, 512, len(content)][n % 3]), 8):
            content[at] = rng.integers(256)
        broken = tmp_path / f"{n}{path.suffix}"
        broken.write_bytes(content)
        answer, line = classify(broken, tmp_path / "out")
        check(broken, answer, line)
        num_answers += line is None
        num_errors += line is not None
    assert num_answers > 5 and num_errors > 20, (num_answers, num_errors)
