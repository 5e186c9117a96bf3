import os
from pathlib import Path

import pytest
from hypothesis import settings
from tests.embedded import EMBEDDED_FOLDER, random_nano, talking_model

# The same examples every time: what passed passes again.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

# Read where Ray is imported, which tests do before the code that sets it: with it, `uv run pytest` makes Ray copy the
# whole environment (7 GB) for a cluster on this machine, at every run.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real remote-sensing data beside the repository, which is not part of it."""
    folder = Path(os.environ.get("LHRS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs real data: {folder} is absent (set LHRS_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of outputs recorded from the original systems."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def nano(tmp_path_factory) -> Path:
    """The folder of the model under test: LHRS_TEST_MODEL, else the embedded one, else one with random weights."""
    if "LHRS_TEST_MODEL" in os.environ:
        return Path(os.environ["LHRS_TEST_MODEL"])
    if (EMBEDDED_FOLDER / "language.onnx").exists():
        return EMBEDDED_FOLDER
    return random_nano(tmp_path_factory.mktemp("model") / EMBEDDED_FOLDER.name)


@pytest.fixture(scope="session")
def talker(tmp_path_factory) -> Path:
    """The folder of a tiny model whose language model sees the image and writes the answer."""
    return talking_model(tmp_path_factory.mktemp("model") / "talker")


@pytest.fixture
def trained(nano) -> None:
    """Skip what only a trained model gets right."""
    if nano != EMBEDDED_FOLDER:
        pytest.skip("needs the trained weights of the embedded model")
