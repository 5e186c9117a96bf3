"""Benchmarks on disk, and the command that scores on them."""

import json
import os
import subprocess
import sys

from tests.evaluation.answers import picture
from tests.training.tiny import SRC


def lhrs_bench(folder, num=60):
    data = []
    for n in range(num // 3):
        picture(folder / "imgs_png" / f"{n}.png")
        choices = "A. a river; B. roads; C. the U.S. base; D. trees."
        pairs = [
            {"question": f"What is number {n}.{k}?", "choices": choices, "answer": f"{'ABCD'[(n + k) % 4]}.",
             "type": [1, 5] if k else 10}
            for k in range(3)
        ]  # fmt: skip
        data.append({"filename": f"{n}.png", "qa_pairs": pairs})
    content = {"data": data, "qtype": {"1 identity": 0, "5 quantity": 0, "10 location": 0}}
    (folder / "qa.json").write_text(json.dumps(content))
    return folder


def start(*words):
    command = [sys.executable, "-m", "lhrs", "eval", *map(str, words)]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SRC)}, text=True, **pipes)
