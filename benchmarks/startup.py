"""From process start to the last character printed: `python benchmarks/startup.py [--model FOLDER] [-n 7]`."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from report import report

IMAGE = Path(__file__).parents[1] / "examples/river.tif"
TARGETS_S = {"lhrs --help": 0.5, "lhrs ask": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lhrs-nano")
    parser.add_argument("-n", type=int, default=7)
    options = parser.parse_args()
    lhrs = [sys.executable, "-m", "lhrs"]
    question = [str(IMAGE), "What is the land cover in this image?", "--model", options.model]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import lhrs": [sys.executable, "-c", "import lhrs"],
        "lhrs --help": [*lhrs, "--help"],
        "lhrs ask": [*lhrs, "ask", *question],
        "lhrs caption": [*lhrs, "caption", str(IMAGE), "--model", options.model],
    }
    timings_s: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.n):  # in turns, so that a busy moment does not fall on one command alone
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            timings_s[name].append(time.perf_counter() - start)
    report("startup", timings_s, TARGETS_S)


if __name__ == "__main__":
    main()
