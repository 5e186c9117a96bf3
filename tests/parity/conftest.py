import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cmid() -> Path:
    """The folder of a Swin recorded in CMID's own layout, which is too large for the repository."""
    shared = Path(__file__).parents[3] / "shared/golden"
    folder = Path(os.environ.get("LHRS_GOLDEN", shared)) / "cmid"
    if not (folder / "cmid_swin_tiny_full.pth").exists():
        pytest.skip(f"needs the recorded checkpoints of CMID: {folder} lacks them (set LHRS_GOLDEN)")
    return folder
