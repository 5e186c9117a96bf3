"""From a question typed to `lhrs chat` to its whole answer: `python benchmarks/chat.py [--model FOLDER] [-n 3]`."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from report import report

IMAGE = Path(__file__).parents[1] / "examples/river.tif"
QUESTIONS = [
    "What is the land cover in this image?",
    "Is there a river in this image?",
    "Is this a forest?",
    "How many buildings are there?",
    "What is in the top left of the image?",
    "What is the name of the mayor?",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lhrs-nano")
    parser.add_argument("-n", type=int, default=3, help="conversations")
    options = parser.parse_args()
    timings_s: dict[str, list[float]] = {"first answer, from process start": [], "later answers": []}
    for _ in range(options.n):
        for number, seconds in enumerate(converse(options.model)):
            timings_s["later answers" if number else "first answer, from process start"].append(seconds)
    report("chat", timings_s, {"first answer, from process start": 2.0, "later answers": 0.15})


def converse(model: str) -> list[float]:
    """Return the seconds until each answer of a conversation."""
    command = [sys.executable, "-m", "lhrs", "chat", str(IMAGE), "--model", model]
    seconds = []
    start = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        for question in QUESTIONS:
            process.stdin.write(question + "\n")
            process.stdin.flush()
            if not process.stdout.readline():
                raise SystemExit("lhrs chat ended early; run it by hand to see why.")
            now = time.perf_counter()
            seconds.append(now - start)
            start = now
        process.stdin.write("/quit\n")
    return seconds


if __name__ == "__main__":
    main()
