import os
from pathlib import Path

import pytest
from hypothesis import settings

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
