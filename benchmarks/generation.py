"""Batches and shared images: `python benchmarks/generation.py [-n 3]`. Medians; ratios within one run.

Answers are of fixed length: nothing ends them early.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lhrs.inference.runtime import Request, Runtime
from models import runtimes

TOKENS = 64
WORDS = "is there a river or a forest near the town and what else can be seen in this image ?".split()  # noqa: SIM905


def questions(count: int, images: list[np.ndarray], tokens: int) -> list[Request]:
    """Questions of 4 to 19 words."""
    ask = lambda n: " ".join(WORDS[: 4 + n % 16])  # noqa: E731
    return [Request((images[n % len(images)],), ask(n), max_new_tokens=tokens) for n in range(count)]


def seconds(runtime: Runtime, batches: list[list[Request]], forget: bool) -> float:
    start = time.perf_counter()
    for batch in batches:
        if forget:
            runtime._engine._last = None  # every call begins anew
        runtime.generate(batch)
    return time.perf_counter() - start


def compare(name: str, rounds: int, slow: Callable[[], float], fast: Callable[[], float], tokens: int) -> None:
    timings = [(slow(), fast()) for _ in range(rounds)]
    one, many = (float(np.median([t[k] for t in timings])) for k in (0, 1))
    ratio = float(np.median([a / b for a, b in timings]))
    print(f"  {name:52} {tokens / one:8.0f} -> {tokens / many:8.0f} tokens/s   {ratio:5.1f} x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3, help="rounds")
    rounds = parser.parse_args().n
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (128, 128, 3), dtype=np.uint8) for _ in range(16)]
    with tempfile.TemporaryDirectory() as folder:
        for name, runtime in runtimes(Path(folder)).items():
            runtime.end = ()
            print(name)
            seconds(runtime, [questions(4, images, 4)], forget=True)
            for what, asked in (
                ("batch 1 -> 16, sixteen images", questions(16, images, TOKENS)),
                ("batch 1 -> 16, one image", questions(16, images[:1], TOKENS)),
            ):
                shared = len({id(r.images[0]) for r in asked}) == 1
                compare(
                    what,
                    rounds,
                    lambda asked=asked, shared=shared: seconds(runtime, [[r] for r in asked], forget=not shared),
                    lambda asked=asked: seconds(runtime, [asked], forget=True),
                    16 * TOKENS,
                )
            for length in (2, 16):
                ten = questions(10, images[:1], length)
                compare(
                    f"ten calls -> ten questions at once, {length} tokens each",
                    rounds,
                    lambda ten=ten: seconds(runtime, [[r] for r in ten], forget=True),
                    lambda ten=ten: seconds(runtime, [ten], forget=True),
                    10 * length,
                )


if __name__ == "__main__":
    main()
