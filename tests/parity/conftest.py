import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of outputs recorded from the original systems, which is not part of the repository."""
    folder = Path(os.environ.get("LHRS_GOLDEN", Path(__file__).parents[3] / "shared" / "golden"))
    if not folder.is_dir():
        pytest.skip(f"needs the recorded outputs of the original systems: {folder} is absent (set LHRS_GOLDEN)")
    return folder
