"""Memory that a process holds for its next step."""

import os
import subprocess
import sys

import pytest

_STEPS = """
import resource, sys
from lhrs.training.malloc import tune_malloc
if sys.argv[1] == "keep":
    tune_malloc()
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(16, 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(min(faults() for _ in range(5)))
"""
"""Other threads of the process only add page faults, so the least of several steps is the step's own."""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_second_step_gets_no_new_pages() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "THP_"))}

    def faults(how: str) -> int:
        return int(subprocess.check_output([sys.executable, "-c", _STEPS, how], env=clean, text=True))

    assert faults("keep") < faults("leave") / 10
